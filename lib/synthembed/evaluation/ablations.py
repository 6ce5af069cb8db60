"""Ablations as data (Tables 5, 7): each row is a set of overrides, a complete training and evaluation.

A row is trained once for each of its seeds, in ``rows/<id>/`` and ``rows/<id>/seeds/<n>/``; each of
these runs has a ``stage.json`` of its own, goes on where it was interrupted, and is not made again as
long as its settings, examples, code and packages are the same. One of other settings is set aside under its
key when another takes its place, and brought back when it is wanted again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from synthembed import paper
from synthembed.corpus.example import Example
from synthembed.evaluation import mteb_runs, protocol, systems
from synthembed.evaluation.intervals import BENCHMARK, interval
from synthembed.evaluation.large.spread import placed
from synthembed.evaluation.scores import averages
from synthembed.evaluation.suites import units
from synthembed.ground.console import Progress
from synthembed.ground.files import read_json, write_json
from synthembed.labelled import mixture
from synthembed.labelled.mixture import Mixture
from synthembed.model import adapter
from synthembed.model import backbone as backbones
from synthembed.profile.settings import Ablation, Profile
from synthembed.training import checkpoints, train
from synthembed.training.seed_runs import seed_folders

WHOLE = ("stage.json", "log.jsonl", "data.json", "mteb", "pretraining", "checkpoints")
# By name, since no number depends on it: fingerprints.code_of follows import statements.
_folders = import_module("synthembed.ground.run_folders")
_tasks = import_module("synthembed.cluster.tasks")
SECTIONS = ("seed", "data", "backbone", "lora", "pretrain", "train", "evaluate")


@dataclass(frozen=True)
class Job:
    """One training and evaluation: a row of the profile under one of its seeds."""

    row: Ablation
    profile: Profile
    mixed: Mixture
    folder: Path
    code: str

    @property
    def key(self) -> str:
        """What the run is made from."""
        trained = checkpoints.run_key(self.profile, self.mixed.examples, self.code)
        return hashlib.sha256(f"{self.profile.hash(*SECTIONS)}/{trained}".encode()).hexdigest()[:16]

    def finished(self) -> dict[str, list[dict]] | None:
        """Its ``rows`` and ``more`` for scores.json, if it was made from the same before."""
        record = read_json(self.folder / "stage.json", {})
        done = record.get("key") == self.key and record["status"] == "done"
        made = done and "more" in record and (self.folder / "log.jsonl").exists()
        return {kind: record[kind] for kind in ("rows", "more")} if made else None


def check(profile: Profile) -> None:
    """Raises ProfileError if a row fills what the paper does not have."""
    paper.check_fills(profile)


def plan(profile: Profile, corpus: list[Example], folder: Path, code: str = "") -> list[Job]:
    """The runs of all rows, seed by seed; ``corpus`` is the synthetic data, which each row's
    ``data.setting`` mixes with labelled sets, once for all rows with the same data; ``code`` is the hash
    of the code that trains and evaluates."""
    check(profile)
    jobs, mixtures = [], {}
    for row in profile.ablations.rows:
        settings = profile.with_overrides(profile.ablations.set | row.set)
        data = settings.hash("data", "analyze")  # labelled texts are filtered as the synthetic ones are
        if data not in mixtures:
            mixtures[data] = mixture.mixture(settings, corpus)
        places = seed_folders(settings, folder / row.id).values()
        jobs += [
            Job(row, of_seed, mixtures[data], place, code)
            for of_seed, place in zip(settings.for_seeds(), places, strict=True)
        ]
    for job in jobs:
        found = read_json(job.folder / "stage.json", {}).get("key")
        if found != job.key:
            if found:
                _folders.set_aside(job.folder, found, WHOLE, job.folder)
            _folders.bring_back(job.folder, job.key, job.folder)
    return jobs


def run(jobs: list[Job]) -> dict[str, list[dict]]:
    """``rows`` and ``more`` for scores.json of all jobs. One that was finished before is read, not run; the
    others run one after the other, or where the profile has a cluster for them, side by side."""
    found = [job.finished() for job in jobs]
    for job, scored in zip(jobs, found, strict=True):
        if scored is not None:
            print(_result(job, scored) + ", finished before", flush=True)
    missing = [number for number, scored in enumerate(found) if scored is None]
    progress = Progress("ablations", "runs", every=0)
    for done, (place, scored) in enumerate(_scored([jobs[number] for number in missing]), 1):
        found[missing[place]] = scored
        progress(done, len(missing), _result(jobs[missing[place]], scored))
    return {kind: [row for scored in found for row in scored[kind]] for kind in ("rows", "more")}


def _scored(jobs: list[Job]) -> Iterator[tuple[int, dict[str, list[dict]]]]:
    """(number, what ``one`` returns) of each job as it ends."""
    cluster = jobs[0].profile.cluster if jobs else None
    if cluster and "ablations" in cluster.grid:
        split = [(replace(job, profile=job.profile.in_process(), mixed=None), job.mixed) for job in jobs]
        folder = Path(os.path.commonpath([job.folder for job in jobs]))
        yield from _tasks.spread(_placed, split, cluster, folder)
        return
    for number, job in enumerate(jobs):
        print(f"{job.row.id}, seed {job.profile.seed}", flush=True)
        yield number, one(job)


def _placed(job: Job, mixed: Mixture) -> dict[str, list[dict]]:
    """A job as a task, which may be begun again after it has written its last file."""
    job = replace(job, mixed=mixed)
    print(f"{job.row.id}, seed {job.profile.seed}", flush=True)
    return job.finished() or one(job)


def one(job: Job) -> dict[str, list[dict]]:
    """Train and evaluate one job in its folder; its stage.json says what it was made from."""
    profile, folder = job.profile, job.folder
    begin = {"key": job.key, "status": "running", "id": job.row.id, "seed": profile.seed}
    if read_json(folder / "stage.json", {}).get("key") != job.key:  # what is there has no record
        for name in ("mteb", "pretraining", "checkpoints"):  # below it lie runs of other seeds
            shutil.rmtree(folder / name, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.jsonl").unlink(missing_ok=True)
        write_json(folder / "stage.json", begin)
    started = time.time()
    base = backbones.load(profile.backbone, profile.seed)
    model = adapter.merge_lora(train.train(profile, base, job.mixed.examples, folder, job.code))
    protocol.in_dtype(model, profile.evaluate)
    subject = systems.subject(profile, model, f"synthembed/{job.row.id}", job.key)
    tasks = mteb_runs.tasks_of(profile.evaluate)
    with placed(profile.cluster, subject):  # of a row that is a task itself there is none
        scored = mteb_runs.run_benchmarks(subject, tasks, folder / "mteb", job.row.id)
    scored = {kind: [row | {"seed": profile.seed} for row in rows] for kind, rows in scored.items()}
    job.mixed.write(folder)
    made = {
        "settings": profile.model_dump(mode="json", include=set(SECTIONS)), "examples": len(job.mixed.examples),
        "code": job.code, "wall_s": round(time.time() - started, 1), **scored,
    }  # fmt: skip
    write_json(folder / "stage.json", begin | {"status": "done"} | made)
    for left in (folder / "checkpoints", folder / "pretraining" / "checkpoints"):
        shutil.rmtree(left, ignore_errors=True)
    return scored


def _result(job: Job, scored: dict[str, list[dict]]) -> str:
    rows = scored["rows"]
    average = averages(rows).get("Avg")
    return f"{job.row.id}, seed {job.profile.seed}: " + (
        f"Avg {average:.1f}" if average is not None else f"{len(rows)} scores"
    )


def scores(profile: Profile, rows: list[dict], more: Iterable[dict] = (), jobs: Iterable[Job] = ()) -> dict:
    """scores.json: the rows (``more``: of secondary metrics), what each system fills, the interval of its
    delta (intervals.py), and how many ``examples`` it was trained on.

    A row is compared with the one that it names in ``against``, by default with the first: on tasks like
    these and, under ``on this benchmark``, on these tasks alone, there with the noise of their texts if
    ``jobs`` say where the runs lie.
    """
    jobs, listed = list(jobs), profile.ablations.rows
    pairs = {row.id: row.against or listed[0].id for row in listed}
    intervals, folders = {}, {}
    for job in jobs:
        folders.setdefault(job.row.id, []).append(job.folder / "mteb")
    for system, against in pairs.items():
        if system != against:
            try:
                texts = folders and units.differences(folders[system], folders[against])
                here = interval(rows, system, against, kind=BENCHMARK, units=texts)
                intervals[system] = interval(rows, system, against) | {BENCHMARK: here}
            except ValueError as error:
                print(f"no interval: {error}")
    return {
        "rows": rows,
        "more": list(more),
        "fills": {row.id: row.fills for row in listed},
        "intervals": intervals,
        "examples": {job.row.id: len(job.mixed.examples) for job in jobs},
    }
