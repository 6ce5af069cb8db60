"""One reader a format: text → (title, text), or of what is no text path → (title, text), and of a PDF what it lacks."""

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


_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?>(?:<!--.*?-->\s*)*)<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
_ARCHIVE = re.compile(
    r"\s*(?=(?:from|subject|date|mime-version|content-type|snapshot-content-location):).*^content-type:\s*multipart/related",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)


def reader_of(suffix: str, text: str) -> Callable[[str], tuple[str, str]]:
    """The reader of a file's text, by its suffix unless the text is of another format; raises Unreadable for one that
    is not read."""
    head = text[:4_000]
    if _ARCHIVE.match(head):
        raise Unreadable("a web page in an archive, MHTML (save it as .html)")
    return _html if _PAGE.match(head) else READERS[suffix]


# In YAML or, as Hugo has it, in TOML; and no text between two rules.
_FRONT = re.compile(r"\A(?:---\n(?=\s*[\w-]+ *:)|\+\+\+\n(?=\s*[\w-]+ *=))(.*?)\n(?:---|\+\+\+)\n", re.DOTALL)
_TITLE = re.compile(r"^title *[:=] *(?![ >|])['\"]?(.+?)['\"]? *$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,2} +(.+?) *#*$", re.MULTILINE)
_FENCED = r"^ {0,3}(?:```.*?(?:^ {0,3}```|\Z)|~~~.*?(?:^ {0,3}~~~|\Z))"
_PICTURE = re.compile(r"^ {0,3}\[[^\]\n]+\]: *<?data:\S*[ \t]*\n?", re.MULTILINE)
_TARGET = r"\((?:[^()]|\([^()]*\))*\)"
_IMAGE, _LINK = (
    re.compile(rf"({_FENCED}|`[^`\n]+`)|{named}{_TARGET}", re.DOTALL | re.MULTILINE)
    for named in (r"!\[([^\[\]]*)\]", r"\[([^\[\]]+)\]")
)


def _markdown(text: str) -> tuple[str, str]:
    """Markdown as it is written, which models read well; its front matter, pictures and the targets of links go. Code stays."""
    text = text.replace("\r\n", "\n")
    front = _FRONT.match(text)
    named = _TITLE.search(front[1]) if front else None
    text = _PICTURE.sub("", text[front.end() :] if front else text)
    blanked = re.sub(_FENCED, lambda m: " " * len(m[0]), text, flags=re.DOTALL | re.MULTILINE)
    heading = _HEADING.search(blanked)  # code has lines that begin with # too
    title = named[1] if named else _without_targets(heading[1]) if heading else ""
    if heading and not named and not text[: heading.start()].strip():
        text = text[heading.end() :]
    return title, _without_targets(text)


def _without_targets(text: str) -> str:
    for pattern in (_IMAGE, _LINK):
        text = pattern.sub(lambda m: m[1] or m[2] or "", text)
    return text


class _Page(HTMLParser):
    """The words of a page: no scripts, styles, navigation, controls or readings
    above Japanese signs; block elements end a paragraph. What stands in
    a form is read, since some systems put one around the whole page; so is what stands in ``read``, of what is
    skipped elsewhere. ``inside`` are skipped elements that are open."""

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
    READINGS = ("rt", "rp")  # whose end HTML allows to be left out, as that of the sign below, rb
    NO_TEXT = frozenset({"script", "style", "svg", "template"})
    OWN = ("main", "article")  # whose asides and footers are text: a warning in a box, a quotation's source
    BLOCKS = ("aside", "footer", "address", "details", "summary", "caption", "fieldset", "legend", "form",
              "p", "div", "li", "ul", "ol", "tr", "table", "section", "article", "header", "main", "blockquote",
              "pre", "h1", "h2", "h3", "h4", "h5", "h6", "dt", "dd", "figure", "figcaption", "hr")  # fmt: skip

    def __init__(self, read: Collection[str] = ()):
        super().__init__(convert_charrefs=True)
        self.skipped = {*self.SKIPPED, "title"} - {*read}
        self.parts: list[str] = []
        self.title = ""
        self.inside: list[str] = []
        self.own = 0  # of OWN that are open
        self.pre = 0  # whose lines are lines

    def _end_readings(self, tag: str) -> None:
        if tag in (*self.READINGS, "rb", "ruby", *self.BLOCKS):
            while self.inside and self.inside[-1] in self.READINGS:
                self.inside.pop()

    def handle_starttag(self, tag, attrs):
        self._end_readings(tag)
        self.own += tag in self.OWN
        self.pre += tag == "pre"
        if tag in self.skipped and not (self.own and tag in ("aside", "footer")):
            self.inside.append(tag)
        elif tag in self.BLOCKS:
            self.parts.append("\n\n")
        elif tag in ("br", "td", "th"):
            self.parts.append("\n" if tag == "br" else " ")

    def handle_endtag(self, tag):
        self.own -= self.own > 0 and tag in self.OWN
        self.pre -= self.pre > 0 and tag == "pre"
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass
            return
        self._end_readings(tag)
        if tag in self.BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data):
        if not self.inside:
            self.parts.append(data if self.pre else re.sub(r"\s+", " ", data))
        elif self.inside == ["title"]:
            self.title += data

    def parse_marked_section(self, i, report=1):
        """What browsers take for a comment, ``<![`` and anything, ends Python's parser."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.rawdata.find(">", i) + 1 or -1


def _page(text: str, read: Collection[str] = ()) -> _Page:
    page = _Page(read)
    page.feed(text)
    page.close()
    return page


def _html(text: str) -> tuple[str, str]:
    page = _page(text)
    if unclosed := {*page.inside} - _Page.NO_TEXT:  # or else the rest of the page were lost
        page = _page(text, unclosed)
    body, title = re.sub(r" *\n *", "\n", "".join(page.parts)).strip(), " ".join(page.title.split())
    first, _, rest = body.partition("\n")
    return title, rest if title and first.strip() == title else body  # a heading that is the title


_LACKS = "pages without a text left out (scanned? run OCR on them first)"
_MANY = 0.1  # of the pages: so many are empty in no book
# What programs write where nobody gave a title: the name of the file that it was printed from.
_NO_TITLE = re.compile(
    r"microsoft \w+ - .*|.*\.(docx?|odt|rtf|pdf|pptx?|xlsx?|indd|qxd|tex|dvi|wpd|pages)"
    r"|\W*(untitled|anonymous|unbenannt)\W*\d*\W*|\W*",
    re.IGNORECASE,
)
_PAIR = r"(?!(?:und|oder|bis|and|or|en|of|och|og)\b)"  # before its second half: "Vor- und Nachmittag"
_DIVIDED = regex.compile(rf"\u00ad ?\n|(?<=\p{{L}})[-\u2010] ?\n(?=\p{{Ll}}){_PAIR}")
_JOINED = regex.compile(rf"(?<=\w[-\u2010]) ?\n(?=\w){_PAIR}")


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
        if _says_only_that_it_is_a_form(reader.root_object, "".join(pages)):
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
    return (
        "" if _NO_TITLE.fullmatch(title) else title,
        joined,
        _LACKS if empty > _MANY * len(pages) else "",
    )


def _says_only_that_it_is_a_form(root: dict, text: str) -> bool:
    """Of a form of XFA other programs show one page, which asks for Adobe Reader."""
    form = root.get("/AcroForm")
    form = form.get_object() if form is not None else None
    return (
        isinstance(form, dict) and "/XFA" in form and ("/NeedsRendering" in root or "Please wait..." in text)
    )


READERS: dict[str, Callable[[str], tuple[str, str]]] = {
    ".txt": _text, ".text": _text, ".md": _markdown, ".markdown": _markdown, ".html": _html, ".htm": _html,
    ".xhtml": _html,  # the chapters of an EPUB that was unzipped
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
