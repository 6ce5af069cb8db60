"""Is a difference more than noise? Intervals of a difference between two systems (Tables 5, 7).

The paper reports one run of each row and no variance, so nothing in it tells a delta of 0.1 from
chance. Here two systems are compared on the same tasks, and on the same seeds where both have them.
There are two kinds of interval, because there are two questions:

* ``BENCHMARK``, "on this benchmark": the tasks are fixed. It covers which texts a task happens to have,
  if its texts' own scores are given (suites/units.py), and the noise of training. It says nothing of
  other tasks.
* ``TASKS``, "on tasks like these": tasks are resampled within their category. It covers which tasks of
  each kind were chosen, and the noise of training. The texts within a task move it only as far as they
  make tasks differ; and a benchmark's tasks are no random sample of the uses of embeddings.

The noise of training is seen in the spread between seeds alone, and two or three seeds tell little of
it: it enters with Student's t on (seeds - 1) degrees of freedom (``ends`` has how they combine with
those of tasks). With one seed there is no such spread, and nothing is significant whatever the interval
says: ``significant`` is False and ``why`` says so. Systems that are not trained here (no seed in their
rows) need none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from statistics import fmean

import numpy as np
from scipy.special import ndtri, stdtrit

from synthembed.evaluation.scores import TABLE1

RESAMPLES = 10_000
LEVEL = 0.95
BENCHMARK, TASKS = "on this benchmark", "on tasks like these"


def interval(
    rows: list[dict], system: str, against: str, resamples: int = RESAMPLES, seed: int = 0,
    kind: str = TASKS, units: Mapping[str, np.ndarray] | None = None,
    categories: Collection[str] | None = TABLE1,
) -> dict:  # fmt: skip
    """The difference in ``Avg`` between two systems of scores.json, with its 95 % interval, in points.

    ``low`` and ``high`` are its ends, ``covers`` the sources of noise that are in it; both ends are None
    if there is none to measure. ``significant`` says that 0 lies outside and nothing that the comparison
    needs is missing, ``within_noise`` is its opposite, and ``why`` names what is missing: of a training that
    was run once nothing is called significant, whatever it is set against. ``trainings`` says how many of the
    two were trained here: of one the ends are of this very training. ``units`` are resampled differences of
    tasks, task → (resamples,), for ``BENCHMARK`` (suites/units.py); ``fixed`` names the tasks without,
    whose texts' noise is not in it. ``categories`` are those that count, None for all. Raises
    ValueError if the two have no task in common.
    """
    tasks, strata, differences, training = paired(rows, system, against, categories)
    by_task, rng = differences.mean(1), np.random.default_rng(seed)
    delta, parts, covers, why = float(by_task.mean()), [], [], None
    if kind == TASKS and len(tasks) > 1:
        parts.append((resampled(by_task, strata, resamples, rng) - delta, len(tasks) - len(strata)))
        covers.append("tasks")
    elif kind == TASKS:
        why = "one task"
    elif units and any(task in units for task in tasks):
        resamples = len(next(iter(units.values())))
        drawn = np.sum([units[task] for task in tasks if task in units], axis=0) / len(tasks)
        parts.append((drawn - drawn.mean(), np.inf))
        covers.append("texts")
    elif training in ([], [None]):
        why = "no texts' scores"
    if None in training:
        why = why or "one seed"
    else:
        covers += ["training"] * bool(training)
        parts += [(rng.normal(0, error, resamples), n) for error, n in training]
    low, high = (None, None)
    if parts and why != "one task":
        low, high = (delta + ends(parts)).round(4).tolist()
    significant = why is None and low is not None and not low <= 0 <= high
    return {
        "delta": round(delta, 4), "low": low, "high": high, "within_noise": not significant,
        "significant": significant, "why": why, "kind": kind, "covers": covers,
        "fixed": [t for t in tasks if t not in (units or {})] if "texts" in covers else [],
        "resamples": resamples, "unit": " and ".join(UNIT[c] for c in covers) or "none",
        "against": against, "tasks": len(tasks), "seeds": _seeds(rows, system, against, differences),
        "trainings": _trained(rows, system, against),
    }  # fmt: skip


UNIT = {"tasks": "task", "texts": "text", "training": "seed"}


def paired(
    rows: list[dict], system: str, against: str, categories: Collection[str] | None = TABLE1
) -> tuple[list[str], list[list[int]], np.ndarray, list]:
    """Common tasks, their strata (indices of tasks), differences (tasks, seeds), and ``training``: the
    standard error of the mean difference from training and its degrees of freedom, once if seeds are
    paired, else for each of the two that is trained; None for a training that was run once.

    Only tasks of ``categories`` that both systems have. Seeds are paired if the two share two or more,
    and a system that was not trained here is set against each seed of the other.
    """
    first, other = (_by_task(rows, s, categories) for s in (system, against))
    tasks = sorted(first.keys() & other.keys())
    if not tasks:
        raise ValueError(f"{system!r} and {against!r} have no task in common: nothing to compare")
    category = {r["task"]: r["category"] for r in rows}
    strata = strata_of([category[task] for task in tasks])
    values = [{s: np.array([x[t][s] for t in tasks]) for s in _seeds_of(x, tasks)} for x in (first, other)]
    common = sorted((values[0].keys() & values[1].keys()) - {None})
    if len(common) > 1:
        differences = np.stack([values[0][s] - values[1][s] for s in common], 1)
        training = [_error(differences)]
    else:
        means = [_mean(x, v, tasks) for x, v in zip((first, other), values, strict=True)]
        differences = (means[0] - means[1])[:, None]
        training = [
            _error(np.stack(list(v.values()), 1)) if len(v) > 1 else None
            for x, v in zip((first, other), values, strict=True)
            if any(s is not None for t in tasks for s in x[t])
        ]
    return tasks, strata, differences, training


def _by_task(rows: list[dict], system: str, categories: Collection[str] | None) -> dict[str, dict]:
    """task → seed → score, the mean over languages."""
    found: dict[str, dict] = {}
    for row in rows:
        if row["system"] == system and (categories is None or row["category"] in categories):
            scores = found.setdefault(row["task"], {}).setdefault(row.get("seed"), [])
            scores.append((row["language"], row["score"]))
    return {
        task: {seed: fmean(score for _, score in sorted(pairs)) for seed, pairs in of_seed.items()}
        for task, of_seed in found.items()
    }


def _seeds_of(scores: dict, tasks: list[str]) -> list:
    """Seeds under which a system has every one of ``tasks``."""
    common = set.intersection(*(set(scores[task]) for task in tasks))
    return sorted(common, key=lambda s: (s is not None, s))


def _mean(scores: dict, of_seed: dict, tasks: list[str]) -> np.ndarray:
    """Each task's mean over the seeds that have them all, or over what there is."""
    if of_seed:
        return np.mean(list(of_seed.values()), axis=0)
    return np.array([fmean(scores[task].values()) for task in tasks])


def _error(values: np.ndarray) -> tuple[float, int]:
    """Of ``values`` (tasks, seeds): the standard error over seeds of the mean over tasks, and seeds - 1."""
    means = values.mean(0)
    return float(means.std(ddof=1) / len(means) ** 0.5), len(means) - 1


def _trained(rows: list[dict], *systems: str) -> int:
    """How many of the systems were trained here: those whose rows have seeds."""
    return sum(any(r["system"] == s and r.get("seed") is not None for r in rows) for s in systems)


def _seeds(rows: list[dict], system: str, against: str, differences: np.ndarray) -> int:
    """Seeds that the interval rests on: those paired, or the fewer of the trained systems' own."""
    seeds = [
        {r["seed"] for r in rows if r["system"] == s and r.get("seed") is not None} for s in (system, against)
    ]
    return differences.shape[1] if differences.shape[1] > 1 else min((len(s) for s in seeds if s), default=1)


def strata_of(categories: list[str]) -> list[list[int]]:
    """Indices by category. A category of one task would never vary, so such ones are pooled; if only
    one is left over, it joins the smallest other category."""
    groups = [[i for i, c in enumerate(categories) if c == name] for name in sorted(set(categories))]
    several = [g for g in groups if len(g) > 1]
    alone = [i for g in groups if len(g) == 1 for i in g]
    if len(alone) == 1 and several:
        min(several, key=len).extend(alone)
        return several
    return [*several, alone] if alone else several


def resampled(
    values: np.ndarray, strata: list[list[int]], resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Means (resamples,) of ``values`` (tasks,) under tasks resampled within ``strata``."""
    weights = np.empty((resamples, len(values)))
    for stratum in strata:
        weights[:, stratum] = _counts(len(stratum), resamples, rng)
    return weights @ values / len(values)


def ends(parts: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Low and high end (2,) of the sum of independent deviations from a mean, each (drawn, freedom).

    ``freedom`` are the degrees of freedom that each part's variance was estimated with. The percentiles
    of what was drawn, which need not lie evenly about 0, are stretched by Student's t over the normal
    distribution's quantile: with two seeds and nothing else by 6.5. The sum's degrees of freedom are the
    parts' harmonic mean, weighted by variance. That is never more than Welch and Satterthwaite's, whose
    95 % are 87 at worst with two seeds; these are 90.
    """
    variances = np.array([drawn.var() for drawn, _ in parts])
    if variances.sum() < 1e-20:  # rounding
        return np.zeros(2)
    shares = variances / variances.sum()
    reciprocal = sum(share / freedom for share, (_, freedom) in zip(shares, parts, strict=True))
    freedom = 1 / reciprocal if reciprocal else np.inf
    tail = (1 - LEVEL) / 2
    stretch = stdtrit(freedom, tail) / ndtri(tail)  # scipy.stats calls these, and is slow to import
    return stretch * np.quantile(sum(drawn for drawn, _ in parts), [tail, 1 - tail])


def _counts(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of ``n`` is drawn, (resamples, n), stretched about 1 by sqrt(n / (n - 1)).

    Plain resampling of n values underestimates the variance of their mean by (n - 1) / n: half of it
    with two tasks in a category. The stretch makes it right (Rao and Wu, 1988).
    """
    if n == 1:
        return np.ones((resamples, 1))
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    return 1 + (counts - 1) * np.sqrt(n / (n - 1))


def wilson(accuracy: float, queries: int) -> tuple[float, float]:
    """The 95 % interval of a share in per cent that was seen in ``queries`` trials (Wilson, 1927)."""
    z, share = 1.96, accuracy / 100
    middle = (share + z**2 / (2 * queries)) / (1 + z**2 / queries)
    half = z / (1 + z**2 / queries) * (share * (1 - share) / queries + z**2 / (4 * queries**2)) ** 0.5
    return 100 * (middle - half), 100 * (middle + half)
