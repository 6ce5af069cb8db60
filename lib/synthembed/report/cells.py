"""For a published number the one of ours that belongs to it, and why the two may not compare.

Which rows of scores.json belong to which cell of the paper is data (paper/artefacts.yaml); whether the
two compare is judged here, and the reason is kept if they do not.
"""

from __future__ import annotations

from dataclasses import replace

from synthembed import paper
from synthembed.report.results import ABLATIONS, EVALUATION, Number, Results, lookup


def of_cell(results: Results, cell: paper.Cell, stages: list[str] | None = None) -> Number | None:
    """Our number for a published one, or None if this run has none; ``stages`` are those to look in
    and their order, if not the registry's."""
    if cell.artefact == "figure2":
        return _share(results, cell)
    if cell.artefact == "figure5":
        return _passkey(results, cell)
    return _scored(results, cell, stages)


def _scored(results: Results, cell: paper.Cell, stages: list[str] | None = None) -> Number | None:
    differences = paper.artefacts()[cell.artefact].get("differences", {})
    if terms := differences.get(cell.column) or differences.get(cell.row):
        first, second = (_scored(results, _changed(cell, terms[side]), stages) for side in ("of", "from"))
        same = first and second and first.benchmark == second.benchmark
        if same and results.budget(first.stage) == results.budget(second.stage):
            return first.minus(second)
        return None
    for stage, system in _candidates(results, cell, stages):
        found = [
            n
            for b, c in paper.ways(cell).items()
            if (n := lookup(results.scores[stage], stage, system, b, c))
        ]
        judged = [replace(n, why=_why(results, cell, n)) for n in found]
        if judged:  # the first that compares, or else what the best benchmark gives
            return next((n for n in judged if n.why is None), judged[0])
    return None


def _changed(cell: paper.Cell, change: dict[str, str]) -> paper.Cell:
    row = change.get("row", cell.row)
    return replace(
        cell, row=row, system=row, column=change.get("column", cell.column), keys=cell.keys | change
    )


def _candidates(results: Results, cell: paper.Cell, stages: list[str] | None) -> list[tuple[str, str]]:
    """(stage, system) that may give a cell. A row that is the main model's is never an ablation's,
    except in artefacts that name the ablations first: their rows share a budget."""
    if not cell.own:
        named = paper.systems(cell.artefact)[cell.system].get("run")
        return [(EVALUATION, named)] if named in results.scores[EVALUATION].systems else []
    stages = stages or paper.artefacts()[cell.artefact].get("stages")
    if stages is None:
        main = paper.fills(results.setting()).get(cell.artefact) == cell.system
        stages = [EVALUATION] if main else [EVALUATION, ABLATIONS]
    found = [(s, results.scores[s].filler(cell.artefact, cell.system)) for s in stages]
    return [(stage, system) for stage, system in found if system]


def _why(results: Results, cell: paper.Cell, number: Number) -> str | None:
    """Why a number does not compare with the published one, or None."""
    about = paper.systems(cell.artefact)[cell.system]
    reason = paper.benchmarks()[number.benchmark].get("why") or number.why or about.get("why")
    if reason or not cell.own:
        return reason or _moved(results, cell, number)
    record = results.stage(number.stage).get("settings", {})
    changes = _changes(record, number.system)
    if (setting := results.setting(*changes)) != about["setting"]:
        return f"trained on {setting} data, in the paper on {about['setting']}"
    if setting != "synthetic" and record.get("data", {}).get("labelled") == "installed":
        return "trained on stand-ins for the public labelled sets"
    evaluated = record.get("evaluate", {}) | {
        key.removeprefix("evaluate."): value for change in reversed(changes) for key, value in change.items()
    }
    for key, value in paper.protocol().items():
        if evaluated.get(key, value) != value:
            return f"evaluate.{key} is {evaluated[key]} here and {value} in the paper"
    return _moved(results, cell, number)


def _changes(settings: dict, system: str) -> list[dict]:
    """What an ablation changes in the profile, its own changes before those of every row."""
    plan = settings.get("ablations", {})
    own = [row.get("set", {}) for row in plan.get("rows", []) if row["id"] == system]
    return [*own, plan.get("set", {})]


def _moved(results: Results, cell: paper.Cell, number: Number) -> str | None:
    task = cell.row if cell.artefact == "table17" else None
    if task not in paper.moved_by_mteb():
        return None
    version = results.stage(number.stage).get("versions", {}).get("mteb", "of this run")
    card = paper.published()["released_model_mteb56"]["rows"][task]
    again = card["rerun_results_repo"]
    return (
        f"mteb {version} scores this set otherwise than the paper's mteb 1.0.2: the released weights got "
        f"{again['score']:.1f} with mteb {again['mteb_version']}, {card['score']:.1f} on their card"
    )


def _share(results: Results, cell: paper.Cell) -> Number | None:
    """Figure 2: task types in thousands of examples, languages in per cent."""
    data = results.statistics or {}
    share = data.get({"task types": "families", "languages": "languages"}[cell.row], {}).get(cell.column)
    if share is None:
        return None
    published = paper.published()["figure2"]["total_k_derived"]
    value = share * data["examples"] / 1e5 if cell.row == "task types" else share
    small = data["examples"] < 900 * published
    why = f"{data['examples']:,} examples, about {published},000 in the paper" if small else None
    return Number({None: value}, "synthetic corpus", "corpus", "02_analyze", why)


def _passkey(results: Results, cell: paper.Cell) -> Number | None:
    for point in results.passkey:
        if passkey_row(point) == cell.row and str(point["length"]) == cell.column:
            benchmark, why = passkey_benchmark(point), passkey_why(point)
            return Number({None: point["accuracy"]}, benchmark, point["variant"], "06_long_context", why)
    return None


def passkey_benchmark(point: dict) -> str:
    return point.get("benchmark", "own passkey data")


def passkey_why(point: dict) -> str | None:
    """Why a measured point does not compare with Figure 5, or None."""
    why = paper.benchmarks().get(passkey_benchmark(point), {"why": "a test of this run's own"}).get("why")
    if why or (point["queries"] >= 50 and point["candidates"] >= 100):
        return why
    return f"{point['queries']} queries of {point['candidates']} candidates, 50 of 100 in the paper"


def passkey_row(point: dict) -> str | None:
    """The row of Figure 5 that a measured point belongs to."""
    return point.get("fills", {}).get("figure5") or point.get("paper_row")
