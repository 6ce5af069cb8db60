"""Examples as an HTML table, and browsed with filters: full texts on a click, and what was dropped and why."""

from __future__ import annotations

import html

import ipywidgets
import pandas as pd

from synthembed.ground.console import counted
from synthembed.widgets.explorer import Explorer

CELL = "text-align:left;vertical-align:top;padding:2px 8px;line-height:1.4"  # widgets set lines far apart
ALL, KEPT, DROPPED = "all", "kept", "dropped"


def table(frame: pd.DataFrame, rows: int = 5, width: int = 160, whole: bool = False) -> str:
    """A few rows as an HTML table, all text escaped and cut to ``width`` characters; with ``whole`` a click on a
    text that was cut unfolds it."""

    def cell(value) -> str:
        text = "" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)
        shown = html.escape(text if len(text) <= width else text[: width - 1] + "…")
        if whole and len(text) > width:
            shown = f"<details><summary>{shown}</summary>{html.escape(text)}</details>"
        return f'<td style="{CELL}" dir="auto">{shown}</td>'

    head = "".join(f'<th style="{CELL}">{html.escape(str(c))}</th>' for c in frame.columns)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in frame.head(rows).itertuples(index=False))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def browse(
    frame: pd.DataFrame,
    family: str = ALL,
    language: str = ALL,
    outcome: str = KEPT,
    containing: str = "",
    rows: int = 5,
) -> Explorer:
    """Browse examples; the arguments after ``frame`` are the controls' first values.

    ``frame`` has columns family, language and texts, and where some were dropped a column ``outcome``: "kept", or
    the reason. ``containing`` looks in all texts, in any case of letters. A click on a text shows all of it.
    """
    frame = frame if "outcome" in frame else frame.assign(outcome=KEPT)
    texts = [c for c in ("instruction", "query", "positive", "negative") if c in frame]
    joined = frame[texts].fillna("").agg("\n".join, axis=1).str.casefold()

    def choices(column: str, first: list[str]) -> list[str]:
        return [*first, *(v for v in sorted(frame[column].unique()) if v not in first)]

    def dropdown(column: str, value: str, first: list[str]) -> ipywidgets.Dropdown:
        options = choices(column, first)
        return ipywidgets.Dropdown(
            options=options, value=value if value in options else ALL, description=column
        )

    controls = [
        dropdown("family", family, [ALL]),
        dropdown("language", language, [ALL]),
        dropdown("outcome", outcome, [ALL, KEPT, DROPPED]),
        ipywidgets.Text(containing, description="containing", continuous_update=True),
        ipywidgets.BoundedIntText(value=rows, min=1, max=50, description="rows"),
    ]

    def draw(family: str, language: str, outcome: str, containing: str, rows: int) -> str:
        chosen = pd.Series(True, frame.index)
        for column, value in (("family", family), ("language", language), ("outcome", outcome)):
            if value == DROPPED:
                chosen &= frame[column] != KEPT
            elif value != ALL:
                chosen &= frame[column] == value
        if containing:
            chosen &= joined.str.contains(containing.casefold(), regex=False)
        found = frame[chosen]
        shown = found if outcome != KEPT else found.drop(columns="outcome")
        count = f"<p>{counted(len(found), 'example')}</p>"
        return count + (table(shown, rows, whole=True) if len(found) else "")

    return Explorer(controls, draw)
