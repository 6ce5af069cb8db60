"""Items → OpenAI Batch input lines: the same body for batch, live and recorded replies (Sec. 3.1).

A request is known by the hash of its body. The body carries a per-item ``seed``, so that two items
with the same prompt (the brainstorms of a family, say) stay two requests.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator

from synthembed.generation import items
from synthembed.generation.items import Item, Sampler
from synthembed.ground import seeding
from synthembed.profile.settings import Generate, Profile
from synthembed.profile.taxonomy import Family

URL = "/v1/chat/completions"


def sampler(profile: Profile) -> Sampler:
    g = profile.generate
    return Sampler(
        profile.seed, g.families, g.languages, g.placeholders, g.placeholder_weights,
        g.tasks_per_list, g.examples_per_task,
    )  # fmt: skip


def custom_id(body: dict) -> str:
    """SHA-256 (32 hex digits) of a request body in canonical JSON."""
    canonical = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def body_of(item: Item, settings: Generate, seed: int) -> dict:
    """The chat completion request of one item; ``seed`` is the profile's."""
    name = f"brainstorm/{item.family}" if item.step == "brainstorm" else "example"
    item_seed = seeding.seed_of(seed, name, item.number)
    models = settings.models
    model = random.Random(item_seed).choices(list(models), weights=list(models.values()))[0]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": items.render(item, settings.tasks_per_list)}],
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_completion_tokens": settings.max_tokens,
        "seed": item_seed % 2**31,  # servers differ in the width they accept; all take 31 bits
    }
    if settings.response_format != "text":
        body["response_format"] = _response_format(item, settings.response_format)
    return body


def _response_format(item: Item, kind: str) -> dict:
    if kind == "json_object":
        return {"type": "json_object"}
    name = "brainstorm" if item.step == "brainstorm" else item.family.replace("-", "_")
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": _schema(name, items.schema_of(item))},
    }


def _schema(name: str, model: type[items.Reply]) -> dict:
    """The strict subset of JSON Schema: no titles, no length limits, every key required."""
    properties = {}
    for key, field in model.model_fields.items():
        listed = field.annotation is not str
        properties[key] = {"type": "array", "items": {"type": "string"}} if listed else {"type": "string"}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def line_of(item: Item, settings: Generate, seed: int) -> dict:
    """One line of an OpenAI Batch input file."""
    body = body_of(item, settings, seed)
    return {"custom_id": custom_id(body), "method": "POST", "url": URL, "body": body}


def brainstorms(profile: Profile) -> Iterator[tuple[Item, dict]]:
    """Step 1: the items that ask for lists of tasks, with their request lines."""
    for item in sampler(profile).brainstorms(profile.generate.examples):
        yield item, line_of(item, profile.generate, profile.seed)


def examples(
    profile: Profile, tasks: dict[tuple[Family, int], list[str]]
) -> Iterator[tuple[Item | None, dict | None]]:
    """Step 2: one item per example with its request line, in order; streams.

    Yields (None, None) where the list of tasks that the item needs is missing.
    """
    draw = sampler(profile)
    for number in range(profile.generate.examples):
        item = draw.example(number, tasks)
        yield (item, line_of(item, profile.generate, profile.seed)) if item else (None, None)
