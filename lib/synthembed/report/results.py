"""What a run measured: its files, and for a published number the one of ours that belongs to it.

Reads results only. Which rows of scores.json belong to which cell of the paper is data
(paper/artefacts.yaml); whether the two compare is judged here, and the reason is kept if they do not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev

from . import paper
from .provenance import read_json

ABLATIONS, EVALUATION = "05_ablations", "04_evaluate"


@dataclass(frozen=True)
class Number:
    """A measured value per seed (None if the rows name none), in the unit of the published one.

    ``why`` is the reason why it does not compare with the published number, if there is one.
    """

    values: dict[int | None, float]
    benchmark: str
    system: str
    stage: str
    why: str | None = None
    tasks: int = 1

    @property
    def mean(self) -> float:
        return fmean(self.values.values())

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds."""
        return stdev(self.values.values()) if len(self.values) > 1 else None

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def seeds(self) -> list[int]:
        return [s for s in self.values if s is not None]

    def minus(self, other: Number) -> Number:
        """The difference, seed by seed where both have the same seeds, of the means otherwise."""
        both = [s for s in self.values if s in other.values]
        pairs = {s: self.values[s] - other.values[s] for s in both} or {None: self.mean - other.mean}
        return Number(pairs, self.benchmark, self.system, self.stage, self.why or other.why)


@dataclass
class Scores:
    """One scores.json: ``rows`` of main scores, ``more`` of secondary ones, and who fills what."""

    rows: list[dict] = field(default_factory=list)
    more: list[dict] = field(default_factory=list)
    fills: dict[str, dict[str, str]] = field(default_factory=dict)
    intervals: dict[str, dict] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Scores:
        data = read_json(path, {})
        return cls(
            *(data.get(k, d) for k, d in (("rows", []), ("more", []), ("fills", {}), ("intervals", {})))
        )

    @property
    def systems(self) -> list[str]:
        return list(dict.fromkeys(r["system"] for r in self.rows))

    @property
    def benchmarks(self) -> list[str]:
        """As the rows name them, without the mark of a part."""
        return list(dict.fromkeys(_whole(r["benchmark"]) for r in self.rows))

    def filler(self, artefact: str, name: str) -> str | None:
        """The system that fills a row (or column) of an artefact."""
        return next((s for s, rows in self.fills.items() if rows.get(artefact) == name), None)


class Results:
    """What a run has written so far; every reader copes with a stage that has not run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.statistics = read_json(folder / "02_analyze" / "statistics.json")
        self.scores = {s: Scores.read(folder / s / "scores.json") for s in (EVALUATION, ABLATIONS)}
        self.passkey = read_json(folder / "06_long_context" / "scores.json", {"passkey": []})["passkey"]
        log = folder / "03_train" / "log.jsonl"
        self.log = [json.loads(x) for x in log.read_text().splitlines()] if log.exists() else []
        self.records = {p.parent.name: read_json(p) for p in sorted(folder.glob("*/stage.json"))}
        main = self.scores[EVALUATION]
        if "trained" in main.systems:
            main.fills.setdefault("trained", paper.fills(self.setting()))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def evaluation(self) -> list[dict]:
        return self.scores[EVALUATION].rows

    def stage(self, name: str) -> dict:
        return self.records.get(name, {})

    def budget(self, stage: str) -> dict:
        """What every row of a stage changes in how models are trained; {} is the main run's training."""
        common = self.stage(stage).get("settings", {}).get("ablations", {}).get("set", {})
        training = ("train.", "backbone.", "lora.")
        return {k: v for k, v in common.items() if stage == ABLATIONS and k.startswith(training)}

    def setting(self, *changes: dict) -> str:
        """The training data (data.setting) of this run, or of a row that changes it."""
        found = [c["data.setting"] for c in changes if "data.setting" in c]
        settings = [r.get("settings", {}).get("data") for r in self.records.values()]
        return [*found, *(s["setting"] for s in settings if s and "setting" in s), "synthetic"][0]


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


def lookup(scores: Scores, stage: str, system: str, benchmark: str, conditions: dict) -> Number | None:
    """The mean over tasks (a task with several languages counts once) of the rows that meet
    ``conditions``, per seed; ``why`` says what is missing. Seeds with fewer rows than others are left out.
    """
    wanted = {
        k: v if isinstance(v, list) else [v] for k, v in conditions.items() if k not in ("tasks", "subsets")
    }

    def meets(row: dict) -> bool:
        if row["system"] != system or _whole(row["benchmark"]) != benchmark:
            return False
        return all(row.get(key) in values for key, values in wanted.items())

    rows = [r for r in scores.rows if meets(r)]
    if not rows and "metric" in wanted:
        rows = [r for r in scores.more if meets(r)]
    by_seed: dict[int | None, dict[str, list[float]]] = {}
    for row in rows:
        by_seed.setdefault(row.get("seed"), {}).setdefault(row["task"], []).append(row["score"])
    if not by_seed:
        return None
    size = {seed: sum(map(len, tasks.values())) for seed, tasks in by_seed.items()}
    whole = {seed: tasks for seed, tasks in by_seed.items() if size[seed] == max(size.values())}
    values = {seed: fmean(fmean(s) for s in tasks.values()) for seed, tasks in whole.items()}
    counts = {"tasks": max(map(len, whole.values())), "subsets": max(size.values())}
    short = [f"{n} of {conditions[u]} {u}" for u, n in counts.items() if n < conditions.get(u, n)]
    return Number(values, benchmark, system, stage, short[0] if short else None, counts["tasks"])


def _whole(benchmark: str) -> str:
    return benchmark.removesuffix(", part")


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
