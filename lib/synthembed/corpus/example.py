"""One training example, and the count of what became none (Sec. 3.1)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from synthembed.generation.items import Item
from synthembed.generation.parsing import parse
from synthembed.profile.taxonomy import Family


@dataclass(frozen=True, slots=True)
class Example:
    """One training triple. ``instruction`` goes before the query only; ``negative`` may be missing."""

    id: str
    family: Family
    instruction: str
    language: str
    target_language: str
    query: str
    positive: str
    negative: str | None = None
    further: tuple[str, ...] = ()  # hard negatives beside the first (data.select.negatives)

    def documents(self) -> list[str]:
        return [self.positive, *([self.negative] if self.negative else []), *self.further]


NAMED = 10_000


@dataclass
class Drops:
    """Counts per reason, with a few examples of what each reason dropped; ``of`` has the reasons of the first
    NAMED examples that are known by their id."""

    counts: Counter = field(default_factory=Counter)
    samples: dict = field(default_factory=lambda: defaultdict(list))
    kept: int = 0
    of: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, sample: str, most: int = 3, example: str = "") -> None:
        self.counts[reason] += 1
        if example and len(self.of) < NAMED:
            self.of[example] = reason
        if len(self.samples[reason]) < most:
            self.samples[reason].append(sample[:300])

    def as_dict(self) -> dict:
        return {
            "kept": self.kept,
            "dropped": sum(self.counts.values()),
            "reasons": dict(self.counts.most_common()),
            "samples": dict(self.samples),
        }


# Which reply keys are query, positive and hard negative; for STS, bitext and classification this
# reading of the schema is an inference, the paper does not state it (docs/deviations.md).
ROLES: dict[Family, tuple[str, str, str | None]] = {
    "short-long": ("user_query", "positive_document", "hard_negative_document"),
    "long-short": ("input_text", "label", "misleading_label"),
    "long-long": ("input", "positive_document", None),
    "short-short": ("input", "positive_document", None),
    "sts": ("S1", "S2", "S3"),
    "bitext": ("S1", "S2", "S3"),
}


def example_of(line: dict, item: Item) -> Example:
    reply = parse(line, item)
    query, positive, negative = ROLES[item.family]
    return Example(
        line["custom_id"], item.family, item.task, item.language, item.target_language,
        getattr(reply, query), getattr(reply, positive), getattr(reply, negative) if negative else None,
    )  # fmt: skip
