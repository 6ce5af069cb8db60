"""The report: every table and figure of the paper beside ours, with verdicts and claims; the README's table.

Reads results only, touches no model: several runs can be rendered side by side at any time.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader

from synthembed import paper
from synthembed.evaluation.scores import APART, COLUMNS, TABLE1, by_system
from synthembed.ground.files import write_json
from synthembed.paper import reference_run
from synthembed.report import claims, rendering, tables
from synthembed.report.rendering import latex, markdown, to_html
from synthembed.report.results import ABLATIONS, Results, Scores, lookup
from synthembed.report.tables import label
from synthembed.report.verdicts import best, of_cell, summary, verdicts

PACKAGE_DATA = ("templates/report.html.jinja",)  # read here, and so part of the code's fingerprint

__all__ = ["Results", "build", "latex", "markdown", "summary", "to_html", "verdicts"]  # for the notebooks


def build(folders: Path | list[Path], out: Path, reference: Path | None = None) -> list[dict]:
    """Everything of 07_report from the results of one run or several: tables, figures, verdicts.json,
    claims.json, report.html; of one run, beside its committed ``reference`` if there is one, reference.json.
    Returns the verdicts; of several runs, the best evidence for each id.
    """
    runs = [Results(f) for f in ([folders] if isinstance(folders, Path) else folders)]
    entries = best([verdicts(r) for r in runs])
    made = {name: tables.build(name, runs) for name in paper.artefacts("table")}
    ledgers = [claims.ledger(r) for r in runs]
    made |= {"verdicts": summary(entries), "claims": claims.frame(runs, ledgers)}
    for name, table in made.items():
        rendering.write(table, out / "tables", name)
    drawn = _draw(runs, out / "figures")
    write_json(out / "verdicts.json", entries)
    write_json(
        out / "claims.json",
        [{"run": r.name, **c} for r, found in zip(runs, ledgers, strict=True) for c in found],
    )
    beside = reference_run.compare(runs[0].folder, reference) if len(runs) == 1 else None
    if beside:
        write_json(out / "reference.json", beside.as_dict())
    page = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
    text = page.get_template("report.html.jinja").render(
        runs=runs,
        artefacts=paper.artefacts(),
        tables={name: to_html(table) for name, table in made.items()},
        figures=drawn,
        variance=variance(runs),
        beside=beside and _beside(beside),
        distances=[(r.name, to_html(d)) for r in runs if len(d := tables.distances(r))],
        controls=[
            (r.name, tables.who_wins(c, _seeds(r)), to_html(c.round(1)))
            for r in runs
            if len(c := tables.controls(r))
        ],
        benchmarks=sorted({b for r in runs for s in r.scores.values() for b in s.benchmarks}),
    )
    (out / "report.html").write_text(text, encoding="utf-8")
    return entries


def _beside(found: reference_run.Comparison) -> dict:
    """A run beside its reference, for the page: a sentence, a table of the stages that differ, one of numbers."""
    rows = [row for row in found.rows() if row[reference_run.EQUAL] < row["numbers"]]
    apart = pd.DataFrame(
        {"stage": p.stage, "number": ", ".join(p.what), "reference": f"{p.reference:.6g}", "own": f"{p.own:.6g}",
         "difference": f"{p.own - p.reference:+.3g}"}
        for p in found.apart()
    )  # fmt: skip
    return {
        "said": found.said(),
        "stages": to_html(pd.DataFrame(rows)) if rows else "",
        "numbers": to_html(apart) if len(apart) else "",
    }


def _seeds(results: Results) -> int:
    """Of the ablations' rows."""
    return len({r.get("seed") for r in results.scores[ABLATIONS].rows})


def _draw(runs: list[Results], folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Draw every figure that the runs have results for; name → (run, SVG text) for each run."""
    from synthembed.report import figures

    drawn: dict[str, list[tuple[str, str]]] = {}
    for results in runs:
        for name, draw in {
            "figure2": lambda r=results: r.statistics and figures.figure2(r.statistics),
            "figure3": lambda r=results: (bars := figure3_bars(r)) and figures.figure3(bars, stand_ins(r)),
            "figure5": lambda r=results: (
                r.passkey and figures.figure5(r.passkey, paper.published()["figure5"])
            ),
            "training": lambda r=results: r.log and figures.loss_curve(r.log),
            "table1": lambda r=results: r.evaluation and figures.category_bars(table1_bars(r), COLUMNS),
            "table5": lambda r=results: (deltas := table5_deltas(r)) and figures.deltas(deltas),
        }.items():
            if figure := draw():
                file = name if len(runs) == 1 else f"{name}-{results.name}"
                figures.save(figure, folder, file)
                figures.plt.close(figure)
                svg = (folder / f"{file}.svg").read_text(encoding="utf-8")
                drawn.setdefault(name, []).append((results.name, svg))
    return drawn


def figure3_bars(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """model → without or with pre-training → column → our score; {} if no model has both."""

    bars: dict[str, dict[str, dict[str, float]]] = {}
    for cell in paper.cells("figure3"):
        if cell.keys["kind"] != "delta" and (number := of_cell(results, cell)):
            kinds = bars.setdefault(cell.keys["model"], {})
            kinds.setdefault(cell.keys["kind"], {})[cell.column] = number.mean
    return {model: kinds for model, kinds in bars.items() if len(kinds) == 2}


def stand_ins(results: Results) -> dict[str, str]:
    """model of Figure 3 → the run's own name of what stands in its place."""
    cells = (c for c in paper.cells("figure3") if c.keys["kind"] == "original")
    return {c.keys["model"]: n.system for c in cells if (n := of_cell(results, c))}


def table1_bars(results: Results) -> dict[str, dict[str, float]]:
    """system → averages on the one benchmark of this run that has Table 1's columns."""
    found = by_system_of_equal_tasks(_of_table1(results))
    return {label(system, results): values for system, values in found.items()}


def _of_table1(results: Results) -> list[dict]:
    """Rows of MTEB if this run has measured it, or else of its embedded suite: never of both."""
    ways = paper.ways(next(paper.cells("table1")))
    for benchmark in ways:
        if rows := [r for r in results.evaluation if r["benchmark"].removesuffix(", part") == benchmark]:
            return rows
    return []


def by_system_of_equal_tasks(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Averages by system; a system without a score in some category has no ``Avg`` to compare."""
    found = by_system(rows)
    categories = {c for values in found.values() for c in values if c in TABLE1}
    return {
        system: {c: v for c, v in values.items() if c != "Avg" or categories <= set(values)}
        for system, values in found.items()
    }


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
    """Rows for figures.deltas: the paper's change and ours, with our interval where there is one."""
    frame, scores = table5(results), results.scores[ABLATIONS]
    found = []
    for row in frame[frame["ours delta"].notna()].to_dict("records"):
        interval = scores.intervals.get(scores.filler("table5", row["row"])) or {}
        found.append(
            {"row": row["row"], "paper_delta": row["paper delta"], "our_delta": row["ours delta"],
             "low": interval.get("low"), "high": interval.get("high"), "within_noise": interval.get("within_noise")}
        )  # fmt: skip
    return found


def variance(runs: list[Results]) -> str:
    """What the paper's lack of variance means for its small deltas, with our spread if it was measured."""
    said = (
        "The paper trains every row once and reports no variance. Ranks, pooling and pre-training differ "
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
        said += " This run trained every system once as well, so it has no spread of its own to set beside."
    if deltas:
        once = sum(d.get("why") == "one seed" for d in deltas)
        noise = sum(d["within_noise"] for d in deltas) - once
        said += (
            f" Of our {len(deltas)} differences, {noise} lie within noise: their 95 % interval on tasks like "
            "these (tasks resampled, seeds by Student's t) holds zero, and the tables say so."
        )
        if once:
            said += f" {once} are of trainings that were run once: nothing tells whether they would repeat."
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
            "system": label(system, results),
            **{c: values.get(c, np.nan) for c in [*COLUMNS, *APART]},
        }
        for system, values in by_system_of_equal_tasks(_of_table1(results)).items()
    )
    record = results.stage("04_evaluate")
    benchmark = "+".join(sorted({r["benchmark"] for r in _of_table1(results)})) or "none"
    note = (
        f"Profile `{record['profile']}` ({record['profile_hash']}), benchmark: {benchmark}, "
        f"mteb {record['versions']['mteb']}, seed {record['seeds'][0]}. In the paper, on MTEB's 56 datasets, "
        "training on synthetic data alone gives an average of 63.1: not comparable with this table."
    )
    return f"{markdown(frame)}\n{note}\n"
