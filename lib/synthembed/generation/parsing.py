"""Replies → the objects that were asked for; a reply that is none is rejected with its reason (Sec. 3.1)."""

from __future__ import annotations

import json
import re

from pydantic import ValidationError

from synthembed.generation.items import Brainstorm, Item, schema_of


class Rejected(Exception):
    """A reply or example that is not used; the first argument is the reason it is counted under."""


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
