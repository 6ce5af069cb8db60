"""Items → OpenAI Batch input lines: the same body for batch, live and recorded replies (Sec. 3.1).

A request is known by the hash of its body. The body carries a per-item ``seed``, so that two items
with the same prompt (the brainstorms of a family, say) stay two requests.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from synthembed.generation import items
from synthembed.generation.items import Item, Sampler
from synthembed.ground import seeding
from synthembed.profile.settings import Generate, Profile
from synthembed.profile.taxonomy import Family

NONE: Mapping[str, int] = MappingProxyType({})


def sampler(profile: Profile) -> Sampler:
    g = profile.generate
    return Sampler(
        profile.seed, g.families, g.languages, g.placeholders, g.placeholder_weights,
        g.tasks_per_list, g.examples_per_task, g.tasks == "dealt",
    )  # fmt: skip


def custom_id(body: dict) -> str:
    """SHA-256 (32 hex digits) of a request body in canonical JSON."""
    canonical = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _seed_of(item: Item, seed: int, attempt: int = 0) -> int:
    name = f"brainstorm/{item.family}" if item.step == "brainstorm" else "example"
    again = ("again", attempt) if attempt else ()
    return seeding.seed_of(seed, name, item.number, *again)


def _sent_seed(item_seed: int) -> int:
    return item_seed % 2**31  # servers differ in the width they accept; all take 31 bits


def body_of(item: Item, settings: Generate, seed: int, attempt: int = 0) -> dict:
    """The chat completion request of one item; ``seed`` is the profile's, ``attempt`` the number of earlier
    requests whose replies were of no use (``paid.again``). What is null in the settings is left out."""
    models = settings.models
    model = random.Random(_seed_of(item, seed)).choices(list(models), weights=list(models.values()))[0]
    item_seed = _sent_seed(_seed_of(item, seed, attempt))
    name = "brainstorm" if item.step == "brainstorm" else item.family.replace("-", "_")
    prompt = items.render(item, settings.tasks_per_list)
    return chat_body(prompt, model, item_seed, settings, name, items.schema_of(item))


def chat_body(
    prompt: str, model: str, item_seed: int, settings: Generate, name: str, schema: type[items.Reply]
) -> dict:
    """A chat completion request for ``prompt`` as ``settings`` have it, its reply an object of ``schema``,
    which the endpoint is told under ``name``."""
    settings = settings.of(model)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        settings.token_limit: settings.max_tokens,
        "seed": item_seed if settings.seed == "item" else settings.seed,
        "reasoning_effort": settings.reasoning_effort,
    }
    body = {key: value for key, value in body.items() if value is not None}
    if settings.response_format != "text":
        body["response_format"] = _response_format(settings.response_format, name, schema)
    return body | settings.extra_body


def _response_format(kind: str, name: str, schema: type[items.Reply]) -> dict:
    if kind == "json_object":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": _schema(name, schema)},
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


def line_of(item: Item, settings: Generate, seed: int, attempt: int = 0) -> dict:
    """One line of an OpenAI Batch input file.

    Where the body does not carry the item's seed, the hash still takes it in: two sessions with one
    prompt stay two requests.
    """
    body = body_of(item, settings, seed, attempt)
    named = body
    if settings.of(body["model"]).seed != "item" or "seed" in settings.of(body["model"]).extra_body:
        named = body | {"item_seed": _sent_seed(_seed_of(item, seed, attempt))}
    return {
        "custom_id": custom_id(named),
        "method": "POST",
        "url": settings.batch_endpoint,
        "body": body,
    }


def most_tokens(body: dict) -> float:
    """Tokens that a request's reply may have, by whichever name its limit has; infinite without one."""
    limits = [body[key] for key in ("max_completion_tokens", "max_tokens") if body.get(key)]
    return max(limits, default=float("inf"))


def _line(item: Item, profile: Profile, again: Mapping[str, int]) -> dict:
    line = line_of(item, profile.generate, profile.seed)
    if attempt := again.get(line["custom_id"], 0):
        line = line_of(item, profile.generate, profile.seed, attempt)
    return line


def brainstorms(profile: Profile, again: Mapping[str, int] = NONE) -> Iterator[tuple[Item, dict]]:
    """Step 1: the items that ask for lists of tasks, with their request lines.

    ``again`` maps a first request's custom_id to how often its item is asked for anew (``paid.again``).
    """
    for item in sampler(profile).brainstorms(profile.generate.examples):
        yield item, _line(item, profile, again)


def examples(
    profile: Profile, tasks: dict[tuple[Family, int], list[str]], again: Mapping[str, int] = NONE
) -> Iterator[tuple[Item | None, dict | None]]:
    """Step 2: one item per example with its request line, in order; streams.

    Yields (None, None) where the list of tasks that the item needs is missing.
    """
    draw = sampler(profile)
    for number in range(profile.generate.examples):
        item = draw.example(number, tasks)
        yield (item, _line(item, profile, again)) if item else (None, None)
