"""Documents → passages of a length that a model embeds well, cut at paragraphs and sentences."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import regex

from synthembed.adapt.reading.documents import Document, DocumentsError
from synthembed.corpus.texts import word_count


@dataclass(frozen=True, slots=True)
class Passage:
    """``text`` is what a model reads, the document's title before it; ``document`` is the document's id."""

    document: str
    title: str
    body: str

    @property
    def text(self) -> str:
        return f"{self.title}\n{self.body}" if self.title else self.body

    @property
    def key(self) -> str:
        """16 hex digits over the text alone, so that moving a file asks for nothing again."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


# A sentence ends at a full stop of any script (in Greek ; asks), with the quotes after it; in scripts that space words a
# blank must follow. None ends before a small letter, nor behind a word of one or two letters, which is an abbreviation.
_SENTENCE = regex.compile(
    r"""((?<=[!?…؟۔।॥։።፧।។]|\p{Greek};|(?<!(?<!\p{L})[\p{Lu}\p{Ll}]{1,2})\.)["'”’»)\]]*\s+(?!\p{Ll})"""
    r"""|(?<=[。！？｡។៕။])(?![”’」』）\s]))"""
)


def split(documents: Iterable[Document], words: int = 120) -> list[Passage]:
    """Passages of at most about ``words`` words, in order; each distinct text once.

    Paragraphs are kept together while they fit, one that is too long is cut between sentences, and a
    sentence that is too long between words. A rest of less than a quarter joins the passage before it.
    """
    found: dict[str, Passage] = {}
    for document in documents:
        for body in _bodies(document.text, words):
            passage = Passage(document.id, document.title, body)
            found.setdefault(passage.key, passage)
    return list(found.values())


def _bodies(text: str, words: int) -> list[str]:
    pieces: list[tuple[str, str]] = []  # (what goes before it, text)
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = re.sub(r"[ \t\u00a0]+", " ", re.sub(r"\s*\n\s*", "\n", paragraph)).strip()
        if not paragraph:
            continue
        if word_count(paragraph) <= words:
            pieces.append(("\n", paragraph))
            continue
        before = "\n"
        for sentence, gap in _sentences(paragraph):
            for part, behind in _cut(sentence, words):
                pieces.append((before, part))
                before = behind
            before = gap
    bodies: list[tuple[str, str, float]] = []  # (what goes before it, text, words)
    for before, piece in pieces:
        count = word_count(piece)
        if bodies and (bodies[-1][2] + count <= words or bodies[-1][2] < words / 4):
            begins, text, there = bodies[-1]
            bodies[-1] = (begins, text + before + piece, there + count)
        else:
            bodies.append((before, piece, count))
    if len(bodies) > 1 and bodies[-1][2] < words / 4:
        before, last, _ = bodies.pop()
        bodies[-1] = (bodies[-1][0], bodies[-1][1] + before + last, 0)
    return [body for _, body, _ in bodies]


def _sentences(paragraph: str) -> Iterator[tuple[str, str]]:
    """(sentence, what stood between it and the next one: a blank, or nothing)."""
    parts = _SENTENCE.split(paragraph)
    for sentence, gap in zip(parts[::2], [*parts[1::2], ""], strict=True):
        quotes = gap.rstrip()
        if text := (sentence + quotes).strip():
            yield text, " " if gap != quotes else ""


def _cut(sentence: str, words: int) -> Iterator[tuple[str, str]]:
    """(part of about ``words`` words, what stood behind it) of a sentence: cut at a line's end (of a table, a list,
    code), after a comma or at a blank where there is one, and nowhere between a letter and its marks."""
    count = word_count(sentence)
    size = max(1, int(len(sentence) * words / count)) if count > 1.25 * words else len(sentence)
    start = 0
    while start < len(sentence):
        end = min(len(sentence), start + size)
        if end < len(sentence):
            end = _place(sentence, start + size // 2, end)
        if part := sentence[start:end].strip():
            yield part, sentence[end : end + 1] if sentence[end : end + 1].isspace() else ""
        start = end


def _place(text: str, least: int, most: int) -> int:
    """Where to cut a text, between two of its places."""
    for sign in ("\n", ". ", " ", "，", "、", "；", "၊"):
        if (found := text.rfind(sign, least, most)) > 0:
            return found + (not sign.isspace())
    while most > least and (unicodedata.category(text[most])[0] == "M" or text[most - 1] in _JOINING):
        most -= 1
    return most


# What the next letter is written with, or after, so that no cut may follow: Khmer's and Burmese's signs for a letter
# below, Thai's and Lao's vowels that stand before their consonant.
_JOINING = "\u17d2\u1039\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4\u200d"


# --- personal data -----------------------------------------------------------------------------------

# Beside an address may stand a word of another script, without a blank (Japanese, Korean).
_LATIN, _OTHER = r"[\p{Latin}\d_]", r"[[\p{L}\p{M}]--\p{Latin}]"
_CASED = r"[\p{Latin}\p{Cyrillic}\p{Greek}\d_]"
_DATE = r"\d\d?([./-])\d\d?\1(?:19|20)\d\d(?!\d)"
_YEAR = r"(?<=\d[/-])\d\d?[/-](?:19|20)\d\d(?!\d)"  # behind the day of a date
_HOURS = r"\d\d?\.\d\d ?- ?\d\d?\.\d\d(?!\d)"
# Between two digits of a number: "030 / 12 34", "(030) - 12 34"; a second number behind such a sign is one of its own.
_GAP = r"(?:[ ().-]{0,2}|[ )]{0,2}/[ (]{0,2}(?!0\d)|[ )]{1,2}-[ (]{1,2}(?!0\d))"
_CONTACTS = tuple(
    (regex.compile(pattern, regex.VERSION1), sign)
    for pattern, sign in (
        (
            rf"(?:[{_LATIN}.+%-]+|[{_OTHER}\d_.+-]+)@(?:(?:[{_LATIN}-]+|[{_OTHER}\d-]+)\.)+(?:[{_LATIN}-]+|{_OTHER}{{2,10}})",
            "[e-mail]",
        ),
        (
            r"(?<![A-Za-z\d])(?:[A-Z]{2}\d{2}(?: ?[A-Z\d]{4}){3,7}(?: ?[A-Z\d]{1,4})?|NO\d\d(?: ?\d{4}){2} ?\d{3})(?![A-Za-z\d])",
            "[account]",
        ),
        (
            rf"(?<!{_CASED}|\d[.,])(?!{_DATE}|{_HOURS}|{_YEAR})(?:\+|\(?0)\d(?:{_GAP}\d){{6,14}}(?!{_CASED})",
            "[telephone]",
        ),
    )
)


def mask_contacts(text: str) -> str:
    """Text without e-mail addresses, telephone numbers (with + or 0 in front) and bank accounts (IBAN), in the digits
    and hyphens of any script. It knows no names: for those give a hook of your own."""
    for pattern, sign in _CONTACTS:
        parts, at = [], 0
        for found in pattern.finditer("".join(map(_plain, text))):
            parts += [text[at : found.start()], sign]
            at = found.end()
        text = "".join([*parts, text[at:]])
    return text


@cache
def _plain(sign: str) -> str:
    """A sign as ASCII has it, one for one: a digit of any script, a wide letter, a hyphen or a blank of any kind."""
    if sign.isascii():
        return sign
    narrow = unicodedata.normalize("NFKC", sign)
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    if unicodedata.category(sign) == "Pd" or sign == "\u2212":
        return "-"
    return narrow if len(narrow) == 1 and narrow.isascii() else sign


def mask_of(named: str) -> Callable[[str], str] | None:
    """The function that masks personal data: "contacts", "module:function" of your own, or "" for none.

    Raises DocumentsError if it cannot be imported, or does not make text of text.
    """
    if not named:
        return None
    if named == "contacts":
        return mask_contacts
    module, _, function = named.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # where python -m looks, and an installed command does not
    try:
        hook = getattr(importlib.import_module(module), function)
        made = hook("A text of Anna Berg, anna@example.org.")
    except Exception as error:
        raise DocumentsError(
            f"--mask {named!r} cannot be used ({type(error).__name__}: {error}): write contacts, or module:function "
            "of a function that takes a text and returns it masked"
        ) from None
    if not isinstance(made, str):
        raise DocumentsError(f"--mask {named!r} returns {type(made).__name__}, and a text is wanted")
    return hook
