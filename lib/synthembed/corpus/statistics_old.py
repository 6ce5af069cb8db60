"""What the synthetic corpus is made of, in numbers (Fig. 2 and beyond); reads examples only."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from .examples import Drops, Example
from .filters import REASONS, words
from .profile import Analyze
from .taxonomy import FAMILIES, LANGUAGES, PAPER_LANGUAGE_SHARES, PLACEHOLDERS, Item


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
