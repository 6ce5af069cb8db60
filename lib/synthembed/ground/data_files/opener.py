"""Data files that others wrote, opened in one way: text out of whatever they are, or an error.

A file is read whole or refused. What it is tells its content before its name: gzip with or without
``.gz``, Parquet, a git-lfs pointer. Its name tells the form, in capitals or not. Text is UTF-8, with a byte
order mark or without; any other encoding is refused, as it cannot be told for certain. Every error names
the file, the place and what to do. ``ground.data_files.table_rows`` makes rows of it.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FORMS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
         ".parquet": "parquet", ".txt": "txt"}  # fmt: skip
TABLES = ".jsonl, .ndjson, .json, .csv, .tsv or .parquet, gzipped or not"
BLOCK = 1 << 20  # bytes of a JSON list that are looked at together
# What datasets keeps beside the data.
ABOUT = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json")
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)

GIT_LFS = b"version https://git-lfs.github.com/spec/"  # stands in place of a file that was not fetched
NOT_TEXT = {
    GIT_LFS: "is a git-lfs pointer, not the data: run git lfs pull where it was cloned",
    b"version https://hawser.github.com/spec/": "is a pointer of an early git-lfs, not the data: run git lfs pull there",
    b"/annex/objects/": "is a git-annex pointer, not the data: run git annex get where it was cloned",
    b"\xff\xfe\x00\x00": "is UTF-32 (byte 0: FF FE 00 00)",
    b"\x00\x00\xfe\xff": "is UTF-32 (byte 0: 00 00 FE FF)",
    b"\xff\xfe": "is UTF-16 (byte 0: FF FE)",
    b"\xfe\xff": "is UTF-16 (byte 0: FE FF)",
    b"PK\x03\x04": "is a zip archive (an .xlsx or .ods table is one too): unpack it, or save the table as CSV in UTF-8",
    b"BZh91AY&SY": "is compressed with bzip2: run bunzip2 on it first",
    b"\xfd7zXZ\x00": "is compressed with xz: run unxz on it first",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: run unzstd on it first",
    b"%PDF-": "is a PDF: save its text first",
    b"\xd0\xcf\x11\xe0": "is a document of Microsoft Office: save it as CSV or text in UTF-8",
    b"{\\rtf1": "is RTF: save its text first",
    b"\x1f\x8b": "is gzipped twice: run gunzip on it first",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it first",
    b"\x04\x22\x4d\x18": "is compressed with lz4: run unlz4 on it first",
    b"\xff\xff\xff\xff": "is a stream of Arrow: save it as Parquet first",
    b"SQLite format 3": "is a database of SQLite: export the table as CSV first",
    b"ARROW1\x00\x00": "is an Arrow file: save it as Parquet first",
}  # fmt: skip


class ReadError(ValueError):
    """A file that cannot be read as what it should be; the message names it, the place and the remedy."""


def form_of(path: Path) -> str:
    """ "json", "csv", "tsv", "parquet" or "txt" after the file's name, "" for any other."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return FORMS.get(suffixes[-1], "") if suffixes else ""


def tables_in(folder: Path) -> list[Path]:
    """The files below a folder that ``rows`` reads, in order; hidden ones, and what is said about them, are none."""
    return sorted(
        file
        for file in folder.rglob("*")
        if form_of(file) not in ("", "txt")
        and file.name not in ABOUT
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


# --- bytes → text ----------------------------------------------------------------------------------


@contextmanager
def opened(path: Path, empty: bool = False) -> Iterator[BinaryIO]:
    """A file's bytes, unzipped, after its byte order mark.

    Raises ReadError on a folder, an empty file (unless ``empty``), a pointer, another encoding or compression, and on
    damage that shows while the bytes are read.
    """
    if path.is_dir():
        raise ReadError(f"{path.name} is a folder: name a file in it")
    try:
        with open(path, "rb") as file:
            if file.peek(2)[:2] == b"\x1f\x8b":
                file = io.BufferedReader(gzip.GzipFile(fileobj=file))
            head = file.peek(64)[:64]
            for magic, said in NOT_TEXT.items():
                if head.startswith(magic):
                    raise ReadError(f"{path.name} {said}{_convert(path, said)}")
            if head.startswith(b"\xef\xbb\xbf"):
                file.read(3)
            if not file.peek(1) and not empty:
                raise ReadError(f"{path.name} is empty: get it again")
            yield file
    except DAMAGE as error:
        raise ReadError(f"{path.name} is cut off or damaged (gzip: {error}): get it again") from None


def _convert(path: Path, said: str) -> str:
    found = re.match(r"is (UTF-\d+)", said)
    return f", and UTF-8 is read: iconv -f {found[1]} -t UTF-8 '{path.name}' > new file" if found else ""


def lines_with_ends(path: Path, empty: bool = False) -> Iterator[str]:
    """The lines of a text file with their ends; only "\\n" ends one."""
    with opened(path, empty) as file:
        at = file.tell()  # behind a byte order mark
        for number, raw in enumerate(file, 1):
            yield decoded(raw, path, at, f"line {number}, ")
            at += len(raw)


def decoded(raw: bytes, path: Path, at: int, place: str = "") -> str:
    """Bytes that begin at byte ``at`` as text."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        bad = raw[error.start]
        raise ReadError(
            f"{path.name}, {place}byte {at + error.start:,}: {bad:#04x} is not UTF-8. Is the file in another encoding "
            f"(Excel's Windows-1252, GB18030, Shift_JIS), or damaged? iconv -f WINDOWS-1252 -t UTF-8 '{path.name}' > new file"
        ) from None
    if "\0" in text or "\x1b$" in text:
        sign, of = ("\0", "UTF-16") if "\0" in text else ("\x1b$", "ISO-2022")
        where = at + len(text[: text.index(sign)].encode())
        raise ReadError(
            f"{path.name}, {place}byte {where:,}: {sign.encode()!r} is in no text. Is the file in {of}, or damaged? "
            f"Convert it: iconv -f {of.replace('2022', '2022-JP')} -t UTF-8 '{path.name}' > new file"
        )
    return text


def lines(path: Path, empty: bool = False) -> Iterator[tuple[int, str]]:
    """(number, text) of each line of a text file, without its end ("\\n" or "\\r\\n"); streams.

    No other character ends a line: a form feed, a lone "\\r" or U+2028 belongs to its text.
    """
    for number, line in enumerate(lines_with_ends(path, empty), 1):
        text = line.removesuffix("\n").removesuffix("\r")
        if text.startswith("\ufeff"):
            raise ReadError(
                f"{path.name}, line {number}: a second byte order mark (U+FEFF): were files put together? Delete it"
            )
        if number == 1 and "\r" in text and not line.endswith("\n"):
            raise ReadError(
                f"{path.name}, line 1: lines seem to end in \\r alone, as on old Macs: "
                f"tr '\\r' '\\n' < '{path.name}' > new file"
            )
        yield number, text


def blocks(path: Path) -> Iterator[str]:
    """A text file in pieces, each of about BLOCK bytes."""
    with opened(path) as file:
        at, left = file.tell(), b""
        while block := file.read(BLOCK):
            block = left + block
            cut = len(block)
            while cut and len(block) - cut < 4 and block[cut - 1] & 0xC0 == 0x80:  # within a character
                cut -= 1
            cut -= bool(cut) and block[cut - 1] >= 0xC0
            left = block[cut:]
            yield decoded(block[:cut], path, at)
            at += cut
        yield decoded(left, path, at)
