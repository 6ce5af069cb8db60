"""Evaluation by mteb under a protocol (Sec. 4.2): tasks, kept results, rows of scores.json.

Which text gets which instruction is in protocol.py, which tasks a benchmark has in suites/benchmarks.py.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mteb.results import TaskResult

from synthembed.evaluation.large import parts, spread
from synthembed.evaluation.large.parts import DataUnavailable as DataUnavailable
from synthembed.evaluation.protocol import SPLITS, MtebEncoder
from synthembed.evaluation.scores import category, languages_of
from synthembed.evaluation.suites import benchmarks, units
from synthembed.evaluation.suites.benchmarks import MORE
from synthembed.evaluation.suites.embedded_tasks import Embedded
from synthembed.ground.console import Progress
from synthembed.ground.files import read_json, write_json
from synthembed.profile.settings import Evaluate as Settings


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
        if model.pool:
            spread.ahead(model, missing(tasks, folder), folder)
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
        return parts.write(path, task.combine_task_results(members).to_dict())
    if stored := _kept(task, folder):
        shutil.rmtree(parts.folder_of(folder, task), ignore_errors=True)  # of a run killed at the very end
        return stored
    content, beside = parts.content(task), path.with_suffix(".content")
    scored = parts.scored(model, task, folder, content)
    if isinstance(model, MtebEncoder):  # below the results, as mteb takes what lies beside them for results
        (folder / "cut").mkdir(exist_ok=True)
        write_json(folder / "cut" / path.name, scored["cut"])
    path.unlink(missing_ok=True)  # never a result beside the key of another one
    if scored["units"]:
        units.write(folder, task.metadata.name, units.KIND.get(task.metadata.type, "mean"), scored["units"])
    beside.write_text(content) if content else beside.unlink(missing_ok=True)
    result = parts.write(path, scored["result"])
    shutil.rmtree(parts.folder_of(folder, task), ignore_errors=True)
    return result


def missing(tasks: list, folder: Path) -> list:
    """Of ``tasks``, those of aggregates one by one, the ones whose result is not kept."""
    found = []
    for task in tasks:
        found += missing(task.tasks, folder) if task.is_aggregate else [task] * (not _kept(task, folder))
    return found


def _kept(task, folder: Path) -> dict | None:
    """The result of this very task, if it is there whole."""
    if task.metadata.name in SPLITS:
        task.filter_eval_splits(SPLITS[task.metadata.name])
    path = folder / f"{task.metadata.name}.json"
    beside = path.with_suffix(".content")
    if isinstance(task, Embedded) and not units.path(folder, task.metadata.name).exists():
        return None
    stored = _stored(path, task)
    same = stored and parts.content(task) == (beside.read_text() if beside.exists() else "")
    return stored if same else None


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


def errors_of(folder: Path) -> dict[str, dict[str, float]]:
    """Task → language, as in its rows, → the standard error of the score by the choice of its texts, in points;
    of the results in ``folder`` whose texts' own scores were kept (suites/units.py)."""
    found = {}
    for path in sorted(folder.glob("units/*.units.json")):
        name = path.name.removesuffix(".units.json")
        result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        languages = languages_of(result)
        if errors := units.errors(folder, name):
            found[name] = {languages[subset]: round(error, 3) for (_, subset), error in errors.items()}
    return found


def rows_of(result: dict, task, system: str, benchmark: str, metric: str | None = None) -> list[dict]:
    """One row per language subset, scores in percent (contract of scores.json); of the main metric, or
    of another that mteb computed. A task of several splits has its name with the split in brackets.
    """
    rows, name, languages = [], task.metadata.name, languages_of(result)
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
                    "language": languages[score["hf_subset"]],
                    "metric": metric or task.metadata.main_score,
                    "score": round(100 * score[metric or "main_score"], 3),
                }
            )
    return rows
