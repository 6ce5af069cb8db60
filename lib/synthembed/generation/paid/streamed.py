"""A reply that comes in pieces (server-sent events), put together as the chat completion that it is."""

from __future__ import annotations

import json

ASKED = {"stream": True, "stream_options": {"include_usage": True}}


def joined(content: bytes) -> bytes:
    """The chat completion of a stream; what is no stream is given back as it is.

    A stream that broke off has no finish_reason and is no chat completion: its choices are left out.
    """
    if not content.lstrip().startswith((b"data:", b":", b"event:")):
        return content
    whole: dict = {}
    text: list[str] = []
    finish = refusal = None
    for line in content.split(b"\n"):
        piece = _piece(line)
        whole |= {key: value for key, value in piece.items() if key != "choices" and value is not None}
        choices = piece.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if isinstance(delta, dict):
                text.append(delta["content"] if isinstance(delta.get("content"), str) else "")
                refusal = delta.get("refusal") or refusal
                finish = choice.get("finish_reason") or finish
    if finish:
        message = {"role": "assistant", "content": "".join(text), "refusal": refusal}
        whole["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    return json.dumps(whole | {"object": "chat.completion"}).encode()


def _piece(line: bytes) -> dict:
    if not line.startswith(b"data:"):
        return {}
    try:
        found = json.loads(line[5:])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
