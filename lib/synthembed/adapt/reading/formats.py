"""One reader a format: text → (title, text), or of what is no text path → (title, text)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from html.parser import HTMLParser
from pathlib import Path

import regex

from synthembed.adapt.reading.office_files import office
from synthembed.adapt.reading.reasons import LEAST_LETTERS, DocumentsError, Unreadable


def _text(text: str) -> tuple[str, str]:
    return "", text


_PAGE = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html)\b", re.IGNORECASE | re.DOTALL)
_ARCHIVE = re.compile(
    r"\s*(from|subject|date|mime-version|content-type|snapshot-content-location):", re.IGNORECASE
)


def reader_of(suffix: str, text: str) -> Callable[[str], tuple[str, str]]:
    """The reader of a file's text, by its suffix unless the text is of another format; raises Unreadable for one that
    is not read."""
    head = text[:4_000]
    if head.lstrip().startswith("{\\rtf"):
        raise Unreadable("RTF, whatever its name says (save it as .docx)")
    if _ARCHIVE.match(head) and "multipart/related" in head.lower():
        raise Unreadable("a web page in an archive, MHTML (save it as .html)")
    return _html if _PAGE.match(head) else READERS[suffix]


_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_HEADING = re.compile(r"^#{1,2} +(.+?) *#*$", re.MULTILINE)
_CODE = re.compile(r"^(```|~~~).*?(^\1|\Z)", re.MULTILINE | re.DOTALL)  # where # begins a comment
_PICTURE = re.compile(r"^\[[^\]\n]+\]: *<?data:\S*[ \t]*\n?", re.MULTILINE)


def _markdown(text: str) -> tuple[str, str]:
    """Markdown as it is written, which models read well; its front matter and the targets of links go."""
    text = text.replace("\r\n", "\n")
    front = _FRONT.match(text)
    named = re.search(r"^title: *['\"]?(.+?)['\"]? *$", front[1], re.MULTILINE) if front else None
    text = text[front.end() :] if front else text
    text = _PICTURE.sub("", text)
    heading = _HEADING.search(_CODE.sub(lambda code: " " * len(code[0]), text))
    title = named[1] if named else heading[1] if heading else ""
    if heading and not named and not text[: heading.start()].strip():
        text = text[heading.end() :]
    text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return title, re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)


class _Page(HTMLParser):
    """The words of a page: no scripts, styles, navigation, controls or readings
    above Japanese signs; block elements end a paragraph. What stands in
    a form is read, since some systems put one around the whole page."""

    SKIPPED = (
        "script",
        "style",
        "nav",
        "noscript",
        "template",
        "svg",
        "select",
        "textarea",
        "button",
        "footer",
        "aside",
        "rt",
        "rp",
    )
    ENDLESS = ("rt", "rp")  # which end where the next of them begins, or the word that they stand above
    BLOCKS = ("p", "div", "li", "ul", "ol", "tr", "table", "section", "article", "header", "main", "blockquote",
              "pre", "h1", "h2", "h3", "h4", "h5", "h6", "dt", "dd", "figure", "figcaption", "hr")  # fmt: skip

    def __init__(self, read: Collection[str] = ()):
        super().__init__(convert_charrefs=True)
        self.skipped = {*self.SKIPPED, "title"} - set(read)
        self.parts: list[str] = []
        self.title = ""
        self.inside: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in self.ENDLESS or tag == "rb":
            self.end_reading()
        if tag in self.skipped:
            self.inside.append(tag)
        elif tag in self.BLOCKS:
            self.parts.append("\n\n")
        elif tag in ("br", "td", "th"):
            self.parts.append("\n" if tag == "br" else " ")

    def end_reading(self):
        while self.inside and self.inside[-1] in self.ENDLESS:
            self.inside.pop()

    def handle_endtag(self, tag):
        if tag == "ruby":
            self.end_reading()
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

    def parse_marked_section(self, i, report=1):
        """What browsers take for a comment, ``<![`` and anything, ends Python's parser."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.rawdata.find(">", i) + 1 or -1


def _parsed(text: str, read: Collection[str] = ()) -> _Page:
    page = _Page(read)
    page.feed(text)
    page.close()
    return page


def _html(text: str) -> tuple[str, str]:
    page = _parsed(text)
    if endless := set(page.inside) - {
        "script",
        "style",
        "template",
        "svg",
    }:  # a menu, say, that never ends: all would be lost
        page = _parsed(text, endless)
    body, title = re.sub(r" *\n *", "\n", "".join(page.parts)).strip(), " ".join(page.title.split())
    first, _, rest = body.partition("\n")
    return title, rest if title and first.strip() == title else body  # a heading that is the title


_LACKS = "pages without a text left out (scanned? run OCR on them first)"
_MANY = 0.1  # of the pages: so many are empty in no book
# What programs write where nobody gave a title: the name of the file that it was printed from.
_NO_TITLE = re.compile(
    r"microsoft \w+ - .*|.*\.(docx?|odt|rtf|pdf|pptx?|xlsx?|indd|qxd|tex|dvi|wpd|pages)|\W*(untitled|anonymous|unbenannt)\b.*|\W*",
    re.IGNORECASE,
)


def _pdf(path: Path) -> tuple[str, str, str]:
    """(title, text layer, what it lacks) of a PDF; one that wants a password, or has pages but no text on them, is left
    out."""
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
        title = str((reader.metadata or {}).get("/Title") or "")
        form = reader.root_object.get("/AcroForm")
        if (
            form
            and "/XFA" in form.get_object()
            and ("/NeedsRendering" in reader.root_object or "Please wait..." in "".join(pages))
        ):
            raise Unreadable("a form that Adobe Reader alone shows (XFA; print it to a PDF there)")
    except Unreadable:
        raise
    except Exception as error:  # of a damaged file pypdf raises whatever it stumbles over
        kind = type(error).__name__
        if kind == "DependencyError":
            raise Unreadable("encrypted (if it opens without a password: pip install cryptography)") from None
        if "Crypt" in kind or "Encrypt" in kind:
            raise Unreadable("encrypted") from None
        raise Unreadable("damaged, or no PDF") from None
    if sum(map(str.isalnum, "".join(pages))) < LEAST_LETTERS * max(1, len(pages)):
        raise Unreadable("scanned: its pages have no text (run OCR on it first)")
    empty = sum(not any(map(str.isalnum, page)) for page in pages)
    joined = _DIVIDED.sub("", "\n\n".join(pages))  # words that a line's end divides
    joined = _JOINED.sub("", joined)  # or joins: E-Mail, 2023-24
    joined = regex.sub(r" *(?<!\n)\n(?=\p{Ll})", " ", joined)  # and sentences
    title = "" if _NO_TITLE.fullmatch(title) else title
    return title, joined, _LACKS if empty > _MANY * len(pages) else ""


_PAIR = r"(?!(?:und|oder|bis|and|or|en|of|och|og)\b)"  # before its second half: "Vor- und Nachmittag"
_DIVIDED = regex.compile(rf"(?<=\p{{L}})[-\u2010] ?\n(?=\p{{Ll}}){_PAIR}")
_JOINED = regex.compile(rf"(?<=\w[-\u2010]) ?\n(?=\w){_PAIR}")


READERS: dict[str, Callable[[str], tuple[str, str]]] = {
    ".txt": _text, ".text": _text, ".md": _markdown, ".markdown": _markdown, ".html": _html, ".htm": _html,
}  # fmt: skip
BINARY_READERS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    ".pdf": _pdf, ".docx": office, ".docm": office, ".odt": office,
}  # fmt: skip
FORMATS = (*READERS, *BINARY_READERS)
SAVE_AS = {
    **dict.fromkeys((".doc", ".rtf", ".pages", ".wpd", ".wps", ".hwp"), ".docx"),
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".numbers"), "CSV"),
    **dict.fromkeys((".ppt", ".pptx", ".odp", ".key", ".ps", ".djvu"), "PDF"),
    **dict.fromkeys((".epub", ".mobi", ".mht", ".mhtml", ".tex", ".xml", ".rst", ".adoc"), ".html or .txt"),
}  # what a reader's own program can make of a format that is not read here
