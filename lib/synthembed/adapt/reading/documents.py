"""A folder of a reader's own texts → documents: plain text, Markdown, HTML, PDF, Word and OpenDocument, and
tables of texts.

Nothing is dropped in silence: whatever is not read is named with its reason in ``Reading.left_out``.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import regex

from synthembed.adapt.reading import text_files
from synthembed.adapt.reading.formats import BINARY_READERS, FORMATS, READERS, SAVE_AS, reader_of
from synthembed.adapt.reading.office_files import office
from synthembed.adapt.reading.reasons import LEAST_LETTERS, MOST_BYTES, DocumentsError, Unreadable, too_large
from synthembed.corpus.texts import letters
from synthembed.ground.console import counted
from synthembed.ground.data_files import cell_values
from synthembed.ground.data_files.opener import ReadError
from synthembed.ground.data_files.table_rows import rows

TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
MOST_CHARACTERS = 2_000_000  # of one document: about a thousand pages
NOT_UTF8 = "a table that is not UTF-8 (save it so)"


@dataclass(frozen=True, slots=True)
class Document:
    """``id`` is the path below the folder, for a row of a table with its number or its own id. ``read_as`` names the
    encoding where it was not UTF-8, ``lacks`` what of it could not be read."""

    id: str
    title: str
    text: str
    read_as: str = ""
    lacks: str = ""


@dataclass
class Reading:
    """What a folder held: its documents, and (name, reason) of everything that is none."""

    documents: list[Document] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def counts(self) -> Counter:
        """How many were left out, by reason."""
        return Counter(reason for _, reason in self.left_out)

    def __str__(self) -> str:
        told = [counted(len(self.documents), "document")]
        notes = [(d.id, f"read as {d.read_as}") for d in self.documents if d.read_as]
        notes += [(d.id, f"read in part, {d.lacks}") for d in self.documents if d.lacks]
        notes += [(name, f"left out, {reason}") for name, reason in self.left_out]
        for note, count in Counter(note for _, note in notes).most_common():
            names = [name for name, why in notes if why == note]
            more = f" and {count - 3:,} more" if count > 3 else ""
            told.append(f"  {note}: {count:,} ({', '.join(names[:3])}{more})")
        return "\n".join(told)


def read(
    folder: Path,
    text_field: str = "text",
    mask: Callable[[str], str] | None = None,
    apart: Path | None = None,
) -> Reading:
    """All documents below ``folder`` (or of one file), in the order of their names.

    A table's rows are documents each: the field ``text_field``, "title" before it where there is one, and "id"
    (or "_id") as the name. ``mask`` is given each text and title before anything else sees them. ``apart`` is a folder
    that is none of the documents', though it may lie among them. Raises DocumentsError if there is no such folder, or
    nothing in it that can be read.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DocumentsError(f"there is no folder {folder}: name the folder that your documents are in")
    found, ids, texts = Reading(), set(), set()
    for path, name in _files(folder, apart, found.left_out):
        for document in _guarded(path, name, text_field, found.left_out):
            try:
                document = _checked(document, mask)
                if document.id in ids:
                    raise Unreadable("a second document of that id")
                digest = hashlib.sha256(" ".join(document.text.split()).encode()).digest()
                if digest in texts:
                    raise Unreadable("the same text as another document")
            except Unreadable as reason:
                found.left_out.append((document.id, str(reason)))
                continue
            ids.add(document.id)
            texts.add(digest)
            found.documents.append(document)
    if not found.documents:
        why = str(found).partition("\n")[2] or "  there is nothing in it"
        raise DocumentsError(
            f"no document in {folder} can be read:\n{why}\nRead are {', '.join(FORMATS)} and the tables "
            f"{', '.join(TABLES)}; a table's text is to be in its field {text_field!r} (--field)"
        )
    return found


def _files(folder: Path, apart: Path | None, left_out: list) -> list[tuple[Path, str]]:
    """(path, name) of the files below a folder, in order. Links to files are followed, links to folders are not, as
    they may lead round in a circle; a hidden folder is left out as one."""
    if folder.is_file():
        return [(folder, _printable(folder.name))]
    found = []

    def note(error: OSError) -> None:
        place = Path(error.filename or folder)
        name = place.relative_to(folder) if place.is_relative_to(folder) else place
        left_out.append((f"{_printable(name)}/", f"a folder that cannot be opened ({error.strerror})"))

    def reason(path: Path) -> str:
        if path.name.startswith((".", "~$")):
            return "hidden"
        if path.is_symlink() and not path.exists():
            return "a link to nothing"
        if path.is_symlink() and path.is_dir():
            return "a link to a folder, which is not followed"
        if path.is_dir() and ((apart and path.resolve() == apart.resolve()) or _of_adapt(path)):
            return "what adapt writes"
        return "" if path.is_dir() or path.is_file() else "a pipe or a device"

    for place, folders, files in os.walk(folder, onerror=note):
        for names in (folders, files):
            for name in list(names):
                path = Path(place) / name
                shown = _printable(path.relative_to(folder))
                if why := reason(path):
                    left_out.append((f"{shown}/" if names is folders else shown, why))
                    names.remove(name)
                elif names is files:
                    found.append((path, shown))
    return sorted(found)


def _of_adapt(folder: Path) -> bool:
    """Whether a folder is what an adaptation left, of these documents or of others."""
    return all((folder / name).is_file() for name in ("documents.json", "passages.jsonl"))


# Signs that command a console, end a line or turn the direction of text.
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def _printable(name: str | Path) -> str:
    """A name as text that can be stored and shown on a line, though its bytes may be in no encoding; its letters
    composed."""
    told = Path(name).as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _COMMANDS.sub("\ufffd", unicodedata.normalize("NFC", told))


def _guarded(path: Path, name: str, text_field: str, left_out: list) -> Iterator[Document]:
    """The documents of one file, or none where it cannot be read to its end: the reason is noted."""
    try:
        yield from list(_of_file(path, name, text_field, left_out))
    except Unreadable as reason:
        left_out.append((name, str(reason)))
    except ReadError as error:
        left_out.append((name, _plainly(str(error).removeprefix(f"{path.name} "))))
    except OSError as error:
        left_out.append((name, f"cannot be opened ({error.strerror})"))


def _of_file(path: Path, name: str, text_field: str, left_out: list) -> Iterator[Document]:
    suffixes = [s.lower() for s in path.suffixes]
    suffix = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else (suffixes or [""])[-1]
    if not path.stat().st_size:
        raise Unreadable("empty")
    if suffix in TABLES:
        yield from _table(path, name, text_field, left_out)
    elif suffix in FORMATS:
        if (
            path.stat().st_size > MOST_BYTES and BINARY_READERS.get(suffix) is not office
        ):  # whose pictures count
            raise too_large(MOST_BYTES)
        read_as, lacks = "", ()
        if suffix in READERS:
            text, read_as = text_files.text_of(path)
            title, text = reader_of(suffix, text)(text)
        else:
            title, text, *lacks = BINARY_READERS[suffix](path)
        title = title or Path(name).stem.replace("_", " ").replace("-", " ")
        yield Document(name, title, text, read_as, *lacks)
    else:
        remedy = f"; save it as {SAVE_AS[suffix]}" if suffix in SAVE_AS else ""
        raise Unreadable(f"no format that is read ({suffix or 'no suffix'}{remedy})")


def _table(path: Path, name: str, text_field: str, left_out: list) -> list[Document]:
    """A table's rows; of one that is not UTF-8, as spreadsheets save them, by a guess that is told."""
    before = len(left_out)
    try:
        return list(_rows(path, name, text_field, left_out))
    except ReadError as error:
        if _plainly(str(error)) != NOT_UTF8 or path.stat().st_size > MOST_BYTES:
            raise
    del left_out[before:]
    text, read_as = text_files.text_of(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name.removesuffix(".gz")
        copy.write_text(text, encoding="utf-8", newline="")
        return [replace(d, read_as=read_as) for d in _rows(copy, name, text_field, left_out)]


def _rows(path: Path, name: str, text_field: str, left_out: list) -> Iterator[Document]:
    """A table's rows; one without a text is noted, and a table whose first row has no such field is none of texts."""
    number = 0
    for number, (place, row) in enumerate(rows(path, also=(text_field, "title", "id", "_id")), 1):
        if number == 1 and (not isinstance(row, dict) or text_field not in row):
            there = ", ".join(map(str, list(row)[:6])) if isinstance(row, dict) else "no names"
            raise Unreadable(
                f"a table without the field {text_field!r} (it has {there}; say which with --field)"
            )
        own = str(number)
        if isinstance(row, dict):
            given = (row[key] for key in ("id", "_id") if row.get(key) not in (None, ""))
            with suppress(ReadError):  # an id is a name here, and the row's number serves as well
                own = next((cell_values.identifier(i, place) for i in given), own)
        try:
            text = cell_values.text_of(row, text_field, place)
        except ReadError:
            left_out.append((f"{name}#{own}", f"a row whose {text_field!r} is no text"))
            continue
        title = row.get("title") if text_field != "title" else ""
        yield Document(f"{name}#{own}", title if isinstance(title, str) else "", text)
    if not number:
        raise Unreadable("empty")


# Letters that are a syllable or a word each, and count for three: a sentence of Chinese or Amharic has ten.
_SYLLABLES = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Ethiopic}]")


def _checked(document: Document, mask: Callable[[str], str] | None) -> Document:
    title, text = (clean(t) for t in (document.title, document.text))
    if len(text) > MOST_CHARACTERS:
        raise Unreadable(f"longer than {MOST_CHARACTERS:,} characters (divide it)")
    if mask:
        title, text = (_masked(t, mask, document.id) for t in (title, text))
    if not text.strip():
        raise Unreadable("empty")
    if letters(text) + 2 * len(_SYLLABLES.findall(text)) < LEAST_LETTERS:
        raise Unreadable(f"fewer than {LEAST_LETTERS} letters")
    return replace(document, title=" ".join(title.split()), text=text)


def _masked(text: str, mask: Callable[[str], str], name: str) -> str:
    try:
        found = mask(text)
    except Exception as error:
        raise DocumentsError(
            f"--mask fails at {name} ({type(error).__name__}: {error}): mend that function"
        ) from error
    if not isinstance(found, str):
        raise DocumentsError(f"--mask returns {type(found).__name__} for {name}, and a text is wanted")
    return found


_LIGATURES = {0xFB00 + n: letters for n, letters in enumerate(("ff", "fi", "fl", "ffi", "ffl", "st", "st"))}
_SIGNS = str.maketrans(
    {"\r": "\n", "\u0085": "\n", "\u2028": "\n", "\u2029": "\n\n", "\f": "\n\n", **_LIGATURES}
)
# Shapes that PDFs have letters in, and nobody types: Arabic ones by their place in a word, radicals
# for Chinese signs. A mark alone stands on a blank there.
_SHAPES = re.compile("[\u2e80-\u2fdf\ufb50-\ufdf9\ufe70-\ufefc]")
_SOFT = re.compile("\u00ad(?:[ \t]*\n[ \t]*)?")  # a hyphen that a line's end shows, and nothing else does
# Marks of direction and of the order of bytes; a blank of no width stays where it parts words (Khmer).
_UNSEEN = regex.compile(
    "[\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]|(?<!\\p{lb=SA})\u200b(?!\\p{lb=SA})"
)
_PICTURES = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.=+-]+)*;base64,[A-Za-z0-9+/=_-]*")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def clean(text: str) -> str:
    """Text with line ends of one kind, letters composed (NFC; some systems write marks apart), no ligatures and shapes
    of letters, without control characters, halves of characters, signs that nobody sees and a query does not have, and
    pictures written as text."""
    text = _SOFT.sub("", text.replace("\r\n", "\n").translate(_SIGNS))
    text = _SHAPES.sub(lambda shape: unicodedata.normalize("NFKC", shape[0]).strip(" "), text)
    return _CONTROL.sub(" ", unicodedata.normalize("NFC", _PICTURES.sub("", _UNSEEN.sub("", text))))


def _plainly(error: str) -> str:
    """An opener's error as a reason to count under: without the file's name, and without the place where many files
    may share it."""
    for mark, reason in (("is binary", "binary"), ("archive", "binary"), ("is not UTF-8", NOT_UTF8),
                         ("is in no text", NOT_UTF8), ("is UTF-", NOT_UTF8),
                         ("is empty", "empty"),
                         ("git-lfs", "a pointer of git-lfs (run git lfs pull)"), ("git-annex", "a pointer of git-annex (run git annex get)"),
                         ):  # fmt: skip
        if mark in error:
            return reason
    place, _, said = error.partition(": ")
    return f"{place.rpartition(', ')[2]}: {said.partition(': ')[0]}"[:120]
