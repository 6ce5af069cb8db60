"""Filters on examples; every drop is counted with its reason.

The paper drops replies that are not the wanted JSON, and exact duplicates (Sec. 3.1). The other
filters are ours and are switched in the profile's ``analyze`` section.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from synthembed.corpus.example import Drops, Example
from synthembed.corpus.languages import in_language
from synthembed.corpus.texts import (
    LEAST_WORDS,
    NearDuplicates,
    hash64,
    longest_copied_run,
    normalised,
    word_count,
    words,
)
from synthembed.generation.items import Item
from synthembed.profile.settings import Analyze

# How a refusal begins, in the language that assistants mostly refuse in: with an apology and what it is for, or with
# the request that it is about. People too write "I can't log in" and "I'm sorry to hear that".
_UNABLE = r"\bi(?:'m| am)? (?:cannot|can't|can not|unable|not able)\b"
_REQUEST = (
    r"(?:assist|comply|fulfil|help(?: you)? with (?:that|this)"
    r"|(?:provide|generate|create|write|produce|answer) (?:that|this|such|any|content)\b)"
)
_REFUSAL = re.compile(
    rf"as an ai\b|(?:i(?:'?m| am) (?:\w+ )?sorry|sorry|i apologi[sz]e)\b.{{0,40}}?{_UNABLE}|{_UNABLE}(?: to)? {_REQUEST}",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    return bool(_REFUSAL.match(text.strip().replace("\u2019", "'")))


# What a placeholder asks for, as (least, most) words; a sixth more or less is within the range, as
# writers (and word counters) differ. None: no bound.
_QUERY_LENGTH = {"less than 5 words": (1, 5), "5 to 15 words": (4, 18), "at least 10 words": (9, None)}


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
    "loose_duplicates": "duplicate but for case and punctuation",
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
            drops.add(reason, f"{example.query} => {example.positive}", example=example.id)
        else:
            drops.kept += 1
            yield example


def _tests(settings: Analyze, items: dict[str, Item], leaks: Leakage | None) -> dict:
    """Switch → test of an example; those for duplicates remember what has passed the others."""
    exact, loose = set(), set()

    def repeated(query: str, positive: str, seen: set[bytes]) -> bool:
        text = f"{len(query)}:{query}{positive}".encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(text, digest_size=16).digest()
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
        "exact_duplicates": lambda e: repeated(e.query, e.positive, exact),
        "loose_duplicates": lambda e: repeated(normalised(e.query), normalised(e.positive), loose),
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
