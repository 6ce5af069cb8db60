"""Which language a text is in, as far as can be told."""

from __future__ import annotations

from functools import cache

from synthembed.corpus.texts import letters
from synthembed.profile.taxonomy import LANGUAGES

MIN_LANGUAGE_CHARACTERS = 40  # shorter texts do not tell their language reliably
TRIGRAMS_SUFFICE = 120  # characters from which on lingua itself reads trigrams only
SAMPLE = 100  # characters of the beginning and of the end that are looked at first

# Language pairs that lingua mistakes for each other too often to drop an example for it.
_ALIKE = ({"bs", "hr", "sr"}, {"id", "ms"})


def _code(language) -> str:
    code = language.iso_code_639_1.name.lower()
    return {"nb": "no", "nn": "no"}.get(code, code)


@cache
def _detectors():
    """(quick, careful) detectors of those of our languages that lingua knows.

    The quick one reads trigrams only and takes 80 MB; the careful one takes 1.1 GB, loaded when a
    short text first needs it.
    """
    from lingua import Language, LanguageDetectorBuilder

    def builder():
        return LanguageDetectorBuilder.from_languages(*(x for x in Language.all() if _code(x) in LANGUAGES))

    return builder().with_low_accuracy_mode().build(), builder().build()


def detected_language(text: str) -> str | None:
    """ISO 639-1 code of a text, or None if it is too short to tell."""
    length = letters(text)
    if length < MIN_LANGUAGE_CHARACTERS:
        return None
    found = _detectors()[length < TRIGRAMS_SUFFICE].detect_language_of(text)
    return _code(found) if found else None


@cache
def detectable_languages() -> frozenset[str]:
    from lingua import Language

    return frozenset(map(_code, Language.all())) & frozenset(LANGUAGES)


def in_language(text: str, wanted: str) -> bool:
    """Whether a text is in the language, as far as can be told: short texts and languages that the
    detector does not know pass.

    Most texts are settled by their beginning and end; only where these look like another language
    is the whole text judged.
    """
    if wanted not in detectable_languages() or letters(text) < MIN_LANGUAGE_CHARACTERS:
        return True
    sample = text if len(text) <= 2 * SAMPLE else f"{text[:SAMPLE]} {text[-SAMPLE:]}"
    allowed = next((group for group in _ALIKE if wanted in group), {wanted})
    found = _detectors()[0].detect_language_of(sample)
    return (found and _code(found) in allowed) or detected_language(text) in (*allowed, None)
