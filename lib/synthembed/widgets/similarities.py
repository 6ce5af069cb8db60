"""How alike models find texts: a query and documents of one's own, and a suite's texts with their neighbours."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import ipywidgets
import numpy as np

from synthembed.widgets.explorer import Explorer

Encode = Callable[[list[str], list[str]], np.ndarray]  # texts, the instruction of each → vectors of length 1
CELL = "text-align:left;padding:2px 10px"
BLUE = "0,114,178"
TOP = "text-align:left;vertical-align:top;padding:4px 10px;line-height:1.35"
SHOWN = 110  # characters of a neighbour


def playground(
    models: dict[str, Callable[[], Encode]],
    query: str,
    documents: list[str],
    instruction: str = "",
    known: dict[str, list[float]] | None = None,
) -> Explorer:
    """Cosines of a query to documents, one a line, by every model; the arguments are the controls' first values.

    ``models`` load a model when it is first asked, once. ``known`` has the cosines of the first values, if they
    were computed before: then nothing is loaded until something is changed. The instruction goes before the
    query alone, as in retrieval.
    """
    loaded: dict[str, Encode] = {}
    read: dict[tuple[str, str, str], np.ndarray] = {}  # a reader changes one text at a time
    first = (query, "\n".join(documents), instruction)

    def cosines(name: str, query: str, texts: list[str], instruction: str) -> list[float]:
        if name not in loaded:
            loaded[name] = models[name]()
        wanted = [(instruction, query), *(("", text) for text in texts)]
        if unread := [one for one in dict.fromkeys(wanted) if (name, *one) not in read]:
            # In one pass, query and documents together: a pass reads all weights, however few its tokens.
            found = loaded[name]([text for _, text in unread], [told for told, _ in unread])
            read.update(((name, *one), vector) for one, vector in zip(unread, found, strict=True))
        asked, *found = (read[name, *one] for one in wanted)
        return list(np.stack(found) @ asked)

    def draw(query: str, lines: str, instruction: str) -> str:
        texts = [line.strip() for line in lines.splitlines() if line.strip()]
        if not query.strip() or not texts:
            return "<p>A query and at least one document, one a line.</p>"
        if known and (query, lines, instruction) == first:
            return similarity_table(texts, known)
        return similarity_table(texts, {m: cosines(m, query, texts, instruction) for m in models})

    wide = {"width": "46em"}
    controls = [
        ipywidgets.Text(query, description="query", continuous_update=False, layout=wide),
        ipywidgets.Textarea(first[1], description="documents", continuous_update=False, rows=4, layout=wide),
        ipywidgets.Text(instruction, description="instruction", continuous_update=False, layout=wide),
    ]
    return Explorer(controls, draw)


def similarity_table(texts: list[str], cosines: dict[str, list[float]]) -> str:
    """HTML: a document a row, a model a column; the darker the nearer, and each model's first in bold."""
    head = "".join(f'<th style="{CELL}">{escape(name)}</th>' for name in ("document", *cosines))
    rows = ""
    for n, text in enumerate(texts):
        cells = ""
        for values in cosines.values():
            low, high = min(values), max(values)
            shade = (values[n] - low) / (high - low) if high > low else 0.0
            number = f"<b>{values[n]:.3f}</b>" if values[n] == high else f"{values[n]:.3f}"
            cells += f'<td style="{CELL};background:rgba({BLUE},{0.35 * shade:.2f})">{number}</td>'
        rows += f'<tr><td style="{CELL}" dir="auto">{escape(text)}</td>{cells}</tr>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


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
    head = "".join(f'<th style="{TOP}">{escape(model)}</th>' for model in found)
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
    return f'<td style="{TOP};{colour}" dir="auto"><b>{about}</b><br>{escape(text)}</td>'
