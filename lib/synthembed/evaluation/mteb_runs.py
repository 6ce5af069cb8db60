"""Evaluation by mteb under a protocol (Sec. 4.2): tasks, kept results, rows of scores.json.

Which text gets which instruction is in protocol.py, which tasks a benchmark has in suites/benchmarks.py.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import mteb
import numpy as np
from mteb.abstasks import AbsTaskRetrieval
from mteb.results import TaskResult

from synthembed.evaluation.large import parts
from synthembed.evaluation.large.corpus_search import CorpusSearch, is_large
from synthembed.evaluation.protocol import SPLITS, MtebEncoder
from synthembed.evaluation.scores import category
from synthembed.evaluation.suites import benchmarks, units
from synthembed.evaluation.suites.benchmarks import MORE
from synthembed.evaluation.suites.embedded_tasks import Embedded
from synthembed.ground.console import Progress
from synthembed.ground.files import read_json, write_json
from synthembed.profile.settings import Evaluate as Settings


class DataUnavailable(RuntimeError):
    """A task's data that cannot be had here; the message says which and what to do."""


def tasks_of(settings: Settings) -> dict[str, list]:
    """Benchmark, as scores.json names it → its task objects (suites/benchmarks.py)."""
    return benchmarks.load(settings.benchmarks, settings.tasks)


def run_benchmarks(
    model, tasks: dict[str, list], folder: Path, label: str, can: Callable[[object], bool] = lambda task: True
) -> dict[str, list[dict]]:
    """The rows of scores.json: ``rows`` of the tasks' main scores, ``more`` of secondary ones.

    ``tasks`` are as ``tasks_of`` gives them. A task in two benchmarks runs once. ``can`` says which
    tasks the model can do.
    """
    found = {"rows": [], "more": []}
    for benchmark, listed in tasks.items():
        listed = [t for t in listed if can(t)]
        found["rows"] += run_tasks(model, listed, folder, label, benchmark)
        for task in listed:
            for metric in MORE.get(task.metadata.name, ()):
                result = json.loads((folder / f"{task.metadata.name}.json").read_text(encoding="utf-8"))
                found["more"] += rows_of(result, task, label, benchmark, metric)
    return found


def cut_texts(folder: Path) -> dict[str, dict]:
    """System → task → side → how many texts it had and how many were cut at its length, of results below
    ``folder`` (systems of ours alone)."""
    found: dict[str, dict] = {}
    for path in sorted(folder.glob("**/cut/*.json")):
        system = path.parents[2].name.replace("__", "/")
        found.setdefault(system, {})[path.stem] = read_json(path)
    return found


def run_tasks(model, tasks: list, folder: Path, label: str, benchmark: str = "embedded") -> list[dict]:
    """Score ``model`` on ``tasks``: one mteb TaskResult JSON each in ``folder``, rows for scores.json.

    Tasks are mteb's own or of its classes. Their data is loaded and let go again, unless it is there
    already (``dataset`` filled by hand and ``data_loaded`` set): then it is used, and kept. A task whose
    result is there, for the same data, splits, subsets and mteb, is not run again; one of the embedded
    suite must have its texts' own scores there too (suites/units.py). With the model's
    metadata beside them, results are as mteb's own cache has them, and can be submitted as they are.
    Raises DataUnavailable for a task whose data cannot be loaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, MtebEncoder):
        write_json(
            folder / "model_meta.json", json.loads(json.dumps(model.mteb_model_meta.to_dict(), default=str))
        )
    rows = []
    progress = Progress(f"{label}", "tasks", every=0)
    for number, task in enumerate(tasks, 1):
        new = rows_of(_result(model, task, folder), task, label, benchmark)
        rows += new
        mean = float(np.mean([r["score"] for r in new]))
        progress(number, len(tasks), f"{task.metadata.name} {mean:.1f}")
    return rows


def _result(model, task, folder: Path) -> dict:
    """The task's TaskResult as a dict, from ``folder`` or from a run; an aggregate's from its parts."""
    path = folder / f"{task.metadata.name}.json"
    if task.is_aggregate:  # CQADupstack: the mean of its 12, each kept by itself
        members = [TaskResult.from_dict(_result(model, member, folder)) for member in task.tasks]
        return _write(path, task.combine_task_results(members).to_dict())
    if task.metadata.name in SPLITS:
        task.filter_eval_splits(SPLITS[task.metadata.name])
    content = _content(task)
    beside = path.with_suffix(".content")
    whole = not isinstance(task, Embedded) or units.path(folder, task.metadata.name).exists()
    if (
        whole
        and (stored := _stored(path, task))
        and content == (beside.read_text() if beside.exists() else "")
    ):
        shutil.rmtree(parts.folder_of(folder, task), ignore_errors=True)  # of a run killed at the very end
        return stored
    scored = _scored(model, task, folder, content)
    if isinstance(model, MtebEncoder):  # below the results, as mteb takes what lies beside them for results
        (folder / "cut").mkdir(exist_ok=True)
        write_json(folder / "cut" / path.name, scored["cut"])
    path.unlink(missing_ok=True)  # never a result beside the key of another one
    if scored["units"]:
        units.write(folder, task.metadata.name, units.KIND.get(task.metadata.type, "mean"), scored["units"])
    beside.write_text(content) if content else beside.unlink(missing_ok=True)
    result = _write(path, scored["result"])
    shutil.rmtree(parts.folder_of(folder, task), ignore_errors=True)
    return result


def _scored(model, task, folder: Path, content: str) -> dict:
    """What mteb finds for all parts of a task, put together: each part is kept as soon as it is scored, so
    that a run that was killed goes on with the next."""
    found, by_hand, loaded = [], task.data_loaded, []
    wanted = parts.of(task)
    for number, (split, subsets) in enumerate(wanted, 1):
        path, key = parts.path(folder, task, split, subsets), parts.key(task, split, subsets, content)
        kept = read_json(path) if len(wanted) > 1 else None
        if not kept or kept["key"] != key:
            if not by_hand and not set(subsets) <= set(loaded):
                loaded = parts.loaded_with(task, subsets)
                if task.data_loaded:
                    task.unload_data()
                with parts.only(task, loaded):
                    _load(task)
            kept = {"key": key, **score_part(model, task, split, subsets, folder)}
            if len(wanted) > 1:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, kept)
        found.append(kept)
        if (number == len(wanted) or wanted[number][1] != subsets) and isinstance(model, MtebEncoder):
            parts.blocks_of(model, folder, task, subsets).clear()
    if not by_hand and task.data_loaded:
        task.unload_data()
    return parts.together(task, found)


def score_part(model, task, split: str, subsets: list[str], folder: Path) -> dict:
    """mteb's ``result`` for some subsets of one split of a task whose data is loaded, the scores of single
    texts (``units``), and how many texts were ``cut``."""
    _seed(task)
    task.units = None
    scored_by, ours = model, isinstance(model, MtebEncoder)
    if ours:
        model.kept_at = parts.blocks_of(model, folder, task, subsets).root
        if isinstance(task, AbsTaskRetrieval) and is_large(task, split, subsets[0]):
            scored_by = CorpusSearch(model)
    with parts.only(task, subsets, split):
        outcome = mteb.evaluate(
            scored_by, [task], cache=None, overwrite_strategy="always",
            encode_kwargs={"show_progress_bar": False}, show_progress_bar=False,
        )  # fmt: skip
    cut = model.cut.pop(task.metadata.name, {}) if ours else {}
    return {"result": outcome.task_results[0].to_dict(), "units": task.units, "cut": cut}


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


def _write(path: Path, result: dict) -> dict:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1, default=_plain), encoding="utf-8")
    os.replace(partial, path)
    return json.loads(path.read_text(encoding="utf-8"))


def _stored(path: Path, task) -> dict | None:
    """A kept result, if it is of these splits and subsets, this revision of the data, and this mteb."""
    if not path.exists():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    have = {(split, s["hf_subset"]) for split, scores in result["scores"].items() for s in scores}
    same = (
        have == {(split, subset) for split in task.eval_splits for subset in task.hf_subsets}
        and result["dataset_revision"] == task.metadata.dataset["revision"]
        and result["mteb_version"] == importlib.metadata.version("mteb")
    )
    return result if same else None


def _content(task) -> str:
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


def errors_of(folder: Path) -> dict[str, dict[str, float]]:
    """Task → language, as in its rows, → the standard error of the score by the choice of its texts, in points;
    of the results in ``folder`` whose texts' own scores were kept (suites/units.py)."""
    found = {}
    for path in sorted(folder.glob("units/*.units.json")):
        name = path.name.removesuffix(".units.json")
        result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        languages = {s["hf_subset"]: _language(s) for of in result["scores"].values() for s in of}
        if errors := units.errors(folder, name):
            found[name] = {languages[subset]: round(error, 3) for (_, subset), error in errors.items()}
    return found


def _language(score: dict) -> str:
    return "+".join(sorted({x.split("-")[0] for x in score["languages"]}))


def _plain(value):
    return value.item() if isinstance(value, np.generic) else str(value)


def rows_of(result: dict, task, system: str, benchmark: str, metric: str | None = None) -> list[dict]:
    """One row per language subset, scores in percent (contract of scores.json); of the main metric, or
    of another that mteb computed. A task of several splits has its name with the split in brackets.
    """
    rows, name = [], task.metadata.name
    run = {x for scores in result["scores"].values() for score in scores for x in score["languages"]}
    column = category(task.metadata.type, run)
    for split, scores in result["scores"].items():
        for score in scores:
            rows.append(
                {
                    "system": system,
                    "benchmark": benchmark,
                    "task": name if len(result["scores"]) == 1 else f"{name} ({split})",
                    "category": column,
                    "language": _language(score),
                    "metric": metric or task.metadata.main_score,
                    "score": round(100 * score[metric or "main_score"], 3),
                }
            )
    return rows
