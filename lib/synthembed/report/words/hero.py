"""What the first figure shows, as numbers: base and trained model by category, with chance and peers."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import hypot, sqrt
from statistics import fmean

from scipy.special import stdtrit

from synthembed import paper
from synthembed.evaluation.scores import APART, COLUMNS, by_task
from synthembed.report.results import EVALUATION, Number, Results, Scores, lookup

NAMES = {
    "Class.": "Classification", "Clust.": "Clustering", "PairClass.": "Pair classification", "Rerank": "Reranking",
    "Retr.": "Retrieval", "STS": "STS", "Summ.": "Summarization", "Avg": "Average", "Multil.": "Retrieval, multilingual",
    "Bitext": "Bitext mining",
}  # fmt: skip
NOT_PEERS = ("base", "trained", "static", "random")


@dataclass(frozen=True)
class Line:
    """One category: scores in per cent, and half the 95 % interval of each of the two models (None if it
    cannot be told: without the texts' errors, as of clusterings, and with one seed)."""

    name: str
    tasks: int
    base: float
    trained: float
    half_base: float | None
    half_trained: float | None
    chance: float | None
    peers: dict[str, float] = field(default_factory=dict)


def lines(results: Results) -> list[Line]:
    """The average, then Table 1's categories, then those that enter no average; [] without both models.

    All on one benchmark, MTEB if this run has measured it and else its suite: never on both.
    """
    scores = results.scores[EVALUATION]
    for benchmark in paper.ways(next(paper.cells("table1"))):
        found = [_line(scores, benchmark, c) for c in ("Avg", *COLUMNS[:-1], *APART[:2])]
        if kept := [line for line in found if line]:
            return kept
    return []


def _line(scores: Scores, benchmark: str, column: str) -> Line | None:
    where = {"category": COLUMNS[:-1] if column == "Avg" else column}
    found = {s: lookup(scores, EVALUATION, s, benchmark, where) for s in scores.systems}
    base, trained = found.get("base"), found.get("trained")
    if not base or not trained or base.tasks != trained.tasks:
        return None
    same = {s: n.mean for s, n in found.items() if n and n.tasks == trained.tasks}
    return Line(
        NAMES[column], trained.tasks, base.mean, trained.mean, half(scores, base), half(scores, trained),
        same.get("random"), {s: v for s, v in same.items() if s not in NOT_PEERS},
    )  # fmt: skip


def half(scores: Scores, number: Number) -> float | None:
    """Half the 95 % interval of a mean over tasks: what the choice of texts adds (the errors kept in
    scores.json), and with two seeds or more that of training; None if neither is known.

    A task whose errors were not kept (a clustering) counts as fixed, as in evaluation/intervals.py.
    """
    errors = scores.errors.get(number.system, {})
    first = [r for r in number.rows if r.get("seed") == number.rows[0].get("seed")]
    of = [r | {"score": errors.get(r["task"], {}).get(r["language"])} for r in first]
    lacking = {r["task"] for r in of if r["score"] is None}
    known = by_task(r for r in of if r["task"] not in lacking)
    parts = []
    if known:
        tasks = [fmean(e**2 for e in found) / len(found) for found in known.values()]
        parts.append(1.96 * sqrt(sum(tasks)) / (len(known) + len(lacking)))
    if number.std is not None:
        parts.append(float(stdtrit(number.n - 1, 0.975)) * number.std / sqrt(number.n))
    return hypot(*parts) if parts else None
