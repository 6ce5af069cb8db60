"""What chance gives on a task: the score of vectors that know nothing, computed from the task's own labels.

A score says nothing by itself. Retrieval of one right document among 32 has nDCG@10 14 if the order is drawn
by lot, and eight balanced classes 12.5 % accuracy. Where an order by lot has a closed form, the number is exact.
"""

from __future__ import annotations

from math import log2
from statistics import fmean

import numpy as np

from synthembed.evaluation import scores
from synthembed.evaluation.scores import category
from synthembed.evaluation.suites.embedded_tasks import Embedded

CHANCE = "chance (computed)"
DRAWS = 20  # of a random clustering; its v-measure has no closed form


def ndcg(grades: list[float], documents: int, k: int = 10) -> float:
    """Expected nDCG@k of an order by lot: ``grades`` are those of the relevant among ``documents``.

    Every place holds every document equally often, so the expected gain of a place is the mean grade.
    """
    discounts = [1 / log2(rank + 1) for rank in range(1, min(k, documents) + 1)]
    best = sum(g * d for g, d in zip(sorted(grades, reverse=True), discounts, strict=False))
    return sum(grades) / documents * sum(discounts) / best if best else 0.0


def average_precision(relevant: int, documents: int) -> float:
    """Expected average precision of an order by lot, ``relevant`` of ``documents`` being right.

    A right document at place r (chance: relevant/documents) finds itself and, of the others, its share of r - 1.
    """
    if not relevant:
        return 0.0
    others = (relevant - 1) / (documents - 1) if documents > 1 else 0.0
    return sum((1 + (r - 1) * others) / r for r in range(1, documents + 1)) / documents


def v_measure(labels: list, seed: int = 0) -> float:
    """Mean v-measure of as many random clusters as there are labels. It is not 0: small clusters are pure.
    mteb draws texts with repetition, and a repeated text joins its own cluster: some points more there."""
    from sklearn.metrics import v_measure_score

    rng, count = np.random.default_rng(seed), len(set(labels))
    return fmean(v_measure_score(labels, rng.integers(count, size=len(labels))) for _ in range(DRAWS))


def of_task(task) -> float | None:
    """The score by chance of a task of the embedded suite, in per cent: the mean over its languages. None for
    other tasks: their data may be large, and lies elsewhere."""
    if not isinstance(task, Embedded):
        return None
    loaded = task.data_loaded
    if not loaded:
        task.load_data()
    try:
        subsets = [_of_split(task, task.dataset[name]) for name in task.hf_subsets if name in task.dataset]
        return 100 * fmean(subsets or [_of_split(task, task.dataset)])
    finally:
        if not loaded:
            task.unload_data()


def _of_split(task, data) -> float:
    kind, test = task.metadata.type, data["test"]
    if kind in ("Retrieval", "InstructionRetrieval", "Reranking"):
        return fmean(_of_query(kind, test, query, graded) for query, graded in test["relevant_docs"].items())
    if kind in ("STS", "Summarization"):
        return 0.0  # a rank correlation with noise
    if kind == "BitextMining":
        return 1 / len(test)
    if kind == "PairClassification":
        labels = np.asarray(test["labels"]).ravel()
        return average_precision(int(labels.sum()), len(labels))
    labels = [str(label) for label in test[getattr(task, "label_column_name", "label")]]
    return v_measure(labels) if kind == "Clustering" else 1 / len(set(labels))


def _of_query(kind: str, test: dict, query: str, graded: dict[str, int]) -> float:
    ranked = (test.get("top_ranked") or {}).get(query)
    documents = len(ranked) if ranked else len(test["corpus"])
    grades = [grade for grade in graded.values() if grade > 0]
    return average_precision(len(grades), documents) if kind == "Reranking" else ndcg(grades, documents)


def averages(tasks: list) -> dict[str, float]:
    """column → what chance gives there, the mean over its tasks, and ``Avg`` over Table 1's; {} if a task is
    none of the embedded suite."""
    rows = [
        {"category": category(t.metadata.type, t.metadata.eval_langs if isinstance(t.metadata.eval_langs, list)
                              else [c for codes in t.metadata.eval_langs.values() for c in codes]),
         "task": t.metadata.name, "score": of_task(t)}
        for t in tasks
    ]  # fmt: skip
    return {} if any(r["score"] is None for r in rows) else scores.averages(rows)
