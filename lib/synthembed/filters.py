"""Filters on examples; every drop is counted with its reason.

The paper drops replies that are not the wanted JSON, and exact duplicates (Sec. 3.1). The other
filters are ours and are switched in the profile's ``analyze`` section.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

import regex

from .examples import Drops, Example
from .profile import Analyze
from .taxonomy import Item


def normalised(text: str) -> str:
    """Lower case, one form of each character, no punctuation or spacing: for equality of texts."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in text if unicodedata.category(c)[0] in "LNM")


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


@cache
def _detector():
    from lingua import LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()


MIN_LANGUAGE_CHARACTERS = 40  # shorter texts do not tell their language reliably


def detected_language(text: str) -> str | None:
    """ISO 639-1 code of a text, or None if it is too short to tell."""
    if len(normalised(text)) < MIN_LANGUAGE_CHARACTERS:
        return None
    found = _detector().detect_language_of(text)
    code = found.iso_code_639_1.name.lower() if found else None
    return {"nb": "no", "nn": "no"}.get(code, code)


def detectable_languages() -> set[str]:
    from lingua import Language

    codes = {language.iso_code_639_1.name.lower() for language in Language.all()}
    return codes | {"no"}


LEAST_WORDS = 5  # shorter texts repeat without meaning anything; of them, equality alone is judged


class NearDuplicates:
    """MinHash over word 3-shingles: a text too close to an earlier one (Jaccard over a threshold)."""

    def __init__(self, threshold: float, permutations: int = 64):
        from datasketch import MinHashLSH

        self.threshold, self.permutations = threshold, permutations
        self.index = MinHashLSH(threshold=threshold, num_perm=permutations)
        self.hashes: dict[str, object] = {}

    def hash(self, text: str):
        from datasketch import MinHash

        tokens = words(text)
        shingles = {" ".join(tokens[i : i + 3]) for i in range(max(1, len(tokens) - 2))}
        found = MinHash(num_perm=self.permutations, hashfunc=_hash32)
        found.update_batch([s.encode() for s in shingles])
        return found

    def find(self, text: str) -> str | None:
        """Key of an earlier near-duplicate of ``text``, if there is one."""
        return self._near(self.hash(text)) if len(words(text)) >= LEAST_WORDS else None

    def _near(self, found) -> str | None:
        for key in self.index.query(found):
            if self.hashes[key].jaccard(found) > self.threshold:
                return key
        return None

    def seen(self, key: str, text: str) -> bool:
        """Whether ``text`` is near an earlier one; if not, it is remembered under ``key``."""
        if len(words(text)) < LEAST_WORDS:
            return False
        found = self.hash(text)
        if self._near(found):
            return True
        self.hashes[key] = found
        self.index.insert(key, found)
        return False


def _hash32(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "big")


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


def filtered(
    examples: Iterable[Example],
    settings: Analyze,
    drops: Drops,
    items: dict[str, Item] | None = None,
    evaluation_texts: Iterable[str] = (),
) -> Iterator[Example]:
    """The examples that pass every filter that is on; the rest is counted in ``drops``.

    ``items`` (by example id) tell which lengths were asked for; ``evaluation_texts`` are what no
    example may contain (Appendix B).
    """
    checks = list(_checks(settings, items or {}, evaluation_texts))
    for example in examples:
        reason = next((name for name, fails in checks if fails(example)), None)
        if reason:
            drops.add(reason, f"{example.query} => {example.positive}")
        else:
            drops.kept += 1
            yield example


def _checks(settings: Analyze, items: dict[str, Item], evaluation_texts: Iterable[str]):
    """(reason, test) of each filter that is on, cheap ones first; near-duplicates remember what passed."""
    if settings.refusals:
        yield "refusal phrase", lambda e: any(map(is_refusal, (e.query, *e.documents())))
    if settings.negative_equals_positive:
        yield (
            "negative equals positive",
            lambda e: bool(e.negative) and normalised(e.positive) == normalised(e.negative),
        )
    if settings.length_out_of_range:
        yield "length out of range", lambda e: e.id in items and not length_in_range(e, items[e.id])
    if settings.copied_query:
        yield "query copied into positive", _copies
    if settings.leakage:
        leaks = Leakage(evaluation_texts, settings.near_duplicate_threshold)
        yield "also in an evaluation set", leaks
    if settings.language_mismatch:
        detectable = detectable_languages()
        yield "language mismatch", lambda e: _wrong_language(e, detectable)
    if settings.exact_duplicates:
        seen: set[bytes] = set()

        def repeated(e: Example) -> bool:
            key = hashlib.blake2b(
                f"{normalised(e.query)}|{normalised(e.positive)}".encode(), digest_size=16
            ).digest()
            return key in seen or bool(seen.add(key))

        yield "exact duplicate", repeated
    if settings.near_duplicates:
        queries, documents = (NearDuplicates(settings.near_duplicate_threshold) for _ in range(2))

        def near(e: Example) -> bool:
            if e.family == "bitext":
                return queries.seen(e.id, e.query)
            found = documents.find(e.positive) or queries.find(e.query)
            if not found:
                queries.seen(e.id, e.query)
                documents.seen(e.id, e.positive)
            return bool(found)

        yield "near-duplicate", near


class Leakage:
    """Whether an example shares a text, or nearly, with evaluation data (Appendix B: string match).

    Texts of fewer than five words say little and are not counted, as in the paper.
    """

    def __init__(self, texts: Iterable[str], threshold: float):
        self.exact: set[str] = set()
        self.near = NearDuplicates(threshold)
        for number, text in enumerate(dict.fromkeys(texts)):
            if len(words(text)) >= LEAST_WORDS:
                self.exact.add(normalised(text))
                self.near.seen(str(number), text)

    def __call__(self, example: Example) -> bool:
        texts = [t for t in (example.query, *example.documents()) if len(words(t)) >= LEAST_WORDS]
        return any(normalised(t) in self.exact or self.near.find(t) for t in texts)


def _copies(example: Example) -> bool:
    """Only where the query should be answered, not repeated: retrieval with queries of 4+ words."""
    if example.family != "short-long" or len(words(example.query)) < 4:
        return False
    return longest_copied_run(example.query, example.positive) > 0.6


def _wrong_language(example: Example, detectable: set[str]) -> bool:
    pairs = [(example.query, example.language)]
    if example.family != "long-short":  # labels are too short to tell
        other = example.target_language or example.language
        pairs += [(text, other) for text in example.documents()]
    for text, wanted in pairs:
        found = detected_language(text) if wanted in detectable else None
        if found and found != wanted:
            return True
    return False
