"""What a corpus is made of, in numbers (Fig. 2 and beyond), and how good it is; reads examples only.

Filters (filters.py) decide about one example. The measures are shares over the corpus as it was written,
before any filter, with the bound that a corpus to train on has to hold; every share is of what could be
judged, and says how much that was.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

import pandas as pd

from synthembed.corpus.example import Drops, Example
from synthembed.corpus.filters import REASONS
from synthembed.corpus.languages import detectable_languages, detected_language
from synthembed.corpus.texts import NearDuplicates, longest_copied_run, word_count, words
from synthembed.generation.items import Item
from synthembed.profile.settings import Analyze
from synthembed.profile.taxonomy import (
    FAMILIES,
    LANGUAGES,
    PAPER_COUNTS,
    PAPER_LANGUAGE_SHARES,
    PAPER_OTHERS,
    PLACEHOLDERS,
)

NEAR = 0.7  # Jaccard similarity of word 3-shingles, estimated by MinHash
COPIED = 0.6  # of the query's words, in one run
ON_TOPIC = 0.5  # of the positive's BM25 score

# Measure → (relation, bound, what it says).
BOUNDS: dict[str, tuple[str, float, str]] = {
    "schema_valid": (">=", 1.0, "replies that are the JSON that was asked for"),
    "near_duplicate_queries": ("<", 0.005, "queries too close to one of another example"),
    "near_duplicate_documents": ("<", 0.005, "documents too close to one of another example"),
    "language_as_requested": (">=", 0.97, "texts long enough to tell that are in the language asked for"),
    "query_copied": ("<", 0.02, "retrieval queries that their positive repeats in one run"),
    "length_as_asked": (">=", 0.90, "texts with the length that was asked for"),
    "negative_on_topic": (">=", 0.70, "hard negatives with at least half of the positive's BM25 score"),
    "distinct_2_english_queries": (">=", 0.75, "word pairs of English queries that are distinct"),
    "most_uses_of_an_instruction": ("<=", 12, "uses of the most used task instruction"),
    "instructions": (">=", 350, "distinct task instructions"),
    "languages": (">=", 30, "languages"),
    "scripts": (">=", 10, "scripts"),
    "family_gap": ("<=", 0.03, "largest distance of a task family's share from Figure 2"),
    "language_gap": ("<=", 0.03, "largest distance of a named language's share from Figure 2"),
}


def measures(examples: list[Example], items: dict[str, Item], invalid: int = 0) -> dict:
    """Every measure in BOUNDS, as a share of 1 or a count, and under ``judged`` of how many texts.

    ``items`` (by example id) tell what was asked for; ``invalid`` is how many replies were no example.
    A share of nothing is None.
    """
    shares = {
        "schema_valid": (len(examples), len(examples) + invalid),
        "near_duplicate_queries": _near([[e.query] for e in examples]),
        "near_duplicate_documents": _near([e.documents() for e in examples if e.family != "long-short"]),
        "language_as_requested": _languages(examples),
        "query_copied": _copied(examples),
        "length_as_asked": _lengths(examples, items),
        "negative_on_topic": _on_topic(examples),
    }
    counted = statistics(examples)
    return {
        **{name: _share(*pair) for name, pair in shares.items()},
        "distinct_2_english_queries": counted["distinct_2_english_queries"],
        "most_uses_of_an_instruction": counted["most_uses_of_an_instruction"],
        "instructions": counted["instructions"],
        "languages": counted["language_count"],
        "scripts": len(scripts(examples)),
        "family_gap": _gap(Counter(e.family for e in examples), PAPER_COUNTS),
        "language_gap": _gap(
            Counter(e.language if e.language in PAPER_LANGUAGE_SHARES else "" for e in examples),
            PAPER_LANGUAGE_SHARES | {"": PAPER_OTHERS},
        ),
        "judged": {name: judged for name, (_, judged) in shares.items()},
    }


def held(found: dict) -> dict[str, bool | None]:
    """Whether each measure holds its bound; None where nothing could be judged."""
    compare = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, "<": lambda a, b: a < b}
    return {
        name: None if found[name] is None else compare[relation](found[name], bound)
        for name, (relation, bound, _) in BOUNDS.items()
    }


def table(found: dict) -> pd.DataFrame:
    """The measures beside their bounds, one row each."""
    holds = held(found)
    return pd.DataFrame(
        {
            "measure": name,
            "found": found[name],
            "bound": f"{relation} {bound}",
            "held": {True: "yes", False: "no", None: "not judged"}[holds[name]],
            "of": found["judged"].get(name),
            "what": what,
        }
        for name, (relation, bound, what) in BOUNDS.items()
    ).astype({"of": "Int64"})


def proportions(examples: list[Example]) -> pd.DataFrame:
    """Examples per family and language group (rows: Figure 2's languages and "Others")."""
    rows = Counter(
        (LANGUAGES[e.language] if e.language in PAPER_LANGUAGE_SHARES else "Others", e.family)
        for e in examples
    )
    named = [LANGUAGES[c] for c in PAPER_LANGUAGE_SHARES] + ["Others"]
    frame = pd.DataFrame([[rows[name, f] for f in FAMILIES] for name in named], named, list(FAMILIES))
    return frame.assign(all=frame.sum(axis=1)).T.assign(all=lambda f: f.sum(axis=1)).T


def review_sheet(examples: list[Example], count: int = 100, seed: int = 4) -> tuple[pd.DataFrame, list[str]]:
    """Retrieval examples for a reader who does not know which document is the positive.

    Returns the sheet (task, query, A, B) and its key: the letter of the positive, row by row.
    """
    rng = random.Random(seed)
    pool = sorted((e for e in examples if e.family == "short-long" and e.negative), key=lambda e: e.id)
    rows, key = [], []
    for e in rng.sample(pool, min(count, len(pool))):
        flip = rng.random() < 0.5
        first, second = (e.negative, e.positive) if flip else (e.positive, e.negative)
        rows.append({"id": e.id, "task": e.instruction, "query": e.query, "A": first, "B": second})
        key.append("B" if flip else "A")
    return pd.DataFrame(rows, columns=["id", "task", "query", "A", "B"]), key


def scripts(examples: Iterable[Example]) -> Counter:
    """Languages per script of their queries: the first word of most letters' Unicode names."""
    letters: dict[str, Counter] = defaultdict(Counter)
    for e in examples:
        for c in e.query:
            if c.isalpha():
                letters[e.language][unicodedata.name(c, "?").split()[0]] += 1
    return Counter(found.most_common(1)[0][0] for found in letters.values())


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _gap(counts: Counter, published: dict[str, float]) -> float | None:
    """Largest distance between shares of ``counts`` and of ``published`` (each of its own sum)."""
    ours, theirs = sum(counts.values()), sum(published.values())
    if not ours:
        return None
    return round(max(abs(counts[k] / ours - n / theirs) for k, n in published.items()), 4)


def _near(groups: list[list[str]]) -> tuple[int, int]:
    """Texts that are near a text of an earlier group. Within a group closeness is no flaw: the two
    translations of a bitext example differ in a word or two because the prompt asks for that."""
    index, near = NearDuplicates(NEAR), 0
    for number, texts in enumerate(groups):
        near += sum(index.find(text) is not None for text in texts)
        for place, text in enumerate(texts):
            index.seen(f"{number}/{place}", text)
    return near, sum(map(len, groups))


def _languages(examples: list[Example]) -> tuple[int, int]:
    """Texts whose detected language is the one asked for; labels are too short to judge."""
    right = judged = 0
    detectable = detectable_languages()
    for e in examples:
        wanted = e.target_language or e.language
        documents = [] if e.family == "long-short" else e.documents()
        for text, code in [(e.query, e.language), *((d, wanted) for d in documents)]:
            if code in detectable and (found := detected_language(text)):
                right, judged = right + (found == code), judged + 1
    return right, judged


def _copied(examples: list[Example]) -> tuple[int, int]:
    """Retrieval examples whose positive holds more than COPIED of the query's words in one run."""
    pairs = [(e.query, e.positive) for e in examples if e.family == "short-long"]
    return sum(longest_copied_run(q, p) > COPIED for q, p in pairs), len(pairs)


# Literally what the placeholders say; the filter (filters.length_in_range) gives a sixth more room.
_QUERY = {"less than 5 words": (1, 4), "5 to 15 words": (5, 15), "at least 10 words": (10, None)}
_WITHOUT_SPACES = {"ja", "km", "lo", "my", "th", "zh"}


def _lengths(examples: list[Example], items: dict[str, Item]) -> tuple[int, int]:
    """Texts whose length is within what their request asked for, counted as words between spaces
    (characters over filters.CHARACTERS_PER_WORD in scripts that do not separate words)."""
    right = judged = 0
    for e in examples:
        asked = dict(items[e.id].placeholders) if e.id in items else {}
        for text, least, most in _asked(e, asked):
            count = word_count(text) if e.language in _WITHOUT_SPACES else len(text.split())
            right += least <= count and (most is None or count <= most)
            judged += 1
    return right, judged


def _asked(e: Example, asked: dict) -> list[tuple[str, float, float | None]]:
    if e.family == "short-long" and asked:
        return [(e.query, *_QUERY[asked["query_length"]])] + [
            (d, asked["num_words"], None) for d in e.documents()
        ]
    if e.family == "long-short" and asked:
        number = int(re.findall(r"\d+", asked["num_words"])[0])
        less = asked["num_words"].startswith("less")
        return [(e.query, 1, number - 1) if less else (e.query, number, None)]
    if e.family == "long-long" and asked:
        return [(text, asked["num_words"], None) for text in (e.query, e.positive)]
    return []


def _on_topic(examples: list[Example]) -> tuple[int, int]:
    """Retrieval examples whose negative scores at least ON_TOPIC of what the positive scores.

    BM25 (Lucene's variant, k1 = 1.5, b = 0.75) of the query's words against both documents, with
    document frequencies and mean length over all positives and negatives of the retrieval examples.
    An example with neither document scoring is judged and counts as off topic.
    """
    import bm25s

    chosen = [e for e in examples if e.family == "short-long" and e.negative]
    if not chosen:
        return 0, 0
    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    index.index([words(d) for e in chosen for d in (e.positive, e.negative)], show_progress=False)
    right = 0
    for number, e in enumerate(chosen):
        tokens = words(e.query)
        if not tokens:
            continue
        positive, negative = index.get_scores(tokens)[2 * number : 2 * number + 2]
        right += negative > 0 and negative >= ON_TOPIC * positive
    return right, len(chosen)


def shares(counts: Counter) -> dict[str, float]:
    """Counts as per cent of their sum, most frequent first."""
    total = sum(counts.values()) or 1
    return {key: round(100 * n / total, 2) for key, n in counts.most_common()}


def statistics(examples: list[Example]) -> dict:
    """The content of statistics.json; languages as Figure 2 groups them, by the query's language."""
    languages = Counter(e.language for e in examples)
    named = Counter({LANGUAGES[c]: n for c, n in languages.items() if c in PAPER_LANGUAGE_SHARES})
    named["Others"] = sum(languages.values()) - sum(named.values())
    brainstormed = Counter(e.instruction for e in examples if e.family not in ("sts", "bitext"))
    english = [e.query for e in examples if e.language == "en"]
    return {
        "examples": len(examples),
        "families": {f: shares(Counter(e.family for e in examples)).get(f, 0.0) for f in FAMILIES},
        "languages": shares(named),
        "language_count": len(languages | Counter(e.target_language for e in examples if e.target_language)),
        "instructions": len(brainstormed),
        "most_uses_of_an_instruction": max(brainstormed.values(), default=0),
        "distinct_2_english_queries": round(distinct(english, 2), 4),
    }


def distinct(texts: list[str], n: int) -> float:
    """Distinct n-grams of words over all n-grams of words: 1 means that none is repeated."""
    grams = Counter()
    for text in texts:
        tokens = words(text)
        grams.update(zip(*(tokens[i:] for i in range(n)), strict=False))
    total = sum(grams.values())
    return len(grams) / total if total else 0.0


def frame(examples: list[Example]) -> pd.DataFrame:
    """One row per example with its lengths in words, for browsing and plotting."""
    return pd.DataFrame(
        {
            "family": e.family,
            "language": LANGUAGES[e.language],
            "instruction": e.instruction,
            "query": e.query,
            "positive": e.positive,
            "negative": e.negative,
            "query words": len(words(e.query)),
            "positive words": len(words(e.positive)),
        }
        for e in examples
    )


def samples(examples: list[Example], language: str = "en") -> pd.DataFrame:
    """One example per family, as the paper's Table 16 shows them; the first by id, so always the same."""
    chosen = []
    for family in FAMILIES:
        of_family = [e for e in examples if e.family == family]
        wanted = [e for e in of_family if e.language == language] or of_family
        chosen += sorted(wanted, key=lambda e: e.id)[:1]
    return frame(chosen).drop(columns=["query words", "positive words"])


def coverage(items: dict[str, Item], overrides: dict[str, dict[str, list]]) -> pd.DataFrame:
    """How often each placeholder value was asked for, per family (Tables 8-13); 0 where it never was.

    ``overrides`` are the profile's ``generate.placeholders``.
    """
    counts = Counter(
        (item.family, name, str(value))
        for item in items.values()
        if item.step == "example"
        for name, value in item.placeholders
    )
    asked = {item.family for item in items.values() if item.step == "example"}
    rows = [
        {"family": family, "placeholder": name, "value": str(v), "requests": counts[family, name, str(v)]}
        for family in FAMILIES
        if family in asked
        for name, values in (PLACEHOLDERS[family] | overrides.get(family, {})).items()
        for v in values
    ]
    return pd.DataFrame(rows, columns=["family", "placeholder", "value", "requests"])


def funnel(drops: Drops, settings: Analyze) -> list[tuple[str, int]]:
    """(step, what is left after it): replies, those that are valid, then filter by filter."""
    left = drops.kept + sum(drops.counts.values())
    steps = [("replies", left)]
    left -= sum(n for reason, n in drops.counts.items() if reason not in REASONS.values())
    steps.append(("valid", left))
    for switch, reason in REASONS.items():
        if getattr(settings, switch):
            left -= drops.counts[reason]
            steps.append((f"without: {reason}", left))
    return steps


def dropped(drops: Drops) -> pd.DataFrame:
    """One row per reason: how many it dropped, and one that it dropped."""
    rows = [
        {"reason": r, "dropped": n, "for example": drops.samples[r][0]} for r, n in drops.counts.most_common()
    ]
    return pd.DataFrame(rows, columns=["reason", "dropped", "for example"])
