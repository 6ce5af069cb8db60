"""What the cells of others' rows hold: ids, texts and titles; and the names that the cells go by."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

import regex

from synthembed.ground.data_files.opener import ReadError

# --- names -----------------------------------------------------------------------------------------

# Not the two joiners, which are how a word is written in some scripts; at the ends they join nothing.
_JOINERS = "\u200c\u200d"
_UNSEEN = regex.compile(rf"(?V1)[[\p{{DI}}\p{{Cc}}]--[{_JOINERS}]]")
_PARTS = regex.compile(r"[\s_-]")


def plain(text: str) -> str:
    """A name or an id as one sees it: letters composed (NFC), no signs that nobody sees, no blanks at its ends and
    those within plain."""
    if text.isascii() and text.isprintable():
        return text.strip()
    return _UNSEEN.sub("", regex.sub(r"\s", " ", unicodedata.normalize("NFC", text))).strip(" " + _JOINERS)


def letters(name: str) -> str:
    """What all spellings of a name share: "Query_ID", "query-id " and "queryid" are one."""
    return _PARTS.sub("", plain(name)).casefold()


@lru_cache(256)
def _spelt(names: tuple[str, ...], wanted: tuple[str, ...]) -> dict[str, list[str]]:
    """Name that is wanted → those among ``names`` that are it in another spelling, where none is it as it is."""
    exact = {letters(name) for name in names if name in wanted}
    # Of wanted ones that share their letters, the first.
    found = {letters(name): name for name in reversed(wanted)}
    return {
        want: those
        for key, want in found.items()
        if key not in exact and (those := [name for name in names if letters(name) == key])
    }


def spellings(names: Iterable[str], wanted: tuple[str, ...], place: str) -> dict[str, str]:
    """Name that is there → the wanted name that it spells otherwise (in capitals, with blanks, "-" or "_").

    Raises ReadError where two that are there spell one that is wanted.
    """
    spelt = _spelt(tuple(names), wanted)
    for want, those in spelt.items():
        if len(those) > 1:
            raise ReadError(
                f"{place}: {' and '.join(map(ascii, those))} may both be {want!r}: name the right one so"
            )
    return {those[0]: want for want, those in spelt.items()}


def with_names(row, wanted: tuple[str, ...], place: str):
    """A row whose fields go by the ``wanted`` names, however they are spelt."""
    spelt = spellings(row, wanted, place) if wanted and isinstance(row, dict) else {}
    return {spelt.get(name, name): value for name, value in row.items()} if spelt else row


# --- values ----------------------------------------------------------------------------------------

_WHOLE = regex.compile(r"[+-]?\d+\.0+")
_ROUNDED = regex.compile(r"[+-]?\d(?:[.,]\d+)?[eE]\+\d+")
# What other tools write where an id is missing; "NaN", "None" and "Null" are ids of FEVER, pages of Wikipedia.
_NO_IDS = ("", "nan", "none", "null", "NULL", "<NA>")
EXACT = 2**53  # above it a float has lost digits
# Numbers that were kept in 32 and in 16 bits, by Arrow's names; ``exact`` as EXACT.
NARROW = {
    name: type(name, (float,), {"exact": exact}) for name, exact in (("float", 2**24), ("halffloat", 2**11))
}


def identifier(value, place: str) -> str:
    """An id as text, as other tools write it and as one sees it: 7, "7", 7.0 and "7\\u200b" are "7", "007" stays.

    Raises ReadError on what is no id, and on one that a spreadsheet or a float has rounded.
    """
    text = plain(str(value)) if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    if text in _NO_IDS:
        raise ReadError(f"{place}: {value!a} is no id: give each row one, or delete the row")
    if text.startswith('="'):
        raise ReadError(f"{place}: the id {text} is a formula of a spreadsheet: write ids as text")
    whole, exact = bool(_WHOLE.fullmatch(text)), getattr(value, "exact", EXACT)
    if _ROUNDED.fullmatch(text) or ((isinstance(value, float) or whole) and not abs(float(text)) < exact):
        raise ReadError(f"{place}: the id {text} has been rounded: write ids as text")
    return text.partition(".")[0] if whole else text


def field_of(row, name: str, place: str):
    """A field of a row; raises ReadError naming those that are there."""
    if not isinstance(row, dict) or name not in row:
        there = _some(row) if isinstance(row, dict) else type(row).__name__
        raise ReadError(f"{place}: no field {name!r}, there is {there}; is it a file of another form?")
    return row[name]


def _some(names: Iterable[str]) -> str:
    """Names as errors show them: of a file that is one object, id → text, there are millions."""
    shown = [repr(name) for name in islice(names, 31)]
    return ", ".join(shown[:30]) + (", ..." if len(shown) > 30 else "")


def text_of(row, name: str, place: str) -> str:
    """A text of a row, as it is; raises ReadError where it is missing or no text."""
    value = field_of(row, name, place)
    if value is None:
        raise ReadError(f"{place}: field {name!r} is missing (null or NaN): fill it in, or delete the row")
    if not isinstance(value, str):
        raise ReadError(f"{place}: field {name!r} is {type(value).__name__}, not text ({str(value)[:40]})")
    return value


def title_of(row: dict, place: str) -> str:
    """The title of a document, "" where it has none."""
    missing = isinstance(row, dict) and row.get("title") is None
    return "" if missing else text_of(row, "title", place).strip()
