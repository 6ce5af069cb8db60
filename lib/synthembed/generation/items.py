"""Items: what to ask an LLM for, drawn from the taxonomy and rendered as a prompt (Sec. 3.1, App. C).

Drawing is a pure function of (seed, settings, number), so the order of requests never matters.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field

from synthembed.ground.seeding import seed_of
from synthembed.profile.taxonomy import (
    ASYMMETRIC,
    FAMILIES,
    LANGUAGES,
    PAPER_LANGUAGE_SHARES,
    PAPER_OTHERS,
    PLACEHOLDER_WEIGHTS,
    PLACEHOLDERS,
    SYMMETRIC_INSTRUCTIONS,
    Family,
)

PACKAGE_DATA = ("prompts/*",)  # read here, and so part of the code's fingerprint
PROMPTS = Path(__file__).parent / "prompts"


class Reply(BaseModel):
    """Base of the reply schemas: unknown keys are an error, and no text may be empty."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, str_min_length=1)


class Brainstorm(Reply):
    tasks: list[str] = Field(min_length=1)


class ShortLong(Reply):
    user_query: str
    positive_document: str
    hard_negative_document: str


class LongShort(Reply):
    input_text: str
    label: str
    misleading_label: str


class Matching(Reply):
    input: str
    positive_document: str


class Scored(Reply):
    S1: str
    S2: str
    S3: str


SCHEMAS: dict[str, type[Reply]] = {
    "brainstorm": Brainstorm,
    "short-long": ShortLong,
    "long-short": LongShort,
    "long-long": Matching,
    "short-short": Matching,
    "sts": Scored,
    "bitext": Scored,
}


@dataclass(frozen=True, slots=True)
class Item:
    """One request to be made: what to ask, before it is rendered.

    ``step`` is "brainstorm" or "example"; ``task`` is the instruction the example is written for
    (and later trained with); ``language`` is the language of the texts; ``target_language`` is set
    for bitext only, where ``language`` is the source.
    """

    step: Literal["brainstorm", "example"]
    number: int
    family: Family
    task: str = ""
    language: str = "en"
    target_language: str = ""
    placeholders: tuple[tuple[str, Any], ...] = ()


def language_shares(codes: list[str] | None = None) -> dict[str, float]:
    """Sampling weights by language code: the paper's shares, restricted to ``codes`` if given.

    The 14 languages that Figure 2 names keep their shares; all others split "Others" evenly.
    """
    chosen = list(LANGUAGES) if codes is None else codes
    unnamed = [c for c in chosen if c not in PAPER_LANGUAGE_SHARES]
    return {c: PAPER_LANGUAGE_SHARES.get(c) or PAPER_OTHERS / len(unnamed) for c in chosen}


BLOCK = 512  # items whose families are found at once


class Sampler:
    """Draws the attributes of item ``number``; a pure function of (seed, settings, number)."""

    def __init__(
        self, seed, families, languages, placeholders, weights, tasks_per_list, examples_per_task, dealt=False
    ):  # fmt: skip
        self.seed, self.dealt = seed, dealt
        self.families = list(families)
        self.family_weights = list(accumulate(families.values()))
        shares = language_shares(languages)
        self.languages = list(shares)
        self.language_weights = list(accumulate(shares.values()))
        self.values = {f: PLACEHOLDERS[f] | placeholders.get(f, {}) for f in FAMILIES}
        self.weights = PLACEHOLDER_WEIGHTS[weights]
        self._blocks: dict[int, bytes] = {}
        total = sum(families.values())
        # List j of a family serves the items j*span ... (j+1)*span - 1, so that the first n items ask
        # for the same tasks however many items follow: a small run is a prefix of a large one.
        self.span = {
            f: max(1, round(tasks_per_list * examples_per_task * total / share))
            for f, share in families.items()
            if share > 0
        }

    def brainstorms(self, examples: int) -> list[Item]:
        """The step-1 items that ``examples`` step-2 items need."""
        return [
            Item("brainstorm", number, family)
            for family in self.families
            if family in ASYMMETRIC and family in self.span
            for number in range(-(-examples // self.span[family]))
        ]

    def list_number(self, family: Family, number: int) -> int:
        """Which brainstormed list serves item ``number``."""
        return number // self.span[family]

    def example(self, number: int, tasks: dict[tuple[Family, int], list[str]]) -> Item | None:
        """Item ``number`` of step 2, or None if the list of tasks that it needs is not there.

        ``tasks`` maps (family, list number) to the brainstormed tasks.
        """
        rng = random.Random(seed_of(self.seed, "example", number))
        family = rng.choices(self.families, cum_weights=self.family_weights)[0]
        language = rng.choices(self.languages, cum_weights=self.language_weights)[0]
        other = language
        while family == "bitext" and other == language:
            other = rng.choices(self.languages, cum_weights=self.language_weights)[0]
        chosen = tuple((name, self._draw(rng, name, v)) for name, v in self.values[family].items())
        if family in ASYMMETRIC:
            pool = tasks.get((family, self.list_number(family, number)))
            if not pool:
                return None
            drawn = rng.randrange(len(pool))
            task = pool[self._dealt(family, number, len(pool)) if self.dealt else drawn]
        else:
            task = SYMMETRIC_INSTRUCTIONS[family]
        return Item("example", number, family, task, language, other if family == "bitext" else "", chosen)

    def _dealt(self, family: Family, number: int, count: int) -> int:
        """Which of a list's ``count`` tasks item ``number`` gets: in turn, in an order drawn anew for each
        round, so that all tasks of a list are used before one is used again (150k of 500k, Sec. 4.1)."""
        if count == 1:
            return 0
        list_number = self.list_number(family, number)
        start = list_number * self.span[family]
        turn, place = divmod(self._rank(family, start, number), count)
        order = list(range(count))
        random.Random(seed_of(self.seed, "deal", family, list_number, turn)).shuffle(order)
        return order[place]

    def _rank(self, family: Family, start: int, number: int) -> int:
        """How many items from ``start`` to before ``number`` are of the family."""
        first, last = start // BLOCK, number // BLOCK
        rank = 0
        for block in range(first, last + 1):
            kinds = self._kinds(block)
            rank += kinds.count(
                self.families.index(family),
                start - block * BLOCK if block == first else 0,
                number - block * BLOCK if block == last else BLOCK,
            )
        return rank

    def _kinds(self, block: int) -> bytes:
        """The families of BLOCK items by their places in ``families``; the last few blocks are kept."""
        if block not in self._blocks:
            while len(self._blocks) >= 256:
                del self._blocks[next(iter(self._blocks))]
            numbers, places = range(block * BLOCK, (block + 1) * BLOCK), range(len(self.families))
            rngs = (random.Random(seed_of(self.seed, "example", n)) for n in numbers)
            self._blocks[block] = bytes(
                rng.choices(places, cum_weights=self.family_weights)[0] for rng in rngs
            )
        return self._blocks[block]

    def _draw(self, rng: random.Random, name: str, values: list) -> Any:
        weights = self.weights.get(name)
        return rng.choices(values, weights=weights if weights and len(weights) == len(values) else None)[0]


@cache
def _template(name: str):
    env = Environment(
        loader=FileSystemLoader(PROMPTS),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # prompts are plain text for a model, never HTML
    )
    return env.get_template(f"{name}.jinja")


def render(item: Item, tasks_per_list: int = 20) -> str:
    """The prompt of one item (Tables 8-13, in our own wording)."""
    if item.step == "brainstorm":
        return _template(f"brainstorm_{item.family}").render(count=tasks_per_list).strip()
    return (
        _template(item.family)
        .render(
            task=item.task,
            language=LANGUAGES[item.language],
            source_language=LANGUAGES[item.language],
            target_language=LANGUAGES.get(item.target_language, ""),
            **dict(item.placeholders),
        )
        .strip()
    )


def schema_of(item: Item) -> type[Reply]:
    """The pydantic model that the reply to ``item`` must satisfy."""
    return SCHEMAS["brainstorm" if item.step == "brainstorm" else item.family]
