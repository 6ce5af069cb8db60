"""A text of the evaluation suite and its nearest neighbours, by several models side by side."""

from __future__ import annotations

from html import escape

import ipywidgets

from synthembed.widgets.explorer import Explorer

CELL = "text-align:left;vertical-align:top;padding:4px 10px;line-height:1.35"
SHOWN = 110  # characters of a neighbour


def neighbours(
    texts: list[str], labels: list[str], nearest: dict[str, list[list[list]]], number: int = 0
) -> Explorer:
    """Browse texts by number. ``nearest``: model → for each text its neighbours as [number, cosine]; no model
    is loaded. ``number`` is the slider's first value."""
    chosen = ipywidgets.IntSlider(number, 0, len(texts) - 1, description="text", layout={"width": "34em"})

    def draw(number: int) -> str:
        head = f"<p dir='auto'><b>{escape(labels[number])}</b>: {escape(texts[number])}</p>"
        found = {model: rows[number] for model, rows in nearest.items()}
        return head + neighbour_table(texts, labels, found, labels[number])

    return Explorer([chosen], draw)


def neighbour_table(
    texts: list[str], labels: list[str], found: dict[str, list[list]], label: str | None = None
) -> str:
    """HTML: a model a column, a neighbour a row; neighbours of another label than ``label`` are grey."""
    head = "".join(f'<th style="{CELL}">{escape(model)}</th>' for model in found)
    rows = ""
    for place in range(max(map(len, found.values()))):
        rows += (
            "<tr>" + "".join(_cell(texts, labels, near[place], label) for near in found.values()) + "</tr>"
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(texts: list[str], labels: list[str], near: list, label: str | None) -> str:
    number, cosine = near
    text = texts[number] if len(texts[number]) <= SHOWN else texts[number][: SHOWN - 1] + "…"
    colour = "color:#767676" if label is not None and labels[number] != label else ""
    about = f"{escape(labels[number])}, {cosine:.2f}"
    return f'<td style="{CELL};{colour}" dir="auto"><b>{about}</b><br>{escape(text)}</td>'
