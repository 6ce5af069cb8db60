"""Passages → queries and hard negatives, written by an LLM and grounded in the passage (Sec. 3.1).

The paper's prompt for retrieval has a task and drawn placeholders and asks for query, document and hard
negative. Here the document is there already: the passage is one more placeholder, and what is asked for is
the query that it answers and a passage that looks as if it did. Requests are known by their hash, as all are,
so a passage that was asked for once is never asked for again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from synthembed.adapt.reading.documents import clean
from synthembed.adapt.reading.passages import Passage
from synthembed.corpus.example import Example
from synthembed.generation import parsing, request_bodies
from synthembed.generation.items import Reply
from synthembed.ground.seeding import seed_of
from synthembed.profile.settings import Profile
from synthembed.profile.taxonomy import PLACEHOLDER_WEIGHTS, PLACEHOLDERS

PACKAGE_DATA = ("templates/*",)  # read here, and so part of the code's fingerprint

TASK = "Given a question, retrieve passages that answer it"  # as the exported model's "query" prompt has it


class Grounded(Reply):
    user_query: str
    hard_negative_document: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: a passage, and which of its queries it asks for."""

    custom_id: str
    passage: Passage
    number: int


def drawn(passage: Passage, number: int, profile: Profile) -> dict[str, str]:
    """The placeholders of query ``number`` of a passage, a function of (seed, passage, number) alone."""
    rng = random.Random(seed_of(profile.seed, "grounded", passage.key, number))
    values = PLACEHOLDERS["short-long"] | profile.generate.placeholders.get("short-long", {})
    weights = PLACEHOLDER_WEIGHTS[profile.generate.placeholder_weights]
    chosen = {}
    for name in ("query_type", "query_length", "clarity"):
        fits = weights.get(name) if len(weights.get(name, ())) == len(values[name]) else None
        chosen[name] = rng.choices(values[name], weights=fits)[0]
    return chosen


@cache
def _template():
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    return Environment(loader=loader, undefined=StrictUndefined, autoescape=False).get_template(
        "grounded.jinja"
    )


def prompt(passage: Passage, number: int, profile: Profile, task: str = TASK) -> str:
    """What the LLM is asked, in our own wording."""
    return _template().render(task=task, passage=passage.text, **drawn(passage, number, profile)).strip()


def requests(
    passages: Iterable[Passage], profile: Profile, each: int = 1, task: str = TASK
) -> Iterator[tuple[Asked, dict]]:
    """(what is asked, line of an OpenAI Batch input file) for ``each`` queries of every passage."""
    settings = profile.generate
    names, shares = list(settings.models), list(settings.models.values())
    for passage in passages:
        for number in range(each):
            seed = seed_of(profile.seed, "grounded", passage.key, number) % 2**31
            model = random.Random(seed).choices(names, weights=shares)[0]
            written = prompt(passage, number, profile, task)
            body = request_bodies.chat_body(written, model, seed, settings, "grounded", Grounded)
            custom_id = request_bodies.custom_id(body if "seed" in body else body | {"item_seed": seed})
            line = {"custom_id": custom_id, "method": "POST", "url": settings.batch_endpoint, "body": body}
            yield Asked(custom_id, passage, number), line


def write(path: Path, pairs: Iterable[tuple[Asked, dict]]) -> dict[str, Asked]:
    """The requests as a file; returns custom_id → what was asked, in order."""
    found = {}
    with open(path, "w", encoding="utf-8") as file:
        for asked, line in pairs:
            if asked.custom_id not in found:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            found[asked.custom_id] = asked
    return found


def example(line: dict, asked: Asked, task: str = TASK) -> Example:
    """A reply as a training example whose positive is the passage; raises parsing.Rejected with the reason."""
    reply = parsing.read(parsing.content_of(line), Grounded)
    query, negative = " ".join(clean(reply.user_query).split()), clean(reply.hard_negative_document)
    return Example(asked.custom_id, "short-long", task, "", "", query, asked.passage.text, negative)
