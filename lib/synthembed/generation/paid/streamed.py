"""A reply that comes in pieces (server-sent events), put together as the chat completion that it is."""

from __future__ import annotations

import json

ASKED = {"stream": True, "stream_options": {"include_usage": True}}
BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")


def joined(content: bytes) -> bytes:
    """The chat completion of a stream, of its first choice; what is no stream is given back as it is.

    A stream that broke off has no finish_reason and is no chat completion: its choices are left out.
    """
    stream = content.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not stream.startswith(BEGINNINGS):
        return content
    whole: dict = {}
    parts: list = []  # of the content: texts, or as some models send it, lists of parts
    calls: dict = {}  # of tools, by their place: the texts of their arguments
    finish = refusal = None
    for line in stream.split(b"\n"):
        piece = _piece(line)
        whole |= {key: value for key, value in piece.items() if key != "choices" and value is not None}
        choices = piece.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if isinstance(delta, dict) and choice.get("index") in (0, None):
                parts.append(delta.get("content"))
                _add_calls(calls, delta.get("tool_calls"))
                refusal = delta.get("refusal") or refusal
                finish = choice.get("finish_reason") or finish
    if finish:
        message = {"role": "assistant", "content": _content(parts), "refusal": refusal}
        if calls:
            message["tool_calls"] = [{"function": {"arguments": "".join(texts)}} for texts in calls.values()]
        whole["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    return json.dumps(whole | {"object": "chat.completion"}).encode()


def _content(parts: list) -> str | list:
    if not any(isinstance(part, list) for part in parts):
        return "".join(part for part in parts if isinstance(part, str))
    return [one for part in parts for one in (part if isinstance(part, list) else [part] if part else [])]


def _add_calls(calls: dict, told) -> None:
    for place, call in enumerate(told if isinstance(told, list) else []):
        function = call.get("function") if isinstance(call, dict) else None
        text = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(text, str):
            calls.setdefault(str(call.get("index", place)), []).append(text)


def _piece(line: bytes) -> dict:
    if not line.startswith(b"data:"):
        return {}
    try:
        found = json.loads(line[5:])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
