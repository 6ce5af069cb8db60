"""Is a difference more than noise? Paired bootstrap intervals of the ablations' deltas (Tables 5, 7).

The paper reports one run of each row and no variance, so nothing in it tells a delta of 0.1 from
chance. Here two systems are compared on the same (task, seed) pairs, and the mean of the differences
is resampled: tasks within their category, and seeds where there are several.

What an interval covers: which tasks of each kind happened to be chosen, and, with two seeds or more,
the noise of training. What it does not: the tasks of a benchmark are not a random sample of the uses
of embeddings, so it speaks of tasks like these; texts within a task are not resampled; and with one
seed the noise of training is not in it, so a delta outside such an interval may still not repeat.
"""

from __future__ import annotations

from statistics import fmean

import numpy as np
from scipy.special import ndtr, stdtrit

from synthembed.evaluation.scores import TABLE1

RESAMPLES = 10_000
LEVEL = 0.95


def interval(rows: list[dict], system: str, against: str, resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """The delta in ``Avg`` between two systems of scores.json, with its 95 % interval, in points.

    ``low`` and ``high`` are percentiles of the resampled deltas, ``within_noise`` says whether they
    hold 0. With a single pair there is no interval: both are None, and ``within_noise`` is True.
    Systems without a common seed are compared by their means over seeds. Raises ValueError if the
    two have no task in common.
    """
    tasks, strata, differences = paired(rows, system, against)
    drawn = resampled(differences, strata, resamples, np.random.default_rng(seed))
    delta = float(differences.mean())
    low, high = (None, None)
    if differences.size > 1:
        low, high = bounds(drawn, len(tasks) - len(strata)).round(4).tolist()
    return {
        "delta": round(delta, 4), "low": low, "high": high,
        "within_noise": low is None or low <= 0 <= high,
        "resamples": resamples, "unit": "task and seed" if differences.shape[1] > 1 else "task",
        "against": against, "tasks": len(tasks), "seeds": differences.shape[1],
    }  # fmt: skip


def paired(rows: list[dict], system: str, against: str) -> tuple[list[str], list[list[int]], np.ndarray]:
    """Common tasks, their strata (indices of tasks), and differences (tasks, seeds).

    Only tasks that count in ``Avg`` and that both systems have under the same seeds.
    """
    first, other = (_by_task(rows, s) for s in (system, against))
    tasks = sorted(first.keys() & other.keys())
    if not tasks:
        raise ValueError(f"{system!r} and {against!r} have no task in common: nothing to compare")
    seeds = _common_seeds(first, other, tasks)
    if not seeds:  # trained with other seeds: what is left to pair is the task
        first, other = ({task: {None: fmean(s.values())} for task, s in x.items()} for x in (first, other))
        seeds = [None]
    differences = [[first[task][s] - other[task][s] for s in seeds] for task in tasks]
    category = {r["task"]: r["category"] for r in rows}
    return tasks, strata_of([category[task] for task in tasks]), np.array(differences)


def _by_task(rows: list[dict], system: str) -> dict[str, dict]:
    """task → seed → score, the mean over languages."""
    found: dict[str, dict] = {}
    for row in rows:
        if row["system"] == system and row["category"] in TABLE1:
            scores = found.setdefault(row["task"], {}).setdefault(row.get("seed"), [])
            scores.append((row["language"], row["score"]))
    return {
        task: {seed: fmean(score for _, score in sorted(pairs)) for seed, pairs in of_seed.items()}
        for task, of_seed in found.items()
    }


def _common_seeds(first: dict, other: dict, tasks: list[str]) -> list:
    """Seeds under which both systems have every one of ``tasks``."""
    common = set.intersection(*(set(x[task]) for x in (first, other) for task in tasks))
    return sorted(common, key=lambda s: (s is not None, s))


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
    differences: np.ndarray, strata: list[list[int]], resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Means (resamples,) of ``differences`` (tasks, seeds) under resampled tasks and seeds."""
    tasks, seeds = differences.shape
    weights = np.empty((resamples, tasks))
    for stratum in strata:
        weights[:, stratum] = _counts(len(stratum), resamples, rng)
    return ((weights @ differences) * _counts(seeds, resamples, rng)).sum(1) / (tasks * seeds)


def bounds(drawn: np.ndarray, freedom: int) -> np.ndarray:
    """Low and high percentile of resampled means, (2,).

    The share left out on each side is that of a normal distribution beyond Student's t with
    ``freedom`` = tasks - strata: with eight tasks, plain percentiles hold the truth 85 times in 100.
    """
    tail = ndtr(stdtrit(max(freedom, 1), (1 - LEVEL) / 2))  # scipy.stats calls these, and is slow to import
    return np.quantile(drawn, [tail, 1 - tail])


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
