"""The paper's tables: a block as published, and beside it a block of ours for each benchmark that a run
measured, headed by its name. CSV, Markdown, LaTeX and HTML. Reads results only.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from synthembed import paper
from synthembed.evaluation.intervals import BENCHMARK, TASKS
from synthembed.evaluation.scores import TABLE1, by_system
from synthembed.report.rendering import PEER, Block, Table
from synthembed.report.results import ABLATIONS, CHANCE, EVALUATION, Number, Results, lookup
from synthembed.report.verdicts import of_cell
from synthembed.report.words import labels
from synthembed.report.words.labels import SYSTEM_NAMES, label

# The controls of notebook 05 at one budget: what is trained, or why not; "synthetic" is what they are for.
CONTROLS = {
    **{system: SYSTEM_NAMES[system] for system in ("random", "static", "base")},
    "random-init": "the base's shape with random weights, trained on synthetic + docstring pairs",
    "shuffled": "synthetic, each query with another one's documents",
    "msmarco": "docstring pairs alone, the stand-in for MS-MARCO",
    "no-hard-negatives": "synthetic without hard negatives",
    "synthetic": "synthetic",
}
PEER_NOTE = f"{PEER} a peer's numbers, as published, not run by us."


def build(artefact: str, runs: list[Results]) -> Table:
    """One table of the paper: as published, then of every run, stage and benchmark that has its columns."""
    about = paper.artefacts()[artefact]
    ours = [
        block
        for results in runs
        for stage, scores in results.scores.items()
        for benchmark in scores.benchmarks
        if (block := _ours(artefact, results, stage, benchmark, len(runs) > 1))
    ]
    notes = [PEER_NOTE] if any("setting" not in s for s in paper.systems(artefact).values()) else []
    notes += [f"{name}: {', '.join(columns)}." for name, columns in about.get("columns", {}).items()]
    notes += [about["note"]] if "note" in about and ours else []
    notes += (
        [note for r in runs for note in [*_row_notes(artefact, r), *_places(artefact, r)]] if ours else []
    )
    filled = {rows.get(artefact) for r in runs for s in r.scores.values() for rows in s.fills.values()}
    lacking = {n: about["needs"] for n, about in paper.systems(artefact).items() if "needs" in about}
    if lacking and not filled & lacking.keys():
        notes.append(f"Not at this scale: {' and '.join(lacking)}. It needs {next(iter(lacking.values()))}.")
    if not ours:
        notes.append("Not run: no stage of this run has measured it.")
    if any("embedded suite" in b.heading for b in ours):
        notes.append("The embedded suite is not the paper's benchmark: compare within a block, not across.")
    spread = {v.n for b in ours for _, _, values in b.rows for v in values if isinstance(v, Number) and v.std}
    if spread:
        counts = " or ".join(str(n) for n in sorted(spread))
        notes.append(f"±: standard deviation over {counts} seeds of training.")
    return Table(about["title"], [_published(artefact), *ours], list(dict.fromkeys(notes)))


def controls(results: Results) -> pd.DataFrame:
    """Controls beside training on synthetic data, at the ablations' budget and on their tasks: columns row,
    what, Avg, and gain over the untouched base; worst first. Empty without them."""
    trained, main = results.scores[ABLATIONS].rows, results.evaluation
    wanted = {r["task"] for r in trained if r["system"] == "synthetic" and r["category"] in TABLE1}
    rows = [r for r in [*main, *trained] if r["task"] in wanted and r["system"] in CONTROLS]
    found = {
        s: v["Avg"]
        for s, v in by_system(rows).items()
        if {r["task"] for r in rows if r["system"] == s} == wanted
    }
    frame = pd.DataFrame(
        {"row": s, "what": CONTROLS[s], "Avg": avg, "gain": avg - found.get("base", float("nan"))}
        for s, avg in found.items()
    )
    return frame.sort_values("Avg", ignore_index=True) if len(frame) else frame


def who_wins(frame: pd.DataFrame, seeds: int) -> str:
    """The finding of ``controls`` in a sentence or two, from its numbers."""
    if not len(frame) or "synthetic" not in set(frame["row"]):
        return "The controls have not been run."
    avg = frame.set_index("row")["Avg"]
    best, others = avg.idxmax(), avg.drop("synthetic")
    if best == "synthetic":
        how = "wins with" if seeds > 1 else "has most,"  # one training tells nothing of the next
        said = f"At one budget training on synthetic data {how} {avg['synthetic']:.1f}, ahead of "
        said += f"{CONTROLS[others.idxmax()]} ({others.max():.1f})"
    else:
        how = "does not win" if seeds > 1 else "is not ahead"
        said = f"At one budget training on synthetic data has {avg['synthetic']:.1f} and {how}: "
        said += f"{CONTROLS[best]} has {avg[best]:.1f}"
    if "shuffled" in avg:
        fails = avg["shuffled"] < avg["synthetic"] - 5
        said += f"; shuffled pairs {'fail, as they must' if fails else 'do not fail, as they should'} ({avg['shuffled']:.1f})"
    return said + f". {seeds} seed{'s' if seeds > 1 else ', so the noise of training is not in this'}."


def _row_notes(artefact: str, results: Results) -> list[str]:
    """What the profile says of ablations that fill the artefact: stand-ins, mostly."""
    plan = results.stage(ABLATIONS).get("settings", {}).get("ablations", {}).get("rows", [])
    fills = results.scores[ABLATIONS].fills
    wanted = [r for r in plan if r.get("note") and artefact in fills.get(r["id"], {})]
    return [f"{label(r['id'], results, ABLATIONS)}: {r['note']}" for r in wanted]


def _places(artefact: str, results: Results) -> list[str]:
    """On the embedded suite, which row of the paper each of ours stands in the place of."""
    said = {
        f"{label(system, results, stage)} for {rows[artefact]!r}"
        for stage, scores in results.scores.items()
        for system, rows in scores.fills.items()
        if artefact in rows and labels.SUITE in scores.benchmarks
    }
    return [f"Stand-ins for rows of the paper: {'; '.join(sorted(said))}."] if said else []


def _published(artefact: str) -> Block:
    cells = list(paper.cells(artefact))
    rows, columns = (list(dict.fromkeys(getattr(c, side) for c in cells)) for side in ("row", "column"))
    values = {(c.row, c.column): c.value for c in cells}
    own = {c.system: c.own for c in cells}
    marked = {c.column: c.column if c.own or c.system == c.row else f"{c.column} {PEER}" for c in cells}
    table = [
        (_group(artefact, row), row if own.get(row, True) else f"{row} {PEER}",
         [values.get((row, column)) for column in columns])
        for row in rows
    ]  # fmt: skip
    return Block("as published", [_column(marked[c]) for c in columns], table)


def _group(artefact: str, row: str) -> str:
    if artefact == "table17":
        return paper.table(artefact)["rows"].get(row, {}).get("category", "")
    return paper.systems(artefact).get(row, {}).get("group", "")


def _column(name: str) -> str:
    return {"delta_avg": "Delta"}.get(name, name)


def _ours(artefact: str, results: Results, stage: str, benchmark: str, several: bool) -> Block | None:
    scores = results.scores[stage]
    filling = stage == ABLATIONS or "stages" in paper.artefacts()[artefact]
    systems = [s for s in scores.systems if not filling or artefact in scores.fills.get(s, {})]
    measures = _measures(artefact, benchmark, results)
    values = {
        system: [lookup(scores, stage, system, benchmark, conditions) for _, _, conditions in measures]
        for system in systems
    }
    values = {s: _of_equal_tasks(v, values) for s, v in values.items()}
    values = {s: v for s, v in values.items() if any(v)}
    if not values:
        return None
    if CHANCE not in values and any(chance := _chance(results, values)):
        values[CHANCE] = chance
    run = results.name if several else "this run"
    found = [n for column in values.values() for n in column if n]
    part = any(n.why for n in found)
    heading = f"{run}, {labels.benchmark_name(benchmark, max(n.tasks for n in found))}"
    heading += ", in part" if part else ""
    heading += ", ablations at their own budget" if stage == ABLATIONS else ""
    named = {s: label(s, results, EVALUATION if s == CHANCE else stage) for s in values}
    # The paper's name of a row stands beside ours only on the paper's benchmark.
    theirs = {
        s: "" if benchmark == labels.SUITE else scores.fills.get(s, {}).get(artefact, "") for s in values
    }
    first = next(paper.cells(artefact))
    if first.system == first.row:
        columns = [
            labels.column(artefact, column, [v[n] for v in values.values()], benchmark)
            for n, (_, column, _) in enumerate(measures)
        ]
        block = Block(heading, columns, [(theirs[s], named[s], v) for s, v in values.items()])
        compared = stage == ABLATIONS and artefact in ("table5", "table7")
        block = _without_empty(block)
        return _with_deltas(block, list(values), artefact, results) if compared else block
    across = dict.fromkeys((prefix, s) for prefix in dict.fromkeys(c for _, c, _ in measures) for s in values)
    rows = []
    for row in dict.fromkeys(r for r, _, _ in measures):
        at = {column: n for n, (r, column, _) in enumerate(measures) if r == row}
        rows.append((_group(artefact, row), row, [values[s][at[p]] if p in at else None for p, s in across]))
    names = [f"{p} {theirs[s] or named[s]}".strip() for p, s in across]
    block = _without_empty(Block(heading, names, rows))
    return replace(block, rows=[r for r in block.rows if any(v is not None for v in r[2])])


def _chance(results: Results, everyone: dict[str, list[Number | None]]) -> list[Number | None]:
    """What random vectors have in every column, on the tasks that the systems of a block have there."""
    columns = zip(*everyone.values(), strict=True)
    fullest = (max(filter(None, column), key=lambda n: n.tasks, default=None) for column in columns)
    return [n and results.chance_beside(n) for n in fullest]


def _without_empty(block: Block) -> Block:
    """Without the columns in which no row has a number."""
    kept = [n for n in range(len(block.columns)) if any(v[n] is not None for _, _, v in block.rows)]
    rows = [(group, name, [values[n] for n in kept]) for group, name, values in block.rows]
    return replace(block, columns=[block.columns[n] for n in kept], rows=rows)


def _measures(artefact: str, benchmark: str, results: Results) -> list[tuple[str, str, dict]]:
    """(row, column, conditions) of what this benchmark measures of the artefact, for any system."""
    if artefact == "table17" and benchmark == "embedded":
        tasks = {
            r["task"]: r["category"]
            for s in results.scores.values()
            for r in s.rows
            if r["benchmark"] == benchmark
        }
        average = next(paper.ways(c)[benchmark] for c in paper.cells(artefact) if c.row == "Average")
        named = [(t, "", {"task": t}) for t, category in tasks.items() if category in average["category"]]
        return [*named, ("Average", "", average)]
    first = next(paper.cells(artefact)).system
    cells = [c for c in paper.cells(artefact) if c.system == first and benchmark in paper.ways(c)]
    names = ((c, paper.ways(c)[benchmark]) for c in cells)
    shown = paper.artefacts()[artefact].get("shown_as", {}).get(benchmark, {})
    metric = {c: shown.get(m := c.keys.get("metric", ""), m) for c in cells}
    return [
        ("" if c.system == c.row else c.row, c.column if c.system == c.row else metric[c], w)
        for c, w in names
    ]


def _of_equal_tasks(numbers: list[Number | None], everyone: dict[str, list]) -> list[Number | None]:
    """Without the means over fewer tasks than another system has: they would not compare."""
    most = [max((n.tasks for n in column if n), default=0) for column in zip(*everyone.values(), strict=True)]
    return [n if n and n.tasks == m else None for n, m in zip(numbers, most, strict=True)]


def _with_deltas(block: Block, systems: list[str], artefact: str, results: Results) -> Block:
    """A last column for ablations: the change of the average, and whether it is more than noise. A row
    whose interval was measured against one outside this table has none here."""
    scores = results.scores[ABLATIONS]
    intervals = scores.intervals
    rows = []
    for (group, name, values), system in zip(block.rows, systems, strict=True):
        interval = intervals.get(system)
        if interval and interval.get("against", systems[0]) not in systems:
            interval = None
        change = _delta(scores.fills.get(system, {}).get(artefact, ""), results)
        rows.append((group, name, [*values, delta_text(interval, change)]))
    return replace(block, columns=[*block.columns, "Delta"], rows=rows)


def _delta(row: str, results: Results) -> float | None:
    cells = (c for c in paper.cells("table5") if c.column == "delta_avg" and c.row == row)
    number = next((n for c in cells if (n := of_cell(results, c))), None)
    return number and number.mean


def delta_text(interval: dict | None, delta: float | None = None) -> str | None:
    """A change in points with its 95 % interval; named as noise if the interval holds 0, and with the
    reason if what is missing (a second seed) leaves it undecided."""
    if interval is None:
        return None if delta is None else f"{delta:+z.1f}"
    bounds = "" if interval["low"] is None else f" [{interval['low']:+z.1f}, {interval['high']:+z.1f}]"
    return f"{interval['delta']:+z.1f}{bounds}" + (
        f", {interval.get('why') or 'within noise'}" if interval["within_noise"] else ""
    )


def distances(results: Results) -> pd.DataFrame:
    """How far the trained model's average is from every other system's: columns from, and those of ``_both``."""
    found = results.scores[EVALUATION].intervals
    return pd.DataFrame(
        {"from": label(other, results)} | _both(interval) for other, interval in found.items()
    )


def changes(results: Results) -> pd.DataFrame:
    """How far each ablation is from the row that it is compared with: columns row, against, and those of
    ``_both``."""
    found = results.scores[ABLATIONS].intervals
    return pd.DataFrame(
        {"row": label(row, results, ABLATIONS), "against": label(i["against"], results, ABLATIONS)} | _both(i)
        for row, i in found.items()
    )


def _both(interval: dict) -> dict:
    """A difference with its two 95 % intervals (evaluation/intervals.py), the tasks that both sides have, and
    the seeds. Older records have one interval."""
    kinds = {f"{BENCHMARK} (texts, seeds)": interval.get(BENCHMARK), f"{TASKS} (tasks, seeds)": interval}
    said = {name: delta_text(found) for name, found in kinds.items() if found}
    return said | {"tasks": interval.get("tasks"), "seeds": interval.get("seeds")}
