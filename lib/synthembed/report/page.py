"""The report: every table and figure of the paper beside ours, with verdicts and claims; the README's table.

Reads results only, touches no model: several runs can be rendered side by side at any time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from synthembed import paper
from synthembed.evaluation.scores import APART, COLUMNS, by_system_of_equal_tasks
from synthembed.ground import run_folders
from synthembed.ground.files import write_json
from synthembed.paper import reference_run
from synthembed.report import claims, rendering, tables
from synthembed.report.rendering import latex, markdown, to_html
from synthembed.report.results import Results, Scores, lookup
from synthembed.report.verdicts import best, summary, verdicts
from synthembed.report.web import sections, svg_figures
from synthembed.report.web.svg_figures import (
    figure3_bars,
    figure3_table,
    rows_of_table1,
    stand_ins,
    table1_bars,
    table5,
    table5_deltas,
)
from synthembed.report.words import labels

__all__ = [  # for the notebooks
    "Results", "build", "figure3_bars", "figure3_table", "latex", "markdown", "stand_ins", "summary", "table1_bars",
    "table5", "table5_deltas", "to_html", "verdicts",
]  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    """What a page shows: the verdicts, the first screen, and the parts below it."""

    entries: list[dict]
    opening: str
    parts: list[sections.Section]


def build(folders: Path | list[Path], out: Path, reference: Path | None = None) -> list[dict]:
    """Everything of 07_report from the results of one run or several: tables, figures, verdicts.json,
    claims.json, report.html; of one run, beside its committed ``reference`` if there is one, reference.json.
    Returns the verdicts; of several runs, the best evidence for each id.
    """
    return render(folders, out, reference).entries


def render(folders: Path | list[Path], out: Path, reference: Path | None = None) -> Rendered:
    """As ``build``, with what the page shows."""
    runs = [Results(f) for f in ([folders] if isinstance(folders, Path) else folders)]
    drawing = svg_figures.begin(runs, out / "figures")
    entries = best([verdicts(r) for r in runs])
    ledgers = [claims.ledger(r) for r in runs]
    made = {name: tables.build(name, runs) for name in paper.artefacts("table")}
    made |= {"verdicts": summary(entries), "claims": claims.frame(runs, ledgers)}
    for name, table in made.items():
        rendering.write(table, out / "tables", name)
    drawn = drawing()
    write_json(out / "verdicts.json", entries)
    write_json(
        out / "claims.json",
        [{"run": r.name, **c} for r, found in zip(runs, ledgers, strict=True) for c in found],
    )
    beside = reference_run.compare(runs[0].folder, reference) if len(runs) == 1 else None
    if beside:
        write_json(out / "reference.json", beside.as_dict())
    found = Rendered(
        entries,
        sections.opening(runs, ledgers, drawn),
        sections.parts(runs, ledgers, made, drawn, variance(runs), beside, _to_run(runs[0].folder, out)),
    )
    (out / "report.html").write_text(_page(runs, found), encoding="utf-8")
    return found


def _to_run(run: Path, out: Path) -> str:
    """The way from a report to the run's notebooks, as a link has it; a stage that is made anew will lie in its
    place when it is read."""
    return ".." if run_folders.WORK in out.parts else Path(os.path.relpath(run, out)).as_posix()


def _page(runs: list[Results], found: Rendered) -> str:
    """report.html: one file that needs no other."""
    benchmarks = sorted({b for r in runs for s in r.scores.values() for b in s.benchmarks})
    return (
        sections.templates()
        .get_template("report.html.jinja")
        .render(
            title=f"{', '.join(r.name for r in runs)}: improving text embeddings with LLMs, reproduced",
            css="".join(
                (sections.TEMPLATES / f"{n}.css").read_text(encoding="utf-8") for n in ("report", "page")
            ),
            runs=[r.name for r in runs],
            benchmarks=[labels.benchmark_name(b) for b in benchmarks],
            opening=found.opening,
            parts=found.parts,
        )
    )


def variance(runs: list[Results]) -> str:
    """What the paper's lack of variance means for its small deltas, with our spread if it was measured."""
    said = (
        "The paper reports no variance and does not say how often it trained a row. Ranks, pooling and pre-training differ "
        "by 0.1 to 0.5 points in its Tables 5 and 7, and nothing in it tells whether another seed would "
        "turn their order round."
    )
    spreads, deltas = [], []
    for results in runs:
        for scores in results.scores.values():
            spreads += _spreads(scores)
            deltas += list(scores.intervals.values())
    if spreads:
        typical = median(spreads)
        said += (
            f" Here {len(spreads)} averages are over several seeds of training: their standard deviation is "
            f"{typical:.2g} points in the median, from {min(spreads):.2g} to {max(spreads):.2g}. "
        )
        said += (
            "At that spread a delta of 0.1 says nothing."
            if typical > 0.1
            else "At that spread a delta of 0.1 is more than one standard deviation."
        )
        said += " The spread is that of this run's model, data and benchmark; the paper's may be smaller."
    else:
        said += " No average here is over several seeds of training, so there is no spread of its own to set beside."
    judged = [d for d in deltas if d.get("why") != "one seed"]
    if judged:
        noise = sum(d["within_noise"] for d in judged)
        said += (
            f" Within noise: {noise} of the {len(judged)} differences that can be judged, whose 95 % interval on tasks "
            "like these (tasks resampled, seeds by Student's t) holds zero; the tables say so."
        )
    if once := len(deltas) - len(judged):
        said += (
            f" {once} of our {len(deltas)} differences rest{'s' if once == 1 else ''} on one seed: nothing tells "
            f"{'it' if once == 1 else 'them'} apart from what another seed would give."
        )
    return said


def _spreads(scores: Scores) -> list[float]:
    """Standard deviations over seeds of the averages that Table 1 has, on either of its benchmarks."""
    average = next(c for c in paper.cells("table1") if c.column == "Avg")
    found = [lookup(scores, "", s, b, w) for s in scores.systems for b, w in paper.ways(average).items()]
    return [n.std for n in found if n and n.std is not None]


def readme_table(results: Results) -> str:
    """The README's results: systems by category on the run's own benchmark, and where they came from."""
    frame = pd.DataFrame(
        {
            "system": labels.short(system, results),
            **{c: values.get(c, np.nan) for c in [*COLUMNS, *APART]},
        }
        for system, values in by_system_of_equal_tasks(rows_of_table1(results)).items()
    )
    record = results.stage("04_evaluate")
    benchmark = "+".join(sorted({r["benchmark"] for r in rows_of_table1(results)})) or "none"
    note = (
        f"Profile `{record['profile']}` ({record['profile_hash']}), benchmark: {benchmark}, "
        f"mteb {record['versions']['mteb']}, seed {record['seeds'][0]}. In the paper, on MTEB's 56 datasets, "
        "training on synthetic data alone gives an average of 63.1: not comparable with this table."
    )
    return f"{markdown(frame)}\n{note}\n"
