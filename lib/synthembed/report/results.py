"""What a run measured: its files, and means over rows of scores.json. Reads results only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean, stdev

from synthembed import paper
from synthembed.evaluation.scores import by_task, mean_over_tasks
from synthembed.ground.files import read_json

ABLATIONS, EVALUATION = "05_ablations", "04_evaluate"
CHANCE = "random"  # the system whose vectors are random


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
    rows: list[dict] = field(default_factory=list, repr=False, compare=False)  # of scores.json

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
    """One scores.json: ``rows`` of main scores, ``more`` of secondary ones, who fills what, intervals of
    differences, of how many examples an ablation was trained on, and what its texts' choice adds to a score
    (system → task → language → standard error in points)."""

    rows: list[dict] = field(default_factory=list)
    more: list[dict] = field(default_factory=list)
    fills: dict[str, dict[str, str]] = field(default_factory=dict)
    intervals: dict[str, dict] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)
    errors: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Scores:
        data = read_json(path, {})
        return cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})

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
    """What a run has written so far; every reader copes with a stage that has not run. ``beside`` names the
    folders of stages that are being made anew, and are read in the place of those in ``folder``."""

    def __init__(self, folder: Path, beside: dict[str, Path] | None = None):
        self.folder = folder
        of = (beside or {}).get
        self.statistics = read_json(folder / "02_analyze" / "statistics.json")
        self.scores = {s: Scores.read(of(s, folder / s) / "scores.json") for s in (EVALUATION, ABLATIONS)}
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

    def chance(self, rows: list[dict]) -> float | None:
        """What random vectors have in ``rows``, if the main evaluation has measured them there."""
        main = self.scores[EVALUATION]
        random = {_place(r): r["score"] for r in [*main.more, *main.rows] if r["system"] == CHANCE}
        if not rows or not all(_place(r) in random for r in rows):
            return None
        return mean_over_tasks(r | {"score": random[_place(r)]} for r in rows)

    def chance_beside(self, number: Number) -> Number | None:
        """``chance`` as a number that stands in one table with ``number``."""
        score = self.chance(number.rows)
        same = {"system": CHANCE, "stage": EVALUATION, "values": {None: score}, "why": None}
        return None if score is None else replace(number, **same)

    def stage(self, name: str) -> dict:
        return self.records.get(name, {})

    def budget(self, stage: str) -> dict:
        """What every row of a stage changes in how models are trained; {} is the main run's training."""
        common = self.stage(stage).get("settings", {}).get("ablations", {}).get("set", {})
        training = ("train.", "backbone.", "lora.")
        return {k: v for k, v in common.items() if stage == ABLATIONS and k.startswith(training)}

    def changes(self, stage: str, system: str) -> list[dict]:
        """What an ablation changes in the profile, its own changes before those of every row."""
        if stage != ABLATIONS:
            return []
        plan = self.stage(stage).get("settings", {}).get("ablations", {})
        own = [row.get("set", {}) for row in plan.get("rows", []) if row["id"] == system]
        return [*own, plan.get("set", {})]

    def setting(self, *changes: dict) -> str:
        """The training data (data.setting) of this run, or of a row that changes it."""
        found = [c["data.setting"] for c in changes if "data.setting" in c]
        settings = [r.get("settings", {}).get("data") for r in self.records.values()]
        return [*found, *(s["setting"] for s in settings if s and "setting" in s), "synthetic"][0]


def lookup(scores: Scores, stage: str, system: str, benchmark: str, conditions: dict) -> Number | None:
    """The mean over tasks (a task with several languages counts once) of the rows that meet
    ``conditions``, per seed; ``why`` says what is missing. Seeds with fewer rows than others are left out.
    """
    wanted = {
        k: v if isinstance(v, list) else [v] for k, v in conditions.items() if k not in ("tasks", "subsets")
    }

    def meets(row: dict) -> bool:
        return _whole(row["benchmark"]) == benchmark and all(
            row.get(key) in values for key, values in wanted.items()
        )

    rows = [r for r in scores.rows if r["system"] == system and meets(r)]
    if not rows and "metric" in wanted:
        rows = [r for r in scores.more if r["system"] == system and meets(r)]
    by_seed: dict[int | None, list[dict]] = {}
    for row in rows:
        by_seed.setdefault(row.get("seed"), []).append(row)
    if not by_seed:
        return None
    most = max(map(len, by_seed.values()))
    whole = {seed: of_seed for seed, of_seed in by_seed.items() if len(of_seed) == most}
    values = {seed: mean_over_tasks(of_seed) for seed, of_seed in whole.items()}
    rows = [row for of_seed in whole.values() for row in of_seed]
    counts = {"tasks": max(len(by_task(of_seed)) for of_seed in whole.values()), "subsets": most}
    short = [f"{n} of {conditions[u]} {u}" for u, n in counts.items() if n < conditions.get(u, n)]
    return Number(values, benchmark, system, stage, short[0] if short else None, counts["tasks"], rows)


def _place(row: dict) -> tuple[str, str, str]:
    return row["task"], row["language"], row["metric"]


def _whole(benchmark: str) -> str:
    return benchmark.removesuffix(", part")
