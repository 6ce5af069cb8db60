"""Which language documents are in, and whether a query is in its passage's: to choose judges, and to drop strays.

A collection is told by one look at a sample of it. A single query is too short to be sure of, so that only two things
are held against it: none of the passage's scripts, or English for a passage that is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import regex

from synthembed.corpus.texts import letters

LOOKED_AT, SIGNS = 40, 200  # passages of a collection, and characters of each
TELLS, TELLS_QUERY = 100, 25  # letters from which on a passage, and a query, tell their language
SURE = 0.1  # of the passage's language in a query, below which it may be said to be English
SCRIPTS = ("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil",
           "Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Khmer", "Myanmar", "Georgian", "Armenian", "Ethiopic",
           "Tibetan", "Hangul")  # fmt: skip
_LETTERS = {name: regex.compile(rf"\p{{Script={name}}}") for name in SCRIPTS}
_LETTERS["East Asian"] = regex.compile(r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]")


@cache
def _detector():
    """lingua's quick one, 80 MB."""
    from lingua import LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()


def _of(text: str):
    """lingua's language of a text, None if it is too short to tell or of none that lingua knows."""
    return _detector().detect_language_of(text) if letters(text) >= TELLS else None


def of(text: str) -> str | None:
    """The English name of a text's language, None if it cannot be told."""
    return found.name.title() if (found := _of(text)) else None


def surely(text: str) -> tuple[str, float]:
    """lingua's name of a text's language, however short it is, and how sure that is; ("", 0) if it knows none."""
    found = _detector().detect_language_of(text)
    return (found.name, _detector().compute_language_confidence(text, found)) if found else ("", 0.0)


def of_collection(texts: Sequence[str]) -> str | None:
    """The language that most of a collection is in, by a sample."""
    sample = texts[:: max(1, len(texts) // LOOKED_AT)][:LOOKED_AT]
    return of("\n".join(text[:SIGNS] for text in sample))


def told_of(texts: Sequence[str]) -> str:
    """What a collection is in, in words: a language, which of one that the detector does not know is one like it, or a
    script, which none that it knows is written in."""
    if language := of_collection(texts):
        return f"taken for {language}"
    seen = scripts(" ".join(text[:SIGNS] for text in texts[:LOOKED_AT])).most_common(1)
    return f"in {seen[0][0]} script" if seen and seen[0][0] != "Latin" else ""


def scripts(text: str) -> Counter:
    """Letters by script."""
    found = Counter({name: len(pattern.findall(text)) for name, pattern in _LETTERS.items()})
    return +found


def strays(query: str, passage: str) -> bool:
    """Whether a query is surely in another language than its passage."""
    ours, theirs = scripts(query), scripts(passage)
    if ours and theirs and not ours.keys() & theirs.keys():
        return True
    if "Latin" not in ours or ours.most_common(1)[0][0] != "Latin" or letters(query) < TELLS_QUERY:
        return False
    language, detector = _of(passage), _detector()
    if language is None or language.name == "ENGLISH":
        return False
    found = detector.detect_language_of(query)
    return (
        bool(found)
        and found.name == "ENGLISH"
        and detector.compute_language_confidence(query, language) < SURE
    )
