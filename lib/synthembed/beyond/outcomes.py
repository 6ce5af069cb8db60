"""What experiments gave: scores.json of notebook 08, and a table of each experiment, made from it alone.

A score is the mean over the tasks that the experiment names. Its interval is over the seeds of training, with
tasks and texts held; that of a difference has the texts in it as well (evaluation.intervals, "on this benchmark").
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from synthembed.beyond import trends
from synthembed.beyond.experiment_runs import Plan
from synthembed.beyond.rereading import bytes_of
from synthembed.evaluation.intervals import BENCHMARK
from synthembed.evaluation.intervals import interval as difference
from synthembed.evaluation.scores import mean_over_tasks
from synthembed.evaluation.suites import units
from synthembed.profile.experiment_settings import Experiment, Reading
from synthembed.profile.settings import Profile

EUROPEAN = {
    "eng", "deu", "fra", "spa", "ita", "por", "nld", "pol", "rus", "ces", "ell", "fin", "swe", "ukr", "dan", "ron",
    "hun", "slk", "bul", "hrv", "lit", "est", "cat",
}  # fmt: skip
GROUPS = ("English", "European", "other")  # columns of the heat map


@dataclass(frozen=True)
class Outcome:
    """One line of an experiment: ``score`` and ``delta`` are (mean, low, high), ends None where nothing measures
    them; ``why`` says why there is no score."""

    row: str
    x: float | None = None
    score: tuple | None = None
    seeds: tuple[float, ...] = ()
    delta: tuple | None = None
    examples: int | None = None
    steps: int | None = None
    why: str = ""


def systems_of(experiment: Experiment) -> dict[str, tuple[str, float | None]]:
    """System → (name of its line, its x), in the order of the profile: rows, and their readings after each."""
    found: dict[str, tuple[str, float | None]] = {}
    for row in experiment.rows:
        found[f"{experiment.id}/{row.id}"] = row.id, row.x
        for reading in row.readings:
            name = f"{row.id}, {reading.id}" if len(experiment.rows) > 1 else reading.id
            found[f"{experiment.id}/{row.id}@{reading.id}"] = name, None
    return found


def scores(profile: Profile, planned: Plan, rows: list[dict]) -> dict:
    """scores.json: ``rows``, the ``intervals`` of differences, ``sizes`` (examples, steps) and what is ``waiting``."""
    folders = {
        system: training.results()
        for training in planned.trainings
        for system in training.systems
        if training.soup
    }
    for training in planned.trainings:
        for system in training.systems if not training.soup else ():
            for of in ("", *training.readings):
                folders.setdefault(system + (f"@{of}" if of else ""), []).extend(training.results(of))
    there, intervals = {row["system"] for row in rows}, {}
    for experiment in profile.experiments.questions:
        against = f"{experiment.id}/{experiment.against or experiment.rows[0].id}"
        for system in systems_of(experiment):
            if system != against and {system, against} <= there:
                with suppress(ValueError):  # no task in common
                    texts = units.differences(folders[system], folders[against])
                    intervals[system] = difference(
                        rows, system, against, kind=BENCHMARK, units=texts, categories=None
                    )
    return {"rows": rows, "intervals": intervals, "sizes": planned.sizes, "waiting": planned.waiting}


def table(scored: dict, experiment: Experiment) -> list[Outcome]:
    """The lines of an experiment, each with its score or with why it has none."""
    found = []
    for system, (name, x) in systems_of(experiment).items():
        row = system.partition("@")[0]
        size = scored["sizes"].get(row, {})
        values = by_seed([r for r in scored["rows"] if r["system"] == system])
        if not values:
            why = scored["waiting"].get(row, "not run")
            if "@" not in system:
                found.append(Outcome(name, x, why=why))
            continue
        apart = scored["intervals"].get(system)
        delta = apart and (apart["delta"], apart["low"], apart["high"])
        found.append(
            Outcome(name, x, trends.interval(list(values.values())), tuple(values.values()), delta, **size)
        )
    return found


def by_seed(rows: list[dict]) -> dict[int, float]:
    """Seed → the mean over tasks of one system, whatever their category."""
    seeds = sorted({r["seed"] for r in rows})
    return {seed: mean_over_tasks(r for r in rows if r["seed"] == seed) for seed in seeds}


def learning_curves(scored: dict, experiment: Experiment) -> dict[str, dict[str, dict[int, tuple]]]:
    """Row → category → step → (mean, low, high) over seeds, of the steps that were scored."""
    found: dict[str, dict[str, dict[int, tuple]]] = {}
    for row in experiment.rows:
        begin = f"{experiment.id}/{row.id}@step-"
        mine = [r for r in scored["rows"] if r["system"].startswith(begin)]
        for category in dict.fromkeys(r["category"] for r in mine):
            of = [r for r in mine if r["category"] == category]
            steps = sorted({int(r["system"].removeprefix(begin)) for r in of})
            found.setdefault(row.id, {})[category] = {
                step: trends.interval(
                    list(by_seed([r for r in of if r["system"] == f"{begin}{step}"]).values())
                )
                for step in steps
            }
    return found


def transfer(scored: dict, experiment: Experiment) -> dict[str, dict[str, tuple]]:
    """Row (trained on) → kind of task and group of languages (tested on) → (mean, low, high) over seeds."""
    found: dict[str, dict[str, tuple]] = {}
    for row in experiment.rows:
        mine = [r for r in scored["rows"] if r["system"] == f"{experiment.id}/{row.id}"]
        cells: dict[str, list[dict]] = {}
        for r in mine:
            cells.setdefault(
                f"{KINDS.get(r['category'], r['category'])}, {group_of(r['language'])}", []
            ).append(r)
        ordered = sorted(cells, key=lambda cell: (cell.split(", ")[0], GROUPS.index(cell.split(", ")[1])))
        found[row.id] = {cell: trends.interval(list(by_seed(cells[cell]).values())) for cell in ordered}
    return {row: cells for row, cells in found.items() if cells}


KINDS = {"Multil.": "retrieval", "Bitext": "translation pairs", "Retr.": "retrieval"}


def tested_languages(scored: dict, experiment: Experiment) -> dict[str, list[str]]:
    """Group of the heat map's columns → the languages in it that were tested, English aside."""
    mine = {r["language"] for r in scored["rows"] if r["system"].startswith(f"{experiment.id}/")}
    codes = sorted({code for language in mine for code in codes_of(language)})
    groups = {group: [c for c in codes if group_of(c) == group] for group in GROUPS[1:]}
    return {group: some for group, some in groups.items() if some}


def group_of(language: str) -> str:
    """The group of a row's language, of a pair that of the one which is not English."""
    others = [one for one in codes_of(language) if one != "eng"]
    if not others:
        return "English"
    return "European" if set(others) <= EUROPEAN else "other"


def codes_of(language: str) -> list[str]:
    """The languages of a row, which may name its subset after them: "deu+eng (de-en)"."""
    return language.partition(" (")[0].split("+")


def by_bytes(scored: dict, experiment: Experiment, dims: int) -> dict[tuple[str, str], list[tuple]]:
    """(row, precision) → (bytes of a vector, mean, low, high) of its readings, by bytes; ``dims`` is the size of a
    whole vector."""
    found: dict[tuple[str, str], list[tuple]] = {}
    for row in experiment.rows:
        for reading in (Reading(id="whole"), *row.readings):
            of = "" if reading.id == "whole" else f"@{reading.id}"
            mine = [r for r in scored["rows"] if r["system"] == f"{experiment.id}/{row.id}{of}"]
            if mine:
                point = bytes_of(reading.dims or dims, reading.precision)
                value = trends.interval(list(by_seed(mine).values()))
                found.setdefault((row.id, reading.precision), []).append((point, *value))
    return {name: sorted(points) for name, points in found.items()}
