"""Why a folder, or one document of it, cannot be used."""

from __future__ import annotations

MOST_BYTES = 50_000_000  # of one file that is a document, unpacked; a table may be larger, as its rows stream
LEAST_LETTERS = 20  # of a document, and of a page of a PDF on average: less is a scan, or nothing


class DocumentsError(ValueError):
    """A folder of which nothing can be made; the message names it and what to do."""


class Unreadable(ValueError):
    """One document that is left out; the message is the reason that it is counted under."""


def too_large(most: int) -> Unreadable:
    return Unreadable(f"larger than {most // 10**6} MB (divide it)")
