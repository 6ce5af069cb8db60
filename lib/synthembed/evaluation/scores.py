"""scores.json: one row per system, task, language and seed, in percent; and the averages over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import fmean

# mteb's task types by the paper's column names (Table 1).
CATEGORIES = {
    "Classification": "Class.",
    "Clustering": "Clust.",
    "PairClassification": "PairClass.",
    "Reranking": "Rerank",
    "Retrieval": "Retr.",
    "STS": "STS",
    "Summarization": "Summ.",
    "BitextMining": "Bitext",
    "InstructionRetrieval": "Readings",
}
TABLE1 = ["Class.", "Clust.", "PairClass.", "Rerank", "Retr.", "STS", "Summ."]
COLUMNS = [*TABLE1, "Avg"]
# No part of Table 1: Tables 2 and 6, Table 4, and tasks whose texts only the instruction can sort (ours).
APART = ["Multil.", "Bitext", "Readings"]


def category(task_type: str, languages: Iterable[str]) -> str:
    """The column of a task that was run on ``languages`` (as mteb writes them: "fra-Latn", and
    "python-Code" for code); retrieval in several natural languages has one of its own."""
    natural = {x.split("-")[0] for x in languages if not x.endswith("-Code")}
    if task_type == "Retrieval" and len(natural) > 1:
        return APART[0]
    return CATEGORIES.get(task_type, task_type)


def languages_of(result: dict) -> dict[str, str]:
    """Subset of a TaskResult → the language of its rows. Where several have the same one (both directions of a
    translation, scripts of a language), their own names tell them apart."""
    found = {
        s["hf_subset"]: "+".join(sorted({x.split("-")[0] for x in s["languages"]}))
        for of_split in result["scores"].values()
        for s in of_split
    }
    shared = Counter(found.values())
    return {subset: x if shared[x] == 1 else f"{x} ({subset})" for subset, x in found.items()}


def averages(rows: list[dict]) -> dict[str, float]:
    """Category means and ``Avg`` over tasks, as Table 1 has them, for the rows of one system.

    A task with several languages counts once, by its mean. Bitext and multilingual retrieval have means
    of their own and, as in the paper, no part in ``Avg``. Categories without a score are left out. Of a
    system that was trained with several seeds, the mean over seeds of each seed's averages.
    """
    return {column: fmean(values) for column, values in _over_seeds(rows).items()}


def _over_seeds(rows: list[dict]) -> dict[str, list[float]]:
    """column → its average under each seed that has it."""
    found: dict[str, list[float]] = {}
    for values in averages_by_seed(rows).values():
        for column, value in values.items():
            found.setdefault(column, []).append(value)
    return found


def averages_by_seed(rows: list[dict]) -> dict[int | None, dict[str, float]]:
    """seed → averages, for the rows of one system; rows without a seed are one group, None."""
    seeds = dict.fromkeys(r.get("seed") for r in rows)
    return {seed: _averages([r for r in rows if r.get("seed") == seed]) for seed in seeds}


def _averages(rows: list[dict]) -> dict[str, float]:
    result = {
        c: mean_over_tasks(r for r in rows if r["category"] == c)
        for c in dict.fromkeys(r["category"] for r in rows)
    }
    if counted := [r for r in rows if r["category"] in TABLE1]:
        result["Avg"] = mean_over_tasks(counted)
    return result


def mean_over_tasks(rows: Iterable[dict]) -> float:
    """The mean over tasks of each task's mean: a task with several languages counts once."""
    return fmean(fmean(scores) for scores in by_task(rows).values())


def by_task(rows: Iterable[dict]) -> dict[str, list[float]]:
    """task → its scores, one for each language."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["task"], []).append(row["score"])
    return found


def by_system(rows: list[dict]) -> dict[str, dict[str, float]]:
    """system → averages, in the order in which systems appear."""
    systems = dict.fromkeys(r["system"] for r in rows)
    return {s: averages([r for r in rows if r["system"] == s]) for s in systems}


def by_system_of_equal_tasks(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Averages by system; a system without a score in some category has no ``Avg`` to compare."""
    found = by_system(rows)
    categories = {c for values in found.values() for c in values if c in TABLE1}
    return {
        system: {c: v for c, v in values.items() if c != "Avg" or categories <= set(values)}
        for system, values in found.items()
    }
