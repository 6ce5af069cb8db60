"""Why a folder, or one document of it, cannot be used."""

from __future__ import annotations

LEAST_LETTERS = 20  # of a document, and of a page of a PDF on average: less is a scan, or nothing


class DocumentsError(ValueError):
    """A folder of which nothing can be made; the message names it and what to do."""


class Unreadable(ValueError):
    """One document that is left out; the message is the reason that it is counted under."""
