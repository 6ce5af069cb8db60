"""A folder of a reader's own texts → documents: plain text, Markdown, HTML, PDF, and tables of texts.

Nothing is dropped in silence: whatever is not read is named with its reason in ``Reading.left_out``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from synthembed.ground.data_files import opener, table_rows
from synthembed.ground.data_files.opener import ReadError

TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
MOST_BYTES = 50_000_000  # of one file that is a document; a table may be larger, as its rows stream
MOST_CHARACTERS = 2_000_000  # of one document: about a thousand pages
LEAST_LETTERS = 20  # of a document, and of a page of a PDF on average: less is a scan, or nothing


class DocumentsError(ValueError):
    """A folder of which nothing can be made; the message names it and what to do."""


class Unreadable(ValueError):
    """One document that is left out; the message is the reason that it is counted under."""


@dataclass(frozen=True, slots=True)
class Document:
    """``id`` is the path below the folder, for a row of a table with its number or its own id."""

    id: str
    title: str
    text: str


@dataclass
class Reading:
    """What a folder held: its documents, and (name, reason) of everything that is none."""

    documents: list[Document] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def counts(self) -> Counter:
        """How many were left out, by reason."""
        return Counter(reason for _, reason in self.left_out)

    def __str__(self) -> str:
        told = [f"{len(self.documents):,} documents"]
        for reason, count in self.counts().most_common():
            names = [name for name, why in self.left_out if why == reason]
            more = f" and {count - 3} more" if count > 3 else ""
            told.append(f"  left out, {reason}: {count:,} ({', '.join(names[:3])}{more})")
        return "\n".join(told)


def read(folder: Path, text_field: str = "text", mask: Callable[[str], str] | None = None) -> Reading:
    """All documents below ``folder`` (or of one file), in the order of their names.

    A table's rows are documents each: the field ``text_field``, "title" before it where there is one, and "id"
    (or "_id") as the name. ``mask`` is given each text and title before anything else sees them. Raises
    DocumentsError if there is no such folder, or nothing in it that can be read.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DocumentsError(f"there is no folder {folder}: name the folder that your documents are in")
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    top = folder.parent if folder.is_file() else folder
    found, seen = Reading(), set()
    for path in files:
        name = path.relative_to(top).as_posix()
        if any(part.startswith((".", "~$")) for part in Path(name).parts):
            found.left_out.append((name, "a hidden file"))
            continue
        for document in _guarded(path, name, text_field, found.left_out):
            try:
                document = _checked(document, mask)
            except Unreadable as reason:
                found.left_out.append((document.id, str(reason)))
                continue
            if document.id in seen:
                found.left_out.append((document.id, "a second document of that id"))
            else:
                seen.add(document.id)
                found.documents.append(document)
    if not found.documents:
        raise DocumentsError(
            f"no document in {folder} can be read. {found}\nRead are {', '.join(READERS)} and the tables "
            f"{', '.join(TABLES)}; a table's text is to be in its field {text_field!r} (--field)"
        )
    return found


def _guarded(path: Path, name: str, text_field: str, left_out: list) -> Iterator[Document]:
    """The documents of one file, or none where it cannot be read to its end: the reason is noted."""
    try:
        yield from list(_of_file(path, name, text_field))
    except Unreadable as reason:
        left_out.append((name, str(reason)))
    except ReadError as error:
        left_out.append((name, _plainly(str(error))))
    except OSError as error:
        left_out.append((name, f"cannot be opened ({error.strerror})"))


def _of_file(path: Path, name: str, text_field: str) -> Iterator[Document]:
    suffixes = [s.lower() for s in path.suffixes]
    suffix = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else (suffixes or [""])[-1]
    if not path.stat().st_size:
        raise Unreadable("empty")
    if suffix in TABLES:
        yield from _rows(path, name, text_field)
    elif suffix in READERS:
        if path.stat().st_size > MOST_BYTES:
            raise Unreadable(f"larger than {MOST_BYTES // 10**6} MB")
        title, text = READERS[suffix](path)
        yield Document(name, title or Path(name).stem.replace("_", " ").replace("-", " "), text)
    else:
        raise Unreadable(f"no format that is read ({suffix or 'no suffix'})")


def _rows(path: Path, name: str, text_field: str) -> Iterator[Document]:
    for number, (place, row) in enumerate(table_rows.rows(path), 1):
        missing = table_rows.field_of(row, text_field, place) is None
        text = "" if missing else table_rows.text_of(row, text_field, place)
        ids = (
            table_rows.identifier(row[key], place) for key in ("id", "_id") if row.get(key) not in (None, "")
        )
        own = next(ids, str(number))
        title = row.get("title")
        yield Document(f"{name}#{own}", title if isinstance(title, str) else "", text)


def _checked(document: Document, mask: Callable[[str], str] | None) -> Document:
    if len(document.text) > MOST_CHARACTERS:
        raise Unreadable(f"longer than {MOST_CHARACTERS:,} characters")
    title, text = (clean(t) for t in (document.title, document.text))
    if mask:
        title, text = mask(title), mask(text)
    if sum(map(str.isalnum, text)) < LEAST_LETTERS:
        raise Unreadable(f"fewer than {LEAST_LETTERS} letters" if text.strip() else "empty")
    return Document(document.id, " ".join(title.split()), text)


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def clean(text: str) -> str:
    """Text with line ends of one kind and without control characters and halves of characters."""
    return _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n"))


def _plainly(error: str) -> str:
    """An opener's error as a reason to count under: without the file's name, and without the place where many
    files may share it."""
    for mark, reason in (("is not UTF-8", "not UTF-8, or binary"), ("is in no text", "not UTF-8, or binary"),
                         ("is UTF-", "not UTF-8, or binary"), ("is empty", "empty"), ("archive", "binary"),
                         ("git-lfs", "a pointer of git-lfs (run git lfs pull)"), ("git-annex", "a pointer of git-annex (run git annex get)"),
                         ("is missing", "a table without the field"), ("no field", "a table without the field")):  # fmt: skip
        if mark in error:
            return reason
    place, _, said = error.partition(": ")
    return f"{place.rpartition(', ')[2]}: {said.partition(': ')[0]}"[:120]


# --- one reader a format: path → (title, text) ------------------------------------------------------


def _text(path: Path) -> tuple[str, str]:
    return "", "".join(opener.lines_with_ends(path))


_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_HEADING = re.compile(r"^#{1,2} +(.+?) *#*$", re.MULTILINE)


def _markdown(path: Path) -> tuple[str, str]:
    """Markdown as it is written, which models read well; its front matter and the targets of links go."""
    text = _text(path)[1].replace("\r\n", "\n")
    front = _FRONT.match(text)
    named = re.search(r"^title: *['\"]?(.+?)['\"]? *$", front[1], re.MULTILINE) if front else None
    text = text[front.end() :] if front else text
    heading = _HEADING.search(text)
    title = named[1] if named else heading[1] if heading else ""
    if heading and not named and not text[: heading.start()].strip():
        text = text[heading.end() :]
    text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return title, re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)


class _Page(HTMLParser):
    """The words of a page: no scripts, styles, navigation or forms; block elements end a paragraph."""

    SKIPPED = ("script", "style", "nav", "noscript", "template", "svg", "form", "button", "footer", "aside")
    BLOCKS = ("p", "div", "li", "ul", "ol", "tr", "table", "section", "article", "header", "main", "blockquote",
              "pre", "h1", "h2", "h3", "h4", "h5", "h6", "dt", "dd", "figure", "figcaption", "hr")  # fmt: skip

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.title = ""
        self.inside: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in self.SKIPPED or tag == "title":
            self.inside.append(tag)
        elif tag in self.BLOCKS:
            self.parts.append("\n\n")
        elif tag in ("br", "td", "th"):
            self.parts.append("\n" if tag == "br" else " ")

    def handle_endtag(self, tag):
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass
        elif tag in self.BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data):
        if not self.inside:
            self.parts.append(re.sub(r"\s+", " ", data))
        elif self.inside == ["title"]:
            self.title += data


def _html(path: Path) -> tuple[str, str]:
    page = _Page()
    page.feed(_text(path)[1])
    page.close()
    return page.title, re.sub(r" *\n *", "\n", "".join(page.parts))


def _pdf(path: Path) -> tuple[str, str]:
    """The text layer of a PDF; one that wants a password, or has pages but no text on them, is left out."""
    try:
        import pypdf
    except ImportError:
        raise DocumentsError(
            "PDFs are read by pypdf, which is not installed: pip install 'synthembed[own]'"
        ) from None
    import logging

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted")
        pages = [page.extract_text() for page in reader.pages]
        title = (reader.metadata or {}).get("/Title")
    except Unreadable:
        raise
    except Exception as error:  # of a damaged file pypdf raises whatever it stumbles over
        kind = type(error).__name__
        if "Crypt" in kind or "Encrypt" in kind or kind == "DependencyError":
            raise Unreadable("encrypted") from None
        raise Unreadable("damaged, or no PDF") from None
    if sum(map(str.isalnum, "".join(pages))) < LEAST_LETTERS * max(1, len(pages)):
        raise Unreadable("scanned: its pages have no text (run OCR on it first)")
    joined = "\n\n".join(pages)
    return str(title or ""), re.sub(r"(\w)-\n(\w)", r"\1\2", joined)  # words that a line's end divides


READERS: dict[str, Callable[[Path], tuple[str, str]]] = {
    ".txt": _text, ".text": _text, ".md": _markdown, ".markdown": _markdown, ".html": _html, ".htm": _html,
    ".pdf": _pdf,
}  # fmt: skip
