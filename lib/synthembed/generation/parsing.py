"""Replies → the objects that were asked for; a reply that is none is rejected with its reason (Sec. 3.1).

Whatever a model or a gateway sends is read where it can be read in one way only, and rejected otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from synthembed.generation.items import Brainstorm, Item, Reply, schema_of


class Rejected(Exception):
    """A reply or example that is not used; the first argument is the reason it is counted under."""


# Reasons that are the endpoint's: a reply that is stored, as it may be paid, and is no answer of the model.
UNANSWERED = ("empty reply", "content filter", "broken off by the endpoint")


def is_completion(body: Any) -> bool:
    """Whether a body is a chat completion, and so a reply to be stored: one without choices is, unless it tells of
    an error in their place."""
    body = _dict(body)
    choices = body.get("choices", "")
    return isinstance(choices, list) or (choices is None and not body.get("error"))


def unanswered(line: dict) -> str:
    """Why a Batch output line is no answer of the model; "" if it is one, of use or not."""
    try:
        content_of(line)
    except Rejected as reason:
        return str(reason) if str(reason) in UNANSWERED else ""
    return ""


def content_of(line: dict) -> str:
    """The text of a Batch output line; raises Rejected with the reason if there is none."""
    response = _dict(line.get("response"))
    if line.get("error") or response.get("status_code") != 200:
        raise Rejected("request failed")
    choices = _dict(response.get("body")).get("choices")
    if not isinstance(choices, list) or not choices:
        raise Rejected("empty reply")
    choice = _dict(choices[0])
    message, finish = _dict(choice.get("message")), choice.get("finish_reason")
    if message.get("refusal"):
        raise Rejected("refusal")
    if str(finish).startswith("content_filter"):  # Gemini's names why: "content_filter: RECITATION"
        raise Rejected("content filter")
    if finish == "error":  # what came before it is a part
        raise Rejected("broken off by the endpoint")
    text = _text(message.get("content")).strip("\ufeff \t\r\n")
    if finish == "length" and not _is_whole(text):
        raise Rejected("cut off at max_tokens")
    text = text or _called_with(message)
    if not text:
        raise Rejected("empty reply")
    return text


def _is_whole(text: str) -> bool:
    """Whether all that was asked for came before the limit: some servers go on with blanks behind an object."""
    try:
        return isinstance(_loads(text), dict | list)
    except _NotJson:
        return False


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _text(content: Any) -> str:
    """A message's content, which may come as a list of parts; thoughts among them are left out."""
    if isinstance(content, list):
        parts = [p if isinstance(p, str) else _dict(p).get("text") for p in content if not _is_thought(p)]
        content = "".join(p for p in parts if isinstance(p, str))
    return content if isinstance(content, str) else ""


def _called_with(message: dict) -> str:
    """What a message without content calls its one tool with; "" if there is none."""
    calls = message.get("tool_calls")
    functions = [_dict(c).get("function") for c in calls] if isinstance(calls, list) else []
    if len(functions) > 1:
        raise Rejected("more than one answer")
    given = _dict(functions[0] if functions else message.get("function_call")).get("arguments")
    return json.dumps(given) if isinstance(given, dict) else given.strip() if isinstance(given, str) else ""


def _is_thought(part: Any) -> bool:
    return _dict(part).get("type") not in (None, "text", "output_text")


def parse(line: dict, item: Item) -> Reply:
    """The reply as its schema's object; raises Rejected("not JSON", "not the schema", ...)."""
    return read(content_of(line), schema_of(item))


def read(text: str, schema: type[Reply]) -> Reply:
    """A reply's text as an object of ``schema``, also from among thoughts, sentences and fences.

    Raises Rejected: "not JSON", "not the schema", "more than one answer", "half a character".
    """
    try:
        data = _loads(text)
        if isinstance(data, str):  # JSON encoded twice
            data = _loads(text := data)
    except _NotJson:
        return _found_in(text, schema)
    return _checked(data, schema)


def faults(text: str, schema: type[Reply]) -> list[str]:
    """What is wrong with a reply, for a reader: the reason that ``read`` rejects it for, and where. None if it can
    be used."""
    try:
        read(text, schema)
        return []
    except Rejected as reason:
        found = [str(reason)]
    try:
        schema.model_validate(json.loads(text))
    except ValidationError as error:
        found += [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors()]
    except ValueError as error:  # not JSON: says in which line and column
        found.append(str(error))
    return found


class _NotJson(Exception):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict:
    """An object whose keys stand once; of two values under one key none is certain."""
    found = dict(pairs)
    if len(found) < len(pairs) and any(found[key] != value for key, value in pairs):
        raise Rejected("more than one answer")
    return found


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_pairs)  # raw newlines in strings are read


def _loads(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):  # ValueError: also of an integer of too many digits
        raise _NotJson from None


def _checked(data: Any, schema: type[Reply]) -> Reply:
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict):
        data = data[0]
    if schema is Brainstorm and isinstance(data, list):  # the list itself, without its key
        data = {"tasks": data}
    try:
        texts = json.dumps(data, ensure_ascii=False)
        texts.encode()
    except UnicodeEncodeError:
        raise Rejected("half a character") from None
    except (ValueError, RecursionError):
        raise Rejected("not the schema") from None
    try:
        return schema.model_validate(data)
    except ValidationError:
        raise Rejected("not the schema") from None


# What reasoning models put before their answer; some templates open the tag in the prompt, so that the
# reply has only its end. Where a server leaves a model's own signs in, they are not always angle brackets.
_TAG = r"(seed:)?(think|thinking|thought|thoughts|reasoning)[>\]▷]"
_THOUGHTS = re.compile(
    rf"^.*([<\[◁]/{_TAG}|<\|END_THINKING\|>|<\|channel\|>final)", re.DOTALL | re.IGNORECASE
)
_BEGUN = re.compile(rf"\s*([<\[◁]{_TAG}|<\|START_THINKING\|>|<\|channel\|>analysis)", re.IGNORECASE)
# Escapes that JSON does not have and that mean one thing alone (Mixtral's "user\_query", and "it\'s").
_NO_ESCAPE = re.compile(r"(\\\\)|\\(['_])")
MOST_PLACES = 200  # in one reply where an object may begin; more are not looked at


def _found_in(text: str, schema: type[Reply]) -> Reply:
    """The one object of the schema in a longer text."""
    text = _NO_ESCAPE.sub(lambda found: found[1] or found[2], _THOUGHTS.sub("", text))
    if _BEGUN.match(text):
        raise Rejected("thoughts without an answer")
    found, reasons = [], []
    for data in _objects(text, "{[" if schema is Brainstorm else "{"):
        try:
            answer = _checked(data, schema)
        except Rejected as reason:
            reasons.append(str(reason))
        else:
            if answer not in found:
                found.append(answer)
    if len(found) == 1:
        return found[0]
    if found:
        raise Rejected("more than one answer")
    raise Rejected(reasons[0] if reasons else "not JSON")


# A comma after a value and before a closing bracket, outside strings (which are matched to be passed over).
_LAST_COMMA = re.compile(r'"(?:[^"\\]+|\\.)*"?|(?<=["\]}\w])(\s*,)(?=\s*[\]}])', re.DOTALL)


def _without_last_commas(text: str) -> str:
    return _LAST_COMMA.sub(lambda found: "" if found[1] else found[0], text)


def _objects(text: str, opening: str, encoded: bool = True) -> Iterator[Any]:
    """The JSON values in a text that begin with one of ``opening``, none inside another; a comma after the last
    of its values is passed over. With ``encoded`` also those that a JSON string holds: JSON encoded twice."""
    opens = f"[{re.escape(opening)}]"
    begin = re.compile(rf'{opens}|"(?=(?:\s|\\[nrt])*{opens})' if encoded else opens)
    place, has_last_commas = 0, re.search(r",\s*[\]}]", text)
    for _ in range(MOST_PLACES):
        if not (found := begin.search(text, place)):
            return
        place = found.start()
        try:
            data, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            rest = _without_last_commas(text[place:]) if has_last_commas else ""
            try:
                data, end = _DECODER.raw_decode(rest)
                text, place = rest, 0
            except (ValueError, RecursionError):
                place += 1
                continue
        values = list(_objects(data, opening, encoded=False)) if isinstance(data, str) else [data]
        place = end if values else place + 1
        yield from values


def tasks_of(line: dict, item: Item) -> list[str]:
    """Step 1's reply as a list of tasks without repetitions."""
    reply = parse(line, item)
    assert isinstance(reply, Brainstorm)
    return list(dict.fromkeys(" ".join(t.split()) for t in reply.tasks))
