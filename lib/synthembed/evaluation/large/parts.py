"""A task's parts: what is scored, and kept, at a time. One language of MIRACL's sixteen is one."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mteb.abstasks import AbsTaskBitextMining, AbsTaskRetrieval

from synthembed.model.blocks.store import Store


def of(task) -> list[tuple[str, list[str]]]:
    """(split, subsets) of each part. Splits of a subset follow each other, as they may share a corpus; bitext
    mining's subsets are one part, as mteb scores them together."""
    if isinstance(task, AbsTaskBitextMining):
        return [(split, list(task.hf_subsets)) for split in task.eval_splits]
    return [(split, [subset]) for subset in task.hf_subsets for split in task.eval_splits]


def key(task, split: str, subsets: list[str], content: str) -> dict:
    """What a part must have been scored with to count."""
    return {
        "split": split,
        "subsets": subsets,
        "dataset_revision": task.metadata.dataset["revision"],
        "mteb_version": importlib.metadata.version("mteb"),
        "content": content,
    }


def folder_of(folder: Path, task) -> Path:
    return folder / "parts" / task.metadata.name


def path(folder: Path, task, split: str, subsets: list[str]) -> Path:
    """Where a part is kept until its task is whole: two folders below results, which mteb reads."""
    name = subsets[0] if len(subsets) == 1 else "all"
    return folder_of(folder, task) / f"{quote(split, safe='')}.{quote(name, safe='')}.json"


def blocks_of(model, folder: Path, task, subsets: list[str]) -> Store:
    """Where blocks of a part's texts are kept until it is scored: beside the parts, or in the model's storage."""
    name = quote(subsets[0] if len(subsets) == 1 else "all", safe="")
    below = model.storage or (folder / "parts").as_posix()
    if model.storage:
        about = model.mteb_model_meta
        below += f"/{about.name.replace('/', '__')}/{about.revision}"
    return Store(f"{below}/{task.metadata.name}/blocks/{name}")


def loaded_with(task, subsets: list[str]) -> list[str]:
    """The subsets that are loaded when ``subsets`` are wanted: of retrieval these alone, since a language's
    corpus may be tens of millions of passages; of other tasks all, which some load in one go."""
    return list(subsets) if isinstance(task, AbsTaskRetrieval) else list(task.hf_subsets)


@contextmanager
def only(task, subsets: list[str], split: str | None = None) -> Iterator[None]:
    """The task with some of its subsets, and one of its splits, alone."""
    before = task.hf_subsets, task._eval_splits
    task.hf_subsets = list(subsets)
    if split:
        task._eval_splits = [split]
    try:
        yield
    finally:
        task.hf_subsets, task._eval_splits = before


def together(task, found: list[dict]) -> dict:
    """One ``result`` as mteb has it, ``units`` and ``cut``, of the parts in the order of ``of``."""
    results = [part["result"] for part in found]
    whole = {**results[-1], "scores": {split: [] for split in task.eval_splits}}
    for result in results:
        for split, scores in result["scores"].items():
            whole["scores"][split] += scores
    for sum_of in ("evaluation_time", "kg_co2_emissions"):
        there = [r[sum_of] for r in results if r.get(sum_of) is not None]
        whole[sum_of] = sum(there) if there else None
    if any(r.get("evaluation_phases") for r in results):
        whole["evaluation_phases"] = [p for r in results for p in r.get("evaluation_phases") or ()]
    units, cut = {}, {}
    for part in found:
        for split, subsets in (part["units"] or {}).items():
            units.setdefault(split, {}).update(subsets)
        for side, counts in part["cut"].items():
            of_side = cut.setdefault(side, dict.fromkeys(counts, 0))
            for what, count in counts.items():
                of_side[what] += count
    return {"result": whole, "units": units or None, "cut": cut}
