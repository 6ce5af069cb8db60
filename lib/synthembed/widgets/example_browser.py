"""Examples as an HTML table, and browsed by family and language; every control has a parameter twin, as
papermill runs see no widget."""

from __future__ import annotations

import html

import ipywidgets
import pandas as pd

CELL = "text-align:left;vertical-align:top;padding:2px 8px;line-height:1.4"  # widgets set lines far apart


def table(frame: pd.DataFrame, rows: int = 5, width: int = 160) -> str:
    """A few rows as an HTML table, cut to ``width`` characters, all text escaped."""

    def cell(value) -> str:
        text = "" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)
        text = text if len(text) <= width else text[: width - 1] + "…"
        return f'<td style="{CELL}" dir="auto">{html.escape(text)}</td>'

    head = "".join(f'<th style="{CELL}">{html.escape(str(c))}</th>' for c in frame.columns)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in frame.head(rows).itertuples(index=False))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def browse(frame: pd.DataFrame, family: str = "all", language: str = "all", rows: int = 5):
    """Browse examples by family and language; the arguments are the controls' first values."""
    pick_family = ipywidgets.Dropdown(
        options=["all", *sorted(frame["family"].unique())], value=family, description="family"
    )
    pick_language = ipywidgets.Dropdown(
        options=["all", *sorted(frame["language"].unique())], value=language, description="language"
    )
    count = ipywidgets.IntSlider(value=rows, min=1, max=50, description="rows")
    shown = ipywidgets.HTML()

    def update(_=None) -> None:
        chosen = frame
        if pick_family.value != "all":
            chosen = chosen[chosen["family"] == pick_family.value]
        if pick_language.value != "all":
            chosen = chosen[chosen["language"] == pick_language.value]
        shown.value = f"<p>{len(chosen):,} examples</p>" + table(chosen, count.value)

    for control in (pick_family, pick_language, count):
        control.observe(update, names="value")
    update()
    return ipywidgets.VBox([ipywidgets.HBox([pick_family, pick_language, count]), shown])
