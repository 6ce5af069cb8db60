"""Text of files whose encoding nobody states: UTF-8 and what a byte order mark names for certain, others by a guess.

``ground.data_files.opener`` refuses what is not UTF-8, since tables of training data bear no guess. A reader's own
folder holds texts of twenty years, so there a guess is made, and said.
"""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

from synthembed.ground.data_files.opener import DAMAGE, NOT_TEXT, ReadError

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
SAMPLE = 100_000  # bytes that a guess is made by
DAMAGED = 0.05  # of the signs beyond ASCII: so few may be broken in what is UTF-8 all the same
COMMON = (
    "cp1252",
    "cp1250",
    "cp1251",
    "iso8859_2",
)  # of encodings that fit alike, what old files mostly have


def text_of(path: Path) -> tuple[str, str]:
    """(text, encoding) of a file, gzipped or not; the encoding is "" for UTF-8, the only one that is not told.

    Raises ReadError for a damaged file, for what is no text by its first bytes, and for bytes that are text in no
    encoding.
    """
    raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except DAMAGE as error:
            raise ReadError(f"{path.name} is cut off or damaged (gzip: {error}): get it again") from None
    for magic, said in NOT_TEXT.items():
        if raw.startswith(magic) and not said.startswith("is UTF-"):
            raise ReadError(f"{path.name} {said}")
    mark = next((name for sign, name in MARKS.items() if raw.startswith(sign)), "utf-8")
    try:
        text = raw.decode(mark)
    except UnicodeDecodeError:
        text = ""
    if text or not raw:
        if "\0" in text:
            raise ReadError(f"{path.name} is binary")
        return text, "" if mark.startswith("utf-8") else mark
    text = raw.decode("utf-8", "replace")
    lost, foreign = text.count("\ufffd"), sum(not sign.isascii() for sign in text)
    if mark == "utf-8" and lost < DAMAGED * foreign and "\0" not in text:
        return text, f"damaged UTF-8 ({lost} signs lost)"
    encoding = guessed(raw)
    if not encoding:
        raise ReadError(f"{path.name} is binary")
    return raw.decode(encoding, "replace"), encoding


def guessed(raw: bytes) -> str:
    """The encoding that bytes are probably in, "" if they are text in none: charset-normalizer's answer, but a
    common one where that fits as well as any."""
    import charset_normalizer

    sample = raw[:SAMPLE]
    if len(raw) > SAMPLE and (end := sample.rfind(b"\n")) > 0:
        sample = sample[:end]  # not within a character
    found = charset_normalizer.from_bytes(sample)
    best = found.best()
    if best is None or "\0" in str(best):
        return ""
    clean = [match for match in found if match.chaos <= best.chaos]
    if not best.multi_byte_usage:
        fits = {name for match in clean for name in (match.encoding, *match.could_be_from_charset)}
        return next((name for name in COMMON if name in fits), best.encoding)
    return best.encoding
