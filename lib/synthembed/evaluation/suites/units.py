"""The scores of a task's single texts, kept beside its result so that its texts can be resampled.

A task's main score is a mean of its units' values or, for pairs, a rank correlation or an average precision
over them. Resampling covers which queries, sentences, texts or pairs a task happens to have; the documents
that are searched, the sentences that are candidates and the texts that a classifier is trained on stay as
they are. A clustering's texts cannot be resampled: its score is of all of them together, and its ten
repeated clusterings are kept to be looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from synthembed.ground.files import read_json, write_json

ABOUT = {
    "mean": "the main score is the mean of the values",
    "spearman": "the main score is Spearman's correlation of gold and cosine",
    "ap": "the main score is the highest average precision of label by a similarity",
    "fixed": "texts cannot be resampled; v-measures of the repeated clusterings",
}
KIND = {"STS": "spearman", "PairClassification": "ap", "Clustering": "fixed"}  # others: "mean"


def path(folder: Path, task: str) -> Path:
    """Where a task's units lie: a folder deeper than its result, where mteb's cache looks for results only."""
    return folder / "units" / f"{task}.units.json"


def write(folder: Path, task: str, kind: str, units: dict) -> None:
    """``units``: split → subset → what ``rescored`` reads."""
    path(folder, task).parent.mkdir(parents=True, exist_ok=True)
    write_json(path(folder, task), {"kind": kind, "about": ABOUT[kind], "units": units})


def rescored(kind: str, unit: dict, weights: np.ndarray) -> np.ndarray:
    """Main scores (resamples,) of one subset, each of its units taken ``weights`` (resamples, units) times."""
    weights = np.asarray(weights, float)
    if kind == "mean":
        values = np.array(unit["values"], float)  # None is NaN: a unit that mteb leaves out
        there = ~np.isnan(values)
        return weights[:, there] @ values[there] / weights[:, there].sum(1)
    if kind == "spearman":
        return _correlation(_ranks(unit["gold"], weights), _ranks(unit["cosine"], weights), weights)
    if kind == "ap":
        return np.max([_precision(unit["label"], s, weights) for s in unit["similarity"].values()], axis=0)
    return np.full(len(weights), np.mean(unit["v_measures"]))


def size(kind: str, unit: dict) -> int:
    """How many units there are to weigh."""
    return len(unit[{"mean": "values", "spearman": "gold", "ap": "label", "fixed": "v_measures"}[kind]])


def errors(folder: Path, task: str, resamples: int = 500, seed: int = 0) -> dict[tuple[str, str], float]:
    """(split, subset) → the standard error in points that the score of its texts has by which texts they are;
    {} for a clustering, and for a task whose units were not kept."""
    record = read_json(path(folder, task), {"kind": "fixed", "units": {}})
    if record["kind"] == "fixed":
        return {}
    found = {}
    for split, subsets in record["units"].items():
        for subset, unit in subsets.items():
            weights = _drawn(size(record["kind"], unit), resamples, np.random.default_rng(seed))
            found[split, subset] = 100 * float(np.nanstd(rescored(record["kind"], unit, weights)))
    return found


def _drawn(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of ``n`` units is drawn, (resamples, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples)


def differences(
    first: list[Path], other: list[Path], resamples: int = 2000, seed: int = 0,
    only: Collection[str] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Task → resampled differences (resamples,) in points, for ``intervals.interval(units=...)``.

    ``first`` and ``other`` are the result folders of two systems, one for each seed of training; the same
    texts are drawn for all of them. Tasks that are not in ``only``, tasks that one folder lacks, and those whose texts cannot be
    resampled or told apart, are left out. Raises ValueError if the two were measured on different texts.
    """
    names = [{p.name for p in (folder / "units").glob("*.units.json")} for folder in [*first, *other]]
    found = {}
    wanted = {f"{task}.units.json" for task in only} if only is not None else set.union(*names)
    for name in sorted(wanted.intersection(*names)):
        kept = [[read_json(folder / "units" / name) for folder in folders] for folders in (first, other)]
        kind = kept[0][0]["kind"]
        subsets = [unit for side in kept for r in side for of in r["units"].values() for unit in of.values()]
        if kind != "fixed" and not any("unpaired" in unit for unit in subsets):
            task = name.removesuffix(".units.json")
            found[task] = _differences(task, kind, kept, resamples, np.random.default_rng(seed))
    return found


def _differences(task: str, kind: str, kept: list[list[dict]], resamples: int, rng) -> np.ndarray:
    drawn = []
    for split, subsets in kept[0][0]["units"].items():
        for subset, unit in subsets.items():
            n = size(kind, unit)
            weights = _drawn(n, resamples, rng)
            sides = []
            for side in kept:
                units = [record["units"][split][subset] for record in side]
                if any(size(kind, u) != n or u.get("ids") != unit.get("ids") for u in units):
                    raise ValueError(f"{task} ({split}, {subset}): the two were measured on different texts")
                sides.append(np.mean([rescored(kind, u, weights) for u in units], axis=0))
            drawn.append(sides[0] - sides[1])
    return 100 * np.mean(drawn, axis=0)


def _ranks(values: list[float], weights: np.ndarray) -> np.ndarray:
    """Ranks (resamples, units) of values that are there ``weights`` times; equal ones share theirs."""
    values = np.asarray(values, float)
    _, starts, group = np.unique(np.sort(values), return_index=True, return_inverse=True)
    order = np.argsort(values, kind="stable")
    in_group = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks = np.empty_like(weights)
    ranks[:, order] = (np.cumsum(in_group, 1) - in_group / 2)[:, group]
    return ranks


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    share = weights / weights.sum(1, keepdims=True)
    x, y = (v - (share * v).sum(1, keepdims=True) for v in (x, y))
    return (share * x * y).sum(1) / np.sqrt((share * x * x).sum(1) * (share * y * y).sum(1))


def _precision(labels: list[int], similarity: list[float], weights: np.ndarray) -> np.ndarray:
    """Average precision: precision at each threshold, weighted by the recall it adds."""
    order = np.argsort(-np.asarray(similarity, float), kind="stable")
    scores, right = np.asarray(similarity, float)[order], np.asarray(labels, float)[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    taken = np.cumsum(weights[:, order], 1)[:, ends]
    true = np.cumsum(weights[:, order] * right, 1)[:, ends]
    precision = true / np.maximum(taken, 1)
    return (np.diff(true, prepend=0) * precision).sum(1) / np.maximum(true[:, -1], 1)


# --- what mteb hands over -----------------------------------------------------------------------------


def of(type: str, metric: str, data, split: str, seen, scores: dict) -> dict:
    """The units of one subset: ``seen`` is what mteb offers as predictions (of retrieval: each query's
    metrics), ``data`` the subset and ``scores`` its result."""
    return _READERS.get(type, _of_queries)(metric, data, split, seen, scores)


def _of_queries(metric: str, data, split: str, seen: dict, scores: dict) -> dict:
    name, _, cut = metric.rpartition("_at_")
    ids = sorted(seen)
    return {"ids": ids, "values": [float(seen[i][f"{name}_cut_{cut}"]) for i in ids]}


def _of_bitext(metric: str, data, split: str, seen: dict, scores: dict) -> dict:
    """A sentence's part of F1: 0 if its translation was not found, and less than 1 if that was taken for the
    translation of others too."""
    (nearest,) = ([found["corpus_id"] for found in pair] for pair in seen.values())
    taken = np.bincount(nearest, minlength=len(nearest))
    return {"values": [2 / (1 + int(taken[i])) if j == i else 0.0 for i, j in enumerate(nearest)]}


def _of_classes(metric: str, data, split: str, seen: list, scores: dict) -> dict:
    return {"values": (np.asarray(seen) == np.asarray(data[split]["label"])).mean(0).tolist()}


def _of_sts(metric: str, data, split: str, seen: dict, scores: dict) -> dict:
    return {"gold": [float(x) for x in data["score"]], "cosine": [float(x) for x in seen["cosine_scores"]]}


def _of_pairs(metric: str, data, split: str, seen: dict, scores: dict) -> dict:
    sign = {"manhattan_distances": -1, "euclidean_distances": -1}
    similarity = {name: [sign.get(name, 1) * float(x) for x in values] for name, values in seen.items()}
    return {"label": [int(x) for x in data["labels"]], "similarity": similarity}


def _of_summaries(metric: str, data, split: str, seen: dict, scores: dict) -> dict:
    """A text's correlation over its summaries; None where mteb leaves a text out, which it does if all its
    summaries have one rating or one similarity."""
    from scipy.stats import spearmanr

    pairs = zip(seen["human_scores"], seen["cosine_scores"], strict=True)
    found = [float(spearmanr(human, cosine).statistic) for human, cosine in pairs]
    ratings = [len(set(x)) > 1 for x in data["relevance"]]
    if len(found) != sum(ratings):  # which were left out for their similarities is not said
        return {"values": found, "unpaired": True}
    return {"values": [found.pop(0) if there else None for there in ratings]}


def _of_clusters(metric: str, data, split: str, seen, scores: dict) -> dict:
    return {"v_measures": [float(v) for level in scores["v_measures"].values() for v in level]}


_READERS = {
    "BitextMining": _of_bitext, "Classification": _of_classes, "STS": _of_sts, "PairClassification": _of_pairs,
    "Summarization": _of_summaries, "Clustering": _of_clusters,
}  # fmt: skip
