"""Replies → validated examples; every reply that is not one is counted with its reason (Sec. 3.1)."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import ValidationError

from .replies import read_lines
from .taxonomy import Brainstorm, Family, Item, schema_of


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

    def documents(self) -> list[str]:
        return [self.positive] + ([self.negative] if self.negative else [])


class Rejected(Exception):
    """A reply or example that is not used; the first argument is the reason it is counted under."""


@dataclass
class Drops:
    """Counts per reason, with a few examples of what each reason dropped."""

    counts: Counter = field(default_factory=Counter)
    samples: dict = field(default_factory=lambda: defaultdict(list))
    kept: int = 0

    def add(self, reason: str, sample: str, most: int = 3) -> None:
        self.counts[reason] += 1
        if len(self.samples[reason]) < most:
            self.samples[reason].append(sample[:300])

    def as_dict(self) -> dict:
        return {
            "kept": self.kept,
            "dropped": sum(self.counts.values()),
            "reasons": dict(self.counts.most_common()),
            "samples": dict(self.samples),
        }


def content_of(line: dict) -> str:
    """The text of a Batch output line; raises Rejected with the reason if there is none."""
    response = line.get("response") or {}
    if line.get("error") or response.get("status_code") != 200:
        raise Rejected("request failed")
    choices = (response.get("body") or {}).get("choices") or []
    if not choices:
        raise Rejected("empty reply")
    message, finish = choices[0].get("message") or {}, choices[0].get("finish_reason")
    if message.get("refusal"):
        raise Rejected("refusal")
    if finish == "length":
        raise Rejected("cut off at max_tokens")
    if finish == "content_filter":
        raise Rejected("content filter")
    text = (message.get("content") or "").strip()
    if not text:
        raise Rejected("empty reply")
    return text


_FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)


def parse(line: dict, item: Item):
    """The reply as its schema's object; raises Rejected("not JSON" or "not the schema")."""
    text = content_of(line)
    if fenced := _FENCE.match(text):  # endpoints without structured output like to add a fence
        text = fenced.group(1)
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        raise Rejected("not JSON") from None
    try:
        return schema_of(item).model_validate(data)
    except ValidationError:
        raise Rejected("not the schema") from None


def tasks_of(line: dict, item: Item) -> list[str]:
    """Step 1's reply as a list of tasks without repetitions."""
    reply: Brainstorm = parse(line, item)
    return list(dict.fromkeys(" ".join(t.split()) for t in reply.tasks))


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


def from_replies(replies: Path, items: dict[str, Item], drops: Drops) -> Iterator[Example]:
    """The examples in a file of replies; unusable replies are counted in ``drops``.

    ``items`` maps custom_id to Item; replies to brainstorms, and to requests that are not in
    ``items`` (of an earlier profile), are no examples and are passed over.
    """
    for line in read_lines(replies):
        item = items.get(line["custom_id"])
        if item is None or item.step != "example":
            continue
        try:
            yield example_of(line, item)
        except Rejected as reason:
            drops.add(str(reason), json.dumps(line.get("response") or line.get("error"), ensure_ascii=False))


def write(path: Path, examples: Iterable[Example]) -> int:
    """Examples as JSON lines; returns how many."""
    count = 0
    partial = path.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8") as file:
        for example in examples:
            file.write(json.dumps(asdict(example), ensure_ascii=False) + "\n")
            count += 1
    partial.replace(path)
    return count


def read(path: Path) -> list[Example]:
    """Examples from JSON lines; raises ValueError naming file and line of a bad one."""
    found = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                found.append(Example(**json.loads(line)))
            except (json.JSONDecodeError, TypeError) as error:
                raise ValueError(f"{path.name}, line {number}: not an example ({error})") from None
    return found
