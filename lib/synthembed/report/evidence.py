"""Quantities that claims are judged by (claims.yaml), as a run has measured them. Reads results only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from math import hypot, sqrt
from statistics import fmean, stdev, variance

from scipy.special import stdtrit

from synthembed import paper
from synthembed.evaluation.scores import TABLE1, averages
from synthembed.profile.taxonomy import ASYMMETRIC, LANGUAGES, SYMMETRIC_INSTRUCTIONS
from synthembed.report.results import ABLATIONS, EVALUATION, Number, Results, Scores, lookup
from synthembed.report.verdicts import of_cell, passkey_benchmark, passkey_row, passkey_why
from synthembed.report.words import labels

HIGH, LOW = (("en", "fr", "es", "ru"), ("te", "hi", "bn", "sw"))  # resources, as Table 2 has them
MULTILINGUAL = (
    "intfloat/multilingual-e5-base",
    "me5-small-4bit",
)  # what Table 2 is compared with, best first
UNLABELLED = ("base", "trained", "static", "random", "bm25")  # no peers that were trained on labelled pairs


@dataclass(frozen=True)
class Evidence:
    """A quantity in points (or a count), with what tells its noise: half a width, its own interval if it is
    a difference, or the rows it is the mean of, which can be set against another's; the benchmark it was
    measured on and the budget of its training if it has any. ``level`` is the score that it stands at (of a
    difference, the higher one), and ``chance`` what random vectors have there."""

    value: float
    noise: float | None = None
    benchmark: str | None = None
    comparable: bool = True
    budget: str | None = None  # of training, if it says anything
    interval: dict | None = None  # of a difference (intervals.py)
    rows: list[dict] | None = None  # of scores.json
    level: float | None = None
    chance: float | None = None
    said: str | None = None  # what was measured, by the names of what ran


Find = Callable[[str], Evidence | None]


def evidence_of(results: Results) -> Find:
    """The quantities of claims.yaml as this run measured them."""
    cells = {c.id: c for a in paper.artefacts() for c in paper.cells(a)}

    def find(quantity: str) -> Evidence | None:
        kind, _, name = quantity.partition(" ")
        if kind == "cell":
            return _of_number(results, of_cell(results, cells[name]))
        if kind == "system":
            return _system(results, *name.rsplit("/", 2))
        if kind == "delta":
            return _delta(results, name, cells)
        if kind == "change":
            return _of_interval(results, *name.split(" from "))
        if kind == "data":
            return _data(results, name)
        if kind == "passkey":
            return _passkey(results, name)
        if kind == "lead":
            return _beside_multilingual(results, name, HIGH)
        if kind == "lag":
            return _beside_multilingual(results, name, HIGH, LOW)
        if quantity == "longest passkey text":
            return Evidence(max(p["length"] for p in results.passkey)) if results.passkey else None
        if quantity == "labelled stand-ins":
            return _stand_ins(results)
        raise ValueError(f"report/claims.yaml: unknown quantity {quantity!r}")

    return find


def _of_number(results: Results, number: Number | None) -> Evidence | None:
    if number is None:
        return None
    noise = None
    if number.std is not None:
        noise = float(stdtrit(number.n - 1, 0.975)) * number.std / sqrt(number.n)
    budget = json.dumps(results.budget(number.stage), sort_keys=True)
    return Evidence(
        number.mean, noise, number.benchmark, number.why is None, budget, rows=number.rows,
        level=number.mean, chance=results.chance(number.rows), said=_said(results, number),
    )  # fmt: skip


def _said(results: Results, number: Number) -> str | None:
    """ "Gemma-3-270M, 12 layers: untouched (embedded suite, 13 tasks)"; differences have no system."""
    if not number.system or not number.rows:
        return None
    where = labels.benchmark_name(number.benchmark, number.tasks)
    return f"{labels.label(number.system, results, number.stage)} ({where})"


def _system(results: Results, system: str, artefact: str, column: str) -> Evidence | None:
    """A system of the main evaluation in one column, on the best benchmark that it was measured on."""
    ways = paper.ways(next(c for c in paper.cells(artefact) if c.column == column))
    scores = results.scores[EVALUATION]
    peers = [s for s in scores.systems if s not in UNLABELLED]
    for benchmark, conditions in ways.items():
        everyone = {s: lookup(scores, EVALUATION, s, benchmark, conditions) for s in scores.systems}
        most = max((n.tasks for n in everyone.values() if n), default=0)
        whole = {s: n for s, n in everyone.items() if n and n.tasks == most}
        wanted = peers if system == "best peer" else [system]
        if found := [whole[s] for s in wanted if s in whole]:
            return _of_number(results, max(found, key=lambda n: n.mean))
    return None


def _delta(results: Results, row: str, cells: dict) -> Evidence | None:
    """A change of Table 5, with its interval."""
    number = of_cell(results, cells[f"table5/{paper.short(row)}/delta_avg"])
    if number is None:
        return None
    if found := _of_interval(results, number.system):
        return replace(found, benchmark=number.benchmark, comparable=number.why is None)
    return _of_number(results, number)


def _of_interval(results: Results, ablation: str, other: str | None = None) -> Evidence | None:
    """The change of the average from the row that an ablation is compared with, as stage 05 measured it; None
    if that is not the ``other`` one."""
    scores = results.scores[ABLATIONS]
    interval = scores.intervals.get(ablation)
    if not interval or other not in (None, interval.get("against")):
        return None
    sides = [
        [r for r in scores.rows if r["system"] == s and r["category"] in TABLE1]
        for s in (ablation, interval.get("against"))
    ]
    levels = [averages(rows)["Avg"] for rows in sides if rows]
    chance = results.chance(sides[0])
    after, before = (labels.label(s, results, ABLATIONS) for s in (ablation, interval.get("against")))
    return Evidence(
        interval["delta"], interval=interval, level=max(levels, default=None), chance=chance, comparable=False,
        said=f"the change from “{before}” to “{after}”",
    )  # fmt: skip


def _stand_ins(results: Results) -> Evidence | None:
    """That the ablations' labelled sets are not the paper's, if so."""
    data = results.stage(ABLATIONS).get("settings", {}).get("data", {})
    said = "what is installed stands for the paper's 13 labelled sets, and stand-ins refute nothing"
    return Evidence(1, said=said) if data.get("labelled") == "installed" else None


def _data(results: Results, key: str) -> Evidence | None:
    """A figure of statistics.json, or one made from several."""
    data, corpus = results.statistics, results.stage("02_analyze").get("settings", {}).get("generate", {})
    if not data:
        return None
    if key == "languages asked for":
        return Evidence(len(corpus.get("languages") or LANGUAGES)) if corpus else None
    if key == "texts in the language asked for, per cent":
        share = data.get("quality", {}).get("language_as_requested")
        return None if share is None else Evidence(100 * share)
    if key == "different tasks, per cent of those asked for":
        asymmetric = sum(data.get("families", {}).get(f, 0) for f in ASYMMETRIC) / 100 * data["examples"]
        asked = asymmetric / corpus["examples_per_task"] if corpus else 0
        fixed = sum(f in data["families"] for f in SYMMETRIC_INSTRUCTIONS)
        return Evidence(100 * (data["instructions"] - fixed) / asked) if asked else None
    return Evidence(data[key]) if key in data else None


def _beside_multilingual(results: Results, artefact: str, *groups: tuple[str, ...]) -> Evidence | None:
    """Of one group of Table 2's languages: by how many points the trained model is ahead of a multilingual peer.
    Of two: by how many it is further ahead in the first than in the second.

    Both are of one peer, which was measured in all of them. The languages are the benchmark's and fixed: the noise is
    that of their texts (``error`` in scores.json) or, where that was not kept, that of which languages they are; and
    that of training, with two seeds.
    """
    scores, ways = results.scores[EVALUATION], {c.column: paper.ways(c) for c in paper.cells(artefact)}
    for peer, benchmark in product(MULTILINGUAL, ways[HIGH[0]]):
        ours, theirs = (
            {x: lookup(scores, EVALUATION, s, benchmark, ways[x][benchmark]) for x in HIGH + LOW}
            for s in ("trained", peer)
        )
        if not all([*ours.values(), *theirs.values()]):
            continue
        seeds = set.intersection(*(set(n.values) for n in ours.values()))
        gaps = [{x: ours[x].values[s] - theirs[x].mean for x in HIGH + LOW} for s in seeds]
        values = [_first_beyond_second([fmean(gap[x] for x in g) for g in groups]) for gap in gaps]
        half = _noise_of_texts(scores, groups, ours, theirs) or _noise_of_languages(gaps[0], groups)
        if len(values) > 1:
            half = hypot(half, float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / sqrt(len(values)))
        value = fmean(values)
        interval = {"low": value - half, "high": value + half, "seeds": len(values), "trainings": 1}
        rows = [r for n in ours.values() for r in n.rows]
        level = fmean(n.mean for n in ours.values())
        return Evidence(
            value, benchmark=benchmark, interval=interval, level=level, chance=results.chance(rows),
            said=_said_beside(results, peer, groups, ours, theirs),
        )  # fmt: skip
    return None


def _first_beyond_second(means: list[float]) -> float:
    return means[0] - sum(means[1:])


def _said_beside(results: Results, peer: str, groups: tuple, *sides: dict[str, Number]) -> str:
    """What was compared, with both systems' means over each group."""
    means = [" against ".join(f"{fmean(side[x].mean for x in g):.1f}" for side in sides) for g in groups]
    if len(groups) == 1:
        named = f"{labels.label('trained', results)} against {labels.SYSTEM_NAMES.get(peer, peer)}"
        return f"the lead in high-resource languages ({named}: {means[0]})"
    return (
        f"what low-resource languages are further behind than high-resource ones ({means[1]}, and {means[0]})"
    )


def _noise_of_texts(scores: Scores, groups: tuple, *sides: dict[str, Number]) -> float | None:
    """Half the 95 % interval of a difference of means over groups of languages, from the texts' errors."""

    def error(row: dict) -> float | None:
        return scores.errors.get(row["system"], {}).get(row["task"], {}).get(row["language"])

    errors = {x: [[error(r) for r in side[x].rows] for side in sides] for group in groups for x in group}
    if any(None in of for both in errors.values() for of in both):
        return None
    squares = {x: sum(fmean(of) ** 2 for of in both) for x, both in errors.items()}
    return 1.96 * sqrt(sum(sum(squares[x] for x in group) / len(group) ** 2 for group in groups))


def _noise_of_languages(gap: dict[str, float], groups: tuple) -> float:
    spread = sum(variance(gap[x] for x in group) / len(group) for group in groups)
    return float(stdtrit(len(LOW) - 1, 0.975)) * sqrt(spread)


def _passkey(results: Results, row: str) -> Evidence | None:
    """Mean over lengths, with half the width of its 95 % interval."""
    points = [p for p in results.passkey if passkey_row(p) == row]
    if not points:
        return None
    spread = sum(p["accuracy"] * (100 - p["accuracy"]) / p["queries"] for p in points)
    comparable = all(passkey_why(p) is None for p in points)
    mean, noise = fmean(p["accuracy"] for p in points), 1.96 * sqrt(spread) / len(points)
    chance = fmean(100 / p["candidates"] for p in points)
    return Evidence(mean, noise, passkey_benchmark(points[0]), comparable, level=mean, chance=chance)
