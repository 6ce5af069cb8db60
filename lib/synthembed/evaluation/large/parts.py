"""A task's parts: what is scored, and kept, at a time. One language of MIRACL's sixteen is one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import mteb
import numpy as np
from mteb.abstasks import AbsTaskBitextMining, AbsTaskRetrieval

from synthembed.evaluation.large.corpus_search import CorpusSearch, is_large
from synthembed.evaluation.protocol import MtebEncoder
from synthembed.ground.files import read_json
from synthembed.model.blocks.store import Store


class DataUnavailable(RuntimeError):
    """A task's data that cannot be had here; the message says which and what to do."""


def of(task) -> list[tuple[str, list[str]]]:
    """(split, subsets) of each part. Splits of a subset follow each other, as they may share a corpus; bitext
    mining's subsets are one part, as mteb scores them together."""
    if isinstance(task, AbsTaskBitextMining):
        return [(split, list(task.hf_subsets)) for split in task.eval_splits]
    return [(split, [subset]) for subset in task.hf_subsets for split in task.eval_splits]


def key(task, split: str, subsets: list[str], of_data: str) -> dict:
    """What a part must have been scored with to count."""
    return {
        "split": split,
        "subsets": subsets,
        "dataset_revision": task.metadata.dataset["revision"],
        "mteb_version": importlib.metadata.version("mteb"),
        "content": of_data,
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
    below = model.storage or (folder / "parts").absolute().as_posix()
    if model.storage:
        about = model.mteb_model_meta
        below += f"/{about.name.replace('/', '__')}/{about.revision}"
    return Store(f"{below}/{task.metadata.name}/blocks/{name}")


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


def scored(model, task, folder: Path, of_data: str) -> dict:
    """What mteb finds for all parts of a task, put together: each part is kept as soon as it is scored, so
    that a run that was killed goes on with the next. ``of_data`` is the task's ``content``."""
    found, by_hand, wanted = [], task.data_loaded, of(task)
    for number, (split, subsets) in enumerate(wanted, 1):
        part = kept(folder, task, split, subsets, of_data)
        if part is None:
            if not by_hand:
                load(task, subsets)
            part = score(model, task, split, subsets, folder)
            if len(wanted) > 1:
                keep(part, folder, task, split, subsets, of_data)
        found.append(part)
        last_of_subset = number == len(wanted) or wanted[number][1] != subsets
        if last_of_subset and isinstance(model, MtebEncoder):
            blocks_of(model, folder, task, subsets).clear()
    if not by_hand and task.data_loaded:
        task.unload_data()
    return together(task, found)


def score(model, task, split: str, subsets: list[str], folder: Path) -> dict:
    """mteb's ``result`` for some subsets of one split of a task whose data is loaded, the scores of single
    texts (``units``), and how many texts were ``cut``."""
    _seed(task)
    task.units = None
    scored_by, ours = model, isinstance(model, MtebEncoder)
    if ours:
        model.kept_at = blocks_of(model, folder, task, subsets).root
        if isinstance(task, AbsTaskRetrieval) and is_large(task, split, subsets[0]):
            scored_by = CorpusSearch(model)
    with only(task, subsets, split):
        outcome = mteb.evaluate(
            scored_by, [task], cache=None, overwrite_strategy="always",
            encode_kwargs={"show_progress_bar": False}, show_progress_bar=False,
        )  # fmt: skip
    cut = model.cut.pop(task.metadata.name, {}) if ours else {}
    return {"result": outcome.task_results[0].to_dict(), "units": task.units, "cut": cut}


def kept(folder: Path, task, split: str, subsets: list[str], of_data: str) -> dict | None:
    """A part that was scored before, on the same data by the same mteb."""
    part = read_json(path(folder, task, split, subsets))
    return part if part and part["key"] == key(task, split, subsets, of_data) else None


def keep(part: dict, folder: Path, task, split: str, subsets: list[str], of_data: str) -> None:
    place = path(folder, task, split, subsets)
    place.parent.mkdir(parents=True, exist_ok=True)
    write(place, {"key": key(task, split, subsets, of_data), **part})


def load(task, subsets: list[str]) -> None:
    """Have ``subsets`` loaded: of retrieval these alone, since a language's corpus may be tens of millions of
    passages; of other tasks all, which some load in one go. Raises DataUnavailable."""
    wanted = list(subsets) if isinstance(task, AbsTaskRetrieval) else list(task.hf_subsets)
    if task.data_loaded:
        if not isinstance(task, AbsTaskRetrieval) or set(subsets) <= set(task.dataset or ()):
            return
        task.unload_data()
    with only(task, wanted):
        _load(task)


def _seed(task) -> None:
    """The task's generators as they were when it was made: mteb draws a clustering's texts from one that goes
    on from system to system, so that a score depended on how many had been evaluated before."""
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)


def _load(task) -> None:
    try:
        task.load_data()
    except Exception as error:  # the hub, the disk, a changed data set: mteb's loaders raise anything
        data = task.metadata.dataset
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataUnavailable(
            f"{task.metadata.name}: data set {data['path']!r} at revision {data['revision']} could not be "
            f"loaded: {first}\nFetch it once where the hub can be reached (datasets.load_dataset), copy the "
            "cache folder that HF_HOME names, or leave the task out."
        ) from error


def content(task) -> str:
    """A hash of data that was filled by hand, which no revision vouches for; "" for other tasks."""
    if not task.data_loaded:
        return ""
    if hasattr(task, "convert_v1_dataset_format_to_v2"):
        task.convert_v1_dataset_format_to_v2(num_proc=None)
    digest = hashlib.sha256()

    def add(value) -> None:
        if isinstance(value, Mapping):
            for key in value:
                digest.update(f"{key!r}:".encode())
                add(value[key])
        elif hasattr(value, "column_names"):  # a datasets.Dataset
            for row in value:
                digest.update(json.dumps(row, sort_keys=True, default=str).encode())
        else:
            digest.update(repr(value).encode())

    add(task.dataset)
    return digest.hexdigest()


def write(path: Path, result: dict) -> dict:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1, default=_plain), encoding="utf-8")
    os.replace(partial, path)
    return json.loads(path.read_text(encoding="utf-8"))


def _plain(value):
    return value.item() if isinstance(value, np.generic) else str(value)
