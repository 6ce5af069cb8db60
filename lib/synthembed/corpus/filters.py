"""Filters on examples; every drop is counted with its reason.

The paper drops replies that are not the wanted JSON, and exact duplicates (Sec. 3.1). The other
filters are ours and are switched in the profile's ``analyze`` section.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache

import numpy as np
import regex

from .examples import Drops, Example
from .profile import Analyze
from .taxonomy import LANGUAGES, Item

_NO_LETTER = regex.compile(r"[^\p{L}\p{N}\p{M}]+")


def normalised(text: str) -> str:
    """Lower case, one form of each character, no punctuation or spacing: for equality of texts."""
    return _NO_LETTER.sub("", unicodedata.normalize("NFKC", text).casefold())


# Letters with their marks (vowel signs of Indic scripts are marks), or digits; one character at a time
# in scripts that do not separate words.
_UNSPACED = r"[\u0E00-\u0EFF\u3040-\u30FF\u4E00-\u9FFF]"
_WORD = regex.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])+")


def words(text: str) -> list[str]:
    """Words, or single characters in scripts that do not separate words."""
    return _WORD.findall(text.casefold())


def longest_copied_run(query: str, document: str) -> float:
    """Longest run of the query's words that stands in the document, as a share of the query's words."""
    ours, theirs = words(query), words(document)
    best, previous = 0, [0] * (len(theirs) + 1)
    for word in ours:
        row = [0] * (len(theirs) + 1)
        for j, other in enumerate(theirs):
            if word == other:
                row[j + 1] = previous[j] + 1
        best, previous = max(best, max(row)), row
    return best / len(ours) if ours else 0.0


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
    letters = len(normalised(text))
    if letters < MIN_LANGUAGE_CHARACTERS:
        return None
    found = _detectors()[letters < TRIGRAMS_SUFFICE].detect_language_of(text)
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
    if wanted not in detectable_languages() or len(normalised(text)) < MIN_LANGUAGE_CHARACTERS:
        return True
    sample = text if len(text) <= 2 * SAMPLE else f"{text[:SAMPLE]} {text[-SAMPLE:]}"
    allowed = next((group for group in _ALIKE if wanted in group), {wanted})
    found = _detectors()[0].detect_language_of(sample)
    return (found and _code(found) in allowed) or detected_language(text) in (*allowed, None)


LEAST_WORDS = 5  # shorter texts repeat without meaning anything; of them, equality alone is judged


class NearDuplicates:
    """MinHash over word 3-shingles: a text too close to an earlier one (Jaccard over a threshold).

    Signatures and the choice of bands are datasketch's; the buckets are one dictionary of ours, as
    datasketch's take three times the memory.
    """

    def __init__(self, threshold: float, permutations: int = 64):
        from datasketch import MinHashLSH

        self.threshold, self.permutations = threshold, permutations
        self.bands = MinHashLSH(threshold=threshold, num_perm=permutations).hashranges
        self.keys: list[str] = []
        self.signatures: list[np.ndarray] = []
        self.buckets: dict[int, tuple[int, ...]] = {}

    def find(self, text: str) -> str | None:
        """Key of an earlier near-duplicate of ``text``, if there is one."""
        return self._near(_signature(text, self.permutations)) if len(words(text)) >= LEAST_WORDS else None

    def _buckets_of(self, signature: np.ndarray) -> list[int]:
        return [hash64(bytes([n]) + signature[a:b].tobytes()) for n, (a, b) in enumerate(self.bands)]

    def _near(self, signature: np.ndarray) -> str | None:
        candidates = {row for bucket in self._buckets_of(signature) for row in self.buckets.get(bucket, ())}
        for row in sorted(candidates):
            if np.count_nonzero(self.signatures[row] == signature) > self.threshold * self.permutations:
                return self.keys[row]
        return None

    def seen(self, key: str, text: str) -> bool:
        """Whether ``text`` is near an earlier one; if not, it is remembered under ``key``."""
        if len(words(text)) < LEAST_WORDS:
            return False
        signature = _signature(text, self.permutations)
        if self._near(signature):
            return True
        row = len(self.keys)
        self.keys.append(key)
        self.signatures.append(signature)
        for bucket in self._buckets_of(signature):
            self.buckets[bucket] = (*self.buckets.get(bucket, ()), row)
        return False


@lru_cache(64)  # the filters look at the same texts one after the other
def _signature(text: str, permutations: int) -> np.ndarray:
    tokens = words(text)
    shingles = {" ".join(tokens[i : i + 3]) for i in range(max(1, len(tokens) - 2))}
    found = _empty(permutations).copy()
    found.update_batch([s.encode() for s in shingles])
    return found.hashvalues


@cache  # drawing the permutations costs as much as hashing a text
def _empty(permutations: int):
    from datasketch import MinHash

    return MinHash(num_perm=permutations, hashfunc=_hash32)


def _hash32(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "big")


def hash64(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


# How a refusal begins, in the language that assistants mostly refuse in.
_REFUSAL = re.compile(
    r"^(i'?m sorry|sorry, (but )?i|i (cannot|can't|am unable|am not able)|as an ai\b|i apologi[sz]e)",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    return bool(_REFUSAL.match(text.strip().replace("\u2019", "'")))


# What a placeholder asks for, as (least, most) words; a sixth more or less is within the range, as
# writers (and word counters) differ. None: no bound.
_QUERY_LENGTH = {"less than 5 words": (1, 5), "5 to 15 words": (4, 18), "at least 10 words": (9, None)}
CHARACTERS_PER_WORD = 1.6  # of scripts that do not separate words


def word_count(text: str) -> float:
    """Words; in scripts that do not separate them, characters over CHARACTERS_PER_WORD."""
    tokens = words(text)
    unspaced = sum(bool(re.match(_UNSPACED, t)) for t in tokens)
    return len(tokens) - unspaced + unspaced / CHARACTERS_PER_WORD


def length_in_range(example: Example, item: Item) -> bool:
    """Whether the texts have the lengths that the item's placeholders asked for (Tables 8, 9, 11)."""
    asked = dict(item.placeholders)
    bounds: list[tuple[str, float, float | None]] = []
    if item.family == "short-long":
        bounds.append((example.query, *_QUERY_LENGTH[asked["query_length"]]))
        least = asked["num_words"] * 5 / 6
        bounds += [(d, least, 2.5 * asked["num_words"]) for d in example.documents()]
    elif item.family == "long-short":
        wanted = int(re.findall(r"\d+", asked["num_words"])[0])
        less = asked["num_words"].startswith("less")
        bounds.append((example.query, 1, wanted) if less else (example.query, wanted * 5 / 6, None))
    elif item.family == "long-long":
        bounds += [(t, asked["num_words"] * 5 / 6, None) for t in (example.query, example.positive)]
    return all(least <= word_count(t) <= (most or float("inf")) for t, least, most in bounds)


# The switches of the profile's ``analyze`` section in the order of the filters, and the reason that
# each one counts its drops under.
REASONS = {
    "refusals": "refusal phrase",
    "negative_equals_positive": "negative equals positive",
    "length_out_of_range": "length out of range",
    "copied_query": "query copied into positive",
    "leakage": "also in an evaluation set",
    "language_mismatch": "language mismatch",
    "exact_duplicates": "exact duplicate",
    "near_duplicates": "near-duplicate",
}


def filtered(
    examples: Iterable[Example],
    settings: Analyze,
    drops: Drops,
    items: dict[str, Item] | None = None,
    evaluation_texts: Iterable[str] = (),
    benchmark_texts: Iterable[str] = (),
) -> Iterator[Example]:
    """The examples that pass every filter that is on; the rest is counted in ``drops``.

    ``items`` (by example id) tell which lengths were asked for. No example may contain one of
    ``benchmark_texts``, nor anything near one of ``evaluation_texts`` (Appendix B): the first may be
    millions, the second are held in memory.
    """
    leaks = (
        Leakage(evaluation_texts, benchmark_texts, settings.near_duplicate_threshold)
        if settings.leakage
        else None
    )
    tests = _tests(settings, items or {}, leaks)
    checks = [(reason, tests[switch]) for switch, reason in REASONS.items() if getattr(settings, switch)]
    for example in examples:
        reason = next((name for name, fails in checks if fails(example)), None)
        if reason:
            drops.add(reason, f"{example.query} => {example.positive}")
        else:
            drops.kept += 1
            yield example


def _tests(settings: Analyze, items: dict[str, Item], leaks: Leakage | None) -> dict:
    """Switch → test of an example; the two for duplicates remember what has passed the others."""
    seen: set[bytes] = set()

    def repeated(e: Example) -> bool:
        text = f"{normalised(e.query)}|{normalised(e.positive)}"
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return key in seen or bool(seen.add(key))

    queries, documents = (NearDuplicates(settings.near_duplicate_threshold) for _ in range(2))

    def near(e: Example) -> bool:
        if e.family == "bitext":
            return queries.seen(e.id, e.query)
        found = documents.find(e.positive) or queries.find(e.query)
        if not found:
            queries.seen(e.id, e.query)
            documents.seen(e.id, e.positive)
        return bool(found)

    return {
        "refusals": lambda e: any(map(is_refusal, (e.query, *e.documents()))),
        "negative_equals_positive": lambda e: (
            bool(e.negative) and normalised(e.positive) == normalised(e.negative)
        ),
        "length_out_of_range": lambda e: e.id in items and not length_in_range(e, items[e.id]),
        "copied_query": _copies,
        "leakage": leaks,
        "language_mismatch": _wrong_language,
        "exact_duplicates": repeated,
        "near_duplicates": near,
    }


class Leakage:
    """Whether an example shares a text with evaluation data (Appendix B: string match, whatever the
    case and spacing), or nearly one with ``texts``, which are few enough to be compared by likeness.

    Texts of fewer than five words say little and are not counted, as in the paper.
    """

    def __init__(self, texts: Iterable[str], benchmark: Iterable[str], threshold: float):
        self.near = NearDuplicates(threshold)
        exact = array("Q")  # 8 bytes a text: a benchmark has millions
        for number, text in enumerate(dict.fromkeys(texts)):
            if len(words(text)) >= LEAST_WORDS:
                exact.append(_text64(text))
                self.near.seen(str(number), text)
        exact.extend(_text64(text) for text in benchmark if len(words(text)) >= LEAST_WORDS)
        self.exact = np.unique(np.array(exact, dtype=np.uint64))

    def __call__(self, example: Example) -> bool:
        texts = [t for t in (example.query, *example.documents()) if len(words(t)) >= LEAST_WORDS]
        return any(self._exactly(t) or self.near.find(t) for t in texts)

    def _exactly(self, text: str) -> bool:
        key = np.uint64(_text64(text))
        place = np.searchsorted(self.exact, key)
        return place < len(self.exact) and self.exact[place] == key


def _text64(text: str) -> int:
    return hash64(normalised(text).encode())


def _copies(example: Example) -> bool:
    """Only where the query should be answered, not repeated: retrieval with queries of 4+ words."""
    if example.family != "short-long" or len(words(example.query)) < 4:
        return False
    return longest_copied_run(example.query, example.positive) > 0.6


def _wrong_language(example: Example) -> bool:
    pairs = [(example.query, example.language)]
    if example.family != "long-short":  # labels are too short to tell
        other = example.target_language or example.language
        pairs += [(text, other) for text in example.documents()]
    return not all(in_language(text, wanted) for text, wanted in pairs)
