"""Documents of Word and of OpenDocument (LibreOffice) → their words: zip archives of XML.

Read are paragraphs, headings, lists, tables, text boxes and notes, in reading order, with tracked changes accepted.
Not read is what is no part of the text: tables of contents, headers and footers, comments, the numbers of lists.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from posixpath import dirname
from typing import ClassVar
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

from synthembed.adapt.reading.reasons import Unreadable, too_large

MOST_BYTES = 200_000_000  # of one part, unpacked: no document is as large, and a bomb is larger
OLD = b"\xd0\xcf\x11\xe0"  # the container of old Word documents, and of newer ones that want a password
LOCKED = "EncryptedPackage".encode("utf-16-le")
DAMAGED = "damaged, or no document of Word or LibreOffice"
DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, SAXException, ValueError, LookupError,
          NotImplementedError)  # fmt: skip


def office(path: Path) -> tuple[str, str]:
    """(title, text) of a .docx, .docm or .odt, told apart by what is in it. The title is the paragraph in the style
    Title, or a heading that the text begins with, or what the file's properties say.

    Raises Unreadable for an encrypted, old or damaged one.
    """
    with open(path, "rb") as file:
        if file.read(4) == OLD:
            whole = file.read()
            raise Unreadable("encrypted" if LOCKED in whole else "an old Word document (save it as .docx)")
    try:
        with zipfile.ZipFile(path) as archive:
            kind = _odt if "content.xml" in archive.namelist() else _docx
            return _titled(*kind(archive))
    except Unreadable:
        raise
    except RuntimeError as error:  # zipfile's own word for a password
        raise Unreadable("encrypted" if "encrypted" in str(error) else DAMAGED) from None
    except DAMAGE:
        raise Unreadable(DAMAGED) from None


def _titled(paragraphs: list[tuple[str, str]], said: str) -> tuple[str, str]:
    """``paragraphs`` are (style, text); ``said`` is the title of the file's properties."""
    style, first = paragraphs[0] if paragraphs else ("", "")
    titled = next((text for style, text in paragraphs if style == "title"), "")
    title = titled or (first if style == "heading 1" else said)
    texts = [text for _, text in paragraphs]
    return title, "\n\n".join(texts[1:] if first == title else texts)


def _docx(archive: zipfile.ZipFile) -> tuple[list[tuple[str, str]], str]:
    main = _parsed(archive, "_rels/.rels", _Main()).target
    room = dirname(main)
    parts = {
        name: part for part in archive.namelist() for name in ("styles", "footnotes", "endnotes")
        if re.fullmatch(rf"{re.escape(room)}/?{name}\d*\.xml", part)
    }  # fmt: skip
    styles = _parsed(archive, parts["styles"], _Styles()).names if "styles" in parts else {}
    found = []
    for part in (main, parts.get("footnotes"), parts.get("endnotes")):
        found += _parsed(archive, part, _Word(styles)).paragraphs if part else []
    return found, _said_title(archive, "docProps/core.xml")


def _odt(archive: zipfile.ZipFile) -> tuple[list[tuple[str, str]], str]:
    manifest = "META-INF/manifest.xml"
    if manifest in archive.namelist() and b"encryption-data" in _open(archive, manifest).read():
        raise Unreadable("encrypted")
    found = _parsed(archive, "content.xml", _OpenDocument()).paragraphs
    return found, _said_title(archive, "meta.xml")


def _said_title(archive: zipfile.ZipFile, part: str) -> str:
    return _parsed(archive, part, _Properties()).title.strip() if part in archive.namelist() else ""


def _open(archive: zipfile.ZipFile, part: str):
    if archive.getinfo(part).file_size > MOST_BYTES:
        raise too_large(MOST_BYTES)
    return archive.open(part)


def _parsed(archive: zipfile.ZipFile, part: str, handler):
    """``handler``, after it has seen a part. An XML file that declares entities of its own is refused."""
    import defusedxml.sax

    with _open(archive, part) as file:
        defusedxml.sax.parse(file, handler, forbid_dtd=True)
    return handler


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _given(attributes) -> dict[str, str]:
    return {_local(name): value for name, value in attributes.items()}


class _Main(ContentHandler):
    """Where a package's main part lies."""

    target = "word/document.xml"

    def startElement(self, name, attrs):
        if attrs.get("Type", "").endswith("/officeDocument"):
            self.target = attrs.get("Target", self.target).lstrip("/")


class _Properties(ContentHandler):
    title, inside = "", False

    def startElement(self, name, attrs):
        self.inside = name == "dc:title"

    def endElement(self, name):
        self.inside = False

    def characters(self, content):
        self.title += content if self.inside else ""


class _Styles(ContentHandler):
    """Word's styles: their ids, which are in the language of the program, with their names, which are not."""

    def __init__(self):
        super().__init__()
        self.names: dict[str, str] = {}
        self.style = ""

    def startElement(self, name, attrs):
        name, given = _local(name), _given(attrs)
        if name == "style":
            self.style = given.get("styleId", "")
        elif name == "name" and self.style:
            self.names.setdefault(self.style, given.get("val", "").lower())


class _Flow(ContentHandler):
    """``paragraphs``, (style, text) each, in reading order, out of the elements of a part.

    A table's row is one paragraph, unless a cell has several, as where a table makes columns of a page. What stands in
    a paragraph and has paragraphs of its own (a text box, a note) comes after it.
    """

    BEGINS: frozenset[str]  # elements that are paragraphs
    ROW, CELL = "", ""
    SIGNS: ClassVar[dict[str, str]]
    SKIPPED: frozenset[str]

    def __init__(self):
        super().__init__()
        self.paragraphs: list[tuple[str, str]] = []
        self.open: list[_Paragraph] = []
        self.rows: list[list[list[tuple[str, str]]]] = []  # of tables that are open: their last row's cells
        self.skipping = 0  # how deep inside an element that is skipped

    def startElement(self, name, attrs):
        whole, name = name, _local(name)
        if self.skipping or name in self.SKIPPED or whole in self.SKIPPED:
            self.skipping += 1
        elif name in self.BEGINS:
            self.open.append(_Paragraph(self.style_of(name, _given(attrs))))
        elif name in self.SIGNS and self.open:
            self.open[-1].text.append(self.SIGNS[name])
        elif name == self.ROW:
            self.rows.append([])
        elif name == self.CELL and self.rows:
            self.rows[-1].append([])
        else:
            self.other(name, attrs)

    def endElement(self, name):
        name = _local(name)
        if self.skipping:
            self.skipping -= 1
        elif name in self.BEGINS and self.open:
            done = self.open.pop()
            text = "\n".join(" ".join(line.split()) for line in "".join(done.text).split("\n")).strip()
            for one in ([(done.style, text)] if text else []) + done.after:
                self.put(one)
        elif name == self.ROW and self.rows:
            cells = [cell for cell in self.rows.pop() if cell]
            if all(len(cell) == 1 for cell in cells):
                cells = [[("", " | ".join(text for ((_, text),) in cells))]] if cells else []
            for one in (one for cell in cells for one in cell):
                self.put(one)
        else:
            self.closed(name)

    def put(self, one: tuple[str, str]) -> None:
        if self.open:
            self.open[-1].after.append(one)
        elif self.rows and self.rows[-1]:
            self.rows[-1][-1].append(one)
        elif not one[0].startswith("toc "):
            self.paragraphs.append(one)

    def style_of(self, name: str, given: dict[str, str]) -> str:
        return ""

    def other(self, name: str, attrs) -> None:
        pass

    def closed(self, name: str) -> None:
        pass


class _Paragraph:
    def __init__(self, style: str):
        self.style, self.text, self.after = style, [], []


class _Word(_Flow):
    BEGINS, ROW, CELL = frozenset({"p"}), "tr", "tc"
    SIGNS: ClassVar = {"tab": " ", "ptab": " ", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011"}
    # Deleted and moved text, what older programs show in the place of a text box, and readings above Japanese signs.
    SKIPPED = frozenset({"del", "moveFrom", "Fallback", "rt"})

    def __init__(self, styles: dict[str, str]):
        super().__init__()
        self.styles, self.inside = styles, False

    def other(self, name, attrs):
        if name == "t":
            self.inside = True
        elif name == "altChunk":
            raise Unreadable(
                "a part of its text is a file inside it, which Word takes in (open it there, and save it)"
            )
        elif name == "pStyle" and self.open:
            style = _given(attrs).get("val", "")
            self.open[-1].style = self.styles.get(style, style).lower()

    def closed(self, name):
        self.inside = self.inside and name != "t"

    def characters(self, content):
        if self.inside and self.open and not self.skipping:
            self.open[-1].text.append(content)


class _OpenDocument(_Flow):
    BEGINS, ROW, CELL = frozenset({"p", "h"}), "table-row", "table-cell"
    SIGNS: ClassVar = {"tab": " ", "s": " ", "line-break": "\n"}
    SKIPPED = frozenset({
        "tracked-changes", "annotation", "table-of-content", "note-citation", "ruby-text", "covered-table-cell", "svg:title", "svg:desc",
    })  # fmt: skip

    def __init__(self):
        super().__init__()
        self.parents: dict[str, str] = {}  # of styles that a paragraph has for itself

    def style_of(self, name, given):
        if name == "h":
            return f"heading {given.get('outline-level', '1')}"
        style = given.get("style-name", "")
        return self.parents.get(style, style).lower()

    def other(self, name, attrs):
        given = _given(attrs)
        if name == "style" and given.get("parent-style-name"):
            self.parents[given.get("name", "")] = given["parent-style-name"]

    def characters(self, content):
        if self.open and not self.skipping:  # line ends of the XML file are none of the text
            self.open[-1].text.append(content.replace("\n", " "))
