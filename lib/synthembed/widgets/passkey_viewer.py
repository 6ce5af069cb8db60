"""A passkey document: where the statement stands, and what of it a sliding window shows to the last token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets

from synthembed.widgets.explorer import Explorer

BLUE = "0,114,178"


def passkeys(
    sets: Sequence,
    count: Callable[[str], int],
    layers: int,
    length: int,
    query: int = 0,
    window: int | None = None,
) -> Explorer:
    """Browse documents by length and query; ``sets`` are evaluation.passkey's, ``count`` counts a text's tokens,
    and ``layers`` is the model's depth. ``length``, ``query`` and ``window`` are the controls' first values."""
    of = {data.length: data for data in sets}
    longest = max(of)
    controls = [
        ipywidgets.Dropdown(options=list(of), value=length, description="length"),
        ipywidgets.IntSlider(query, 0, len(of[length].queries) - 1, description="query"),
        ipywidgets.IntSlider(max(2, min(window or longest, longest)), 2, longest, description="window"),
    ]

    def draw(length: int, query: int, window: int) -> str:
        data = of[length]
        number = min(query, len(data.queries) - 1)
        name = data.queries[number].removeprefix("What is the pass key of ").removesuffix("?")
        return passkey_page(
            data.queries[number], data.documents[data.answers[number]], name, count, layers, window
        )

    return Explorer(controls, draw)


def passkey_page(
    query: str, document: str, name: str, count: Callable[[str], int], layers: int, window: int
) -> str:
    """HTML of a document with its statement marked. What a layer sees at once from eos, the last token, is blue:
    ``window`` - 1 tokens before it. What lies beyond as many for each of ``layers`` cannot reach it, and is grey."""
    bold = "font-weight:bold;text-decoration:underline"
    styles = zip(_parts(document, name), ("", bold, ""), strict=True)
    sentences = [
        (f"{sentence.strip().rstrip('.')}. ", style)
        for text, style in styles
        for sentence in text.split(". ")
        if sentence.strip()
    ]
    sizes = {sentence: count(sentence) for sentence, _ in sentences}  # filler repeats itself
    left = total = sum(sizes[sentence] for sentence, _ in sentences)
    body, told = "", f"{total} tokens."
    for sentence, style in sentences:  # ``left``: tokens from its first one to the end
        if style:
            told = _told(total, left, window, layers)
        body += f'<span style="{style};{_shade(left, window, layers)}">{escape(sentence.strip())}</span> '
        left -= sizes[sentence]
    return f"<p><b>{escape(query)}</b></p><p>{told}</p><p style='line-height:1.7'>{body}</p>"


def _told(total: int, behind: int, window: int, layers: int) -> str:
    steps = -(-behind // (window - 1))  # layers that it takes to carry the statement's first token to eos
    return (
        f"{total} tokens; the statement begins {behind} tokens before the end. With a window of {window}, "
        + (
            "a single layer sees it."
            if steps <= 1
            else f"it takes {steps} of {layers} layers to carry it there."
        )
        + (" This model has too few." if steps > layers else "")
    )


def _parts(document: str, name: str) -> tuple[str, str, str]:
    """A document before, in and after the statement of ``name``; all of it is "before" if it has none."""
    start = document.find(f"{name}'s pass key")
    if start < 0:
        return document, "", ""
    end = document.find(". ", start)
    end = len(document) if end < 0 else end + 2
    return document[:start], document[start:end], document[end:]


def _shade(distance: float, window: int, layers: int) -> str:
    if distance < window:
        return f"background:rgba({BLUE},.25)"
    return "" if distance <= (window - 1) * layers else "color:#767676"
