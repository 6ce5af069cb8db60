"""The figures of a report: drawn from a run's results, written as files, and as SVG for a page with its
content in words."""

from __future__ import annotations

import html
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from synthembed import paper
from synthembed.evaluation.scores import COLUMNS, by_system_of_equal_tasks
from synthembed.report.results import ABLATIONS, CHANCE, EVALUATION, Results
from synthembed.report.verdicts import of_cell
from synthembed.report.words import alt_texts, hero, labels

Drawn = dict[str, list[tuple[str, str]]]  # name of a figure → (run, SVG text) for each run that has it


def draw(runs: list[Results], folder: Path) -> Drawn:
    """Draw every figure that the runs have results for, as files in ``folder`` and as SVG text."""
    return begin(runs, folder)()


def begin(runs: list[Results], folder: Path) -> Callable[[], Drawn]:
    """As ``draw``, meanwhile: returns what waits for the figures. Two forked processes draw them where that is safe
    (Linux, one thread: a command, not a kernel), else the call that waits."""
    wanted = [
        (results.name, name, name if len(runs) == 1 else f"{name}-{results.name}", make, words)
        for results in runs
        for name, make, words in _figures(results)
    ]
    parts = [[(file, make) for *_, file, make, _ in wanted[n::2]] for n in range(2)]
    at_work = [_forked(lambda part=part: _save(part, folder)) for part in parts]

    def finish() -> Drawn:
        for part, child in zip(parts, at_work, strict=True):
            if child is None or os.waitpid(child, 0)[1]:
                _save(part, folder)  # what the other process could not do, and then it says here why not
        drawn: Drawn = {}
        for run, name, file, _, words in wanted:
            svg = (folder / f"{file}.svg").read_text(encoding="utf-8")
            drawn.setdefault(name, []).append((run, inline(svg, file, words)))
        return drawn

    return finish


def _save(wanted: list[tuple[str, Callable]], folder: Path) -> None:
    """Draw (file's name, what draws it)."""
    if not wanted:
        return
    from synthembed.report import figures

    for file, make in wanted:
        figure = make(figures)
        figures.save(figure, folder, file)
        figures.plt.close(figure)


def _forked(work: Callable[[], None]) -> int | None:
    """The id of a process that does ``work`` and ends with 0 if it could; None where none is forked."""
    if sys.platform != "linux" or threading.active_count() > 1 or (os.cpu_count() or 1) < 2:
        return None
    if child := os.fork():
        return child
    ended = 1
    try:
        work()
        ended = 0
    finally:
        os._exit(ended)  # nothing of the parent's is closed or flushed a second time


def _figures(results: Results) -> Iterator[tuple[str, Callable, str]]:
    """(name, what draws it, the same in words) for what this run has."""
    if lines := hero.lines(results):
        names = _names(results)
        title = f"{labels.base_of(results)}, before and after training"
        yield "hero", lambda f: f.hero(lines, names, title), alt_texts.hero(lines, names)
    if results.statistics:
        yield "figure2", lambda f: f.figure2(results.statistics), alt_texts.figure2(results.statistics)
    if bars := figure3_bars(results):
        named = stand_ins(results)
        yield "figure3", lambda f: f.figure3(bars, named), alt_texts.figure3(bars, named)
    if results.passkey:
        published = paper.published()["figure5"]
        yield "figure5", lambda f: f.figure5(results.passkey, published), alt_texts.figure5(results.passkey)
    if results.log:
        yield "training", lambda f: f.loss_curve(results.log), alt_texts.loss_curve(results.log)
    if systems := table1_bars(results):
        yield "table1", lambda f: f.category_bars(systems, COLUMNS), alt_texts.category_bars(systems)
    if changes := table5_deltas(results):
        yield "table5", lambda f: f.deltas(changes), alt_texts.deltas(changes)


def _names(results: Results) -> dict[str, str]:
    """For the first figure's legend, whose title names the model."""
    scores = results.scores[EVALUATION]
    return {s: labels.short(s, results) for s in [*scores.systems, "base", "trained"]}


def inline(svg: str, name: str, words: str) -> str:
    """An SVG file's text as it stands in a page: one image with its content in words, ids of its own."""
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for form in (r'\bid="', r'\bhref="#', r"url\(#"):
        body = re.sub(form, lambda found: f"{found[0]}{name}-", body)
    return body.replace("<svg", f'<svg role="img" aria-label="{html.escape(words)}"', 1)


# --- numbers of single figures ---------------------------------------------------------------------


def figure3_bars(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """model → without or with pre-training → column → our score; {} if no model has both."""
    bars: dict[str, dict[str, dict[str, float]]] = {}
    for cell in paper.cells("figure3"):
        if cell.keys["kind"] != "delta" and (number := of_cell(results, cell)):
            kinds = bars.setdefault(cell.keys["model"], {})
            kinds.setdefault(cell.keys["kind"], {})[cell.column] = number.mean
    return {model: kinds for model, kinds in bars.items() if len(kinds) == 2}


def figure3_table(results: Results) -> pd.DataFrame:
    """What Figure 3 draws of ours as a table, with what random vectors have in its columns; empty without bars."""
    ran = stand_ins(results)
    bars = [
        {"model": ran[model], "in the place of": model, "pre-training": kind, **values}
        for model, kinds in figure3_bars(results).items()
        for kind, values in kinds.items()
    ]
    chance = {
        cell.column: found
        for cell in paper.cells("figure3")
        if (number := of_cell(results, cell)) and (found := results.chance(number.rows)) is not None
    }
    if bars and chance:
        bars.append(
            {"model": labels.SYSTEM_NAMES[CHANCE], "in the place of": "", "pre-training": "", **chance}
        )
    return pd.DataFrame(bars)


def stand_ins(results: Results) -> dict[str, str]:
    """model of Figure 3 → the name of what ran in its place."""
    cells = (c for c in paper.cells("figure3") if c.keys["kind"] == "original")
    found = {c.keys["model"]: n for c in cells if (n := of_cell(results, c))}
    return {
        model: f"{labels.base_of(results)}: {labels.label(n.system, results, n.stage).partition(': ')[2] or labels.label(n.system, results, n.stage)}"
        for model, n in found.items()
    }  # fmt: skip


def table1_bars(results: Results) -> dict[str, dict[str, float]]:
    """system → averages on the one benchmark of this run that has Table 1's columns."""
    found = by_system_of_equal_tasks(rows_of_table1(results))
    return {labels.label(system, results): values for system, values in found.items()}


def rows_of_table1(results: Results) -> list[dict]:
    """Rows of MTEB if this run has measured it, or else of its embedded suite: never of both."""
    ways = paper.ways(next(paper.cells("table1")))
    for benchmark in ways:
        if rows := [r for r in results.evaluation if r["benchmark"].removesuffix(", part") == benchmark]:
            return rows
    return []


def table5(results: Results) -> pd.DataFrame:
    """Ablations in short: the paper's average and delta beside ours, whose origin is this run's default."""
    mine = {(c.row, c.column): n.mean for c in paper.cells("table5") if (n := of_cell(results, c))}
    rows = paper.table("table5")["rows"]
    return pd.DataFrame(
        {
            "row": row,
            "paper Avg": values["Avg"],
            "paper delta": values["delta_avg"],
            "ours Avg": mine.get((row, "Avg"), np.nan),
            "ours delta": mine.get((row, "delta_avg"), np.nan),
        }
        for row, values in rows.items()
    )


def table5_deltas(results: Results) -> list[dict]:
    """Rows for figures.deltas: the paper's change and ours under the name of what ran, with our interval where
    there is one."""
    frame, scores = table5(results), results.scores[ABLATIONS]
    found = []
    for row in frame[frame["ours delta"].notna()].to_dict("records"):
        system = scores.filler("table5", row["row"])
        interval = scores.intervals.get(system) or {}
        found.append(
            {"row": row["row"], "ran": system and labels.label(system, results, ABLATIONS),
             "paper_delta": row["paper delta"], "our_delta": row["ours delta"],
             "low": interval.get("low"), "high": interval.get("high"), "within_noise": interval.get("within_noise")}
        )  # fmt: skip
    return found
