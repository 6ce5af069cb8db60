"""The trainings of a profile: one for each of its seeds, exported, and kept once they are finished.

The main seed's run lies in the stage's folder itself, further ones in ``seeds/<n>/`` below it. A run's
``run.json`` says what it was made from and what it wrote; a run of which that still holds is not made
again, whatever else the list of seeds has gained or lost. A run of other settings is set aside under its key
(run_folders.set_aside) when another takes its place, and brought back when it is wanted again.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from synthembed.corpus.example import Example
from synthembed.ground.console import Progress
from synthembed.ground.files import read_json, sha256, write_json
from synthembed.ground.weights import embedded
from synthembed.labelled.mixture import Mixture
from synthembed.model import adapter, export
from synthembed.model import backbone as backbones
from synthembed.model.backbone import Backbone
from synthembed.profile.settings import Profile
from synthembed.training import batches, checkpoints, train

RECORD = "run.json"
MADE = ("model", "adapter")
WHOLE = (*MADE, RECORD, "log.jsonl", "checkpoints", "pretraining")
# By name, since no number depends on it: fingerprints.code_of follows import statements.
_folders = import_module("synthembed.ground.run_folders")
_tasks = import_module("synthembed.cluster.tasks")


@dataclass(frozen=True)
class Run:
    """One training: the profile with its seed, its folder, and the key of what it is made from."""

    profile: Profile
    folder: Path
    key: str

    @property
    def finished(self) -> bool:
        record = read_json(self.folder / RECORD, {})
        if record.get("key") != self.key:
            return False
        paths = {self.folder / name: digest for name, digest in record["outputs"].items()}
        return all(path.exists() and sha256(path) == digest for path, digest in paths.items())


def plan(profile: Profile, corpus: list[Example], folder: Path, code: str = "") -> list[Run]:
    """The runs of a profile, the main seed's first. Nothing is deleted: where a run of other settings, examples
    or ``code`` lies in the place of one of them, or one of a seed that is no longer listed, it is set aside."""
    runs = [
        Run(of_seed, place, checkpoints.run_key(of_seed, corpus, code))
        for of_seed, place in zip(profile.for_seeds(), seed_folders(profile, folder).values(), strict=True)
    ]
    for place in set((folder / "seeds").glob("*")) - {run.folder for run in runs}:
        set_aside(place, folder)
        shutil.rmtree(place)  # what is left was not finished
    for run in runs:
        if key_of(run.folder) not in (None, run.key):
            set_aside(run.folder, folder)
    for run in runs:
        if key_of(run.folder) is None:
            _folders.bring_back(folder, run.key, run.folder)
        if not run.finished:
            (run.folder / RECORD).unlink(missing_ok=True)
            for name in MADE:
                shutil.rmtree(run.folder / name, ignore_errors=True)
    return runs


def key_of(folder: Path) -> str | None:
    """The key of the run that lies in a folder, finished or with a checkpoint; None if there is none."""
    if record := read_json(folder / RECORD):
        return record["key"]
    return checkpoints.key_of(folder)


def set_aside(place: Path, folder: Path) -> None:
    """Move the run that lies in ``place`` to the other settings of ``folder``."""
    if key := key_of(place):
        _folders.set_aside(place, key, WHOLE, folder)


def train_all(runs: list[Run], mixed: Mixture, code: str = "") -> Backbone:
    """Make what is not finished, one after the other or, where the profile has a cluster for seeds, side by
    side; returns the main run's model, its adapter merged."""
    cluster = runs[0].profile.cluster
    if cluster and "seeds" in cluster.grid and len(runs) > 1:
        _side_by_side([run for run in runs if not run.finished], mixed, code)
    for number, run in enumerate(runs[1:], 2):
        print(f"seed {run.profile.seed}, {number}/{len(runs)}", flush=True)
        if run.finished:
            print("  finished before")
        else:
            trained(run, mixed, code)
    if len(runs) > 1:
        print(f"seed {runs[0].profile.seed}, the main one", flush=True)
    return trained(runs[0], mixed, code)


def _side_by_side(runs: list[Run], mixed: Mixture, code: str) -> None:
    if not runs:
        return
    jobs = [(replace(run, profile=run.profile.in_process()), mixed, code) for run in runs]
    folder = Path(os.path.commonpath([run.folder for run in runs]))
    progress = Progress("seeds", "runs", every=0)
    for done, (number, _) in enumerate(_tasks.spread(_placed, jobs, runs[0].profile.cluster, folder), 1):
        progress(done, len(runs), f"seed {runs[number].profile.seed}")


def _placed(run: Run, mixed: Mixture, code: str) -> None:
    """A run as a task; its model stays in its folder."""
    trained(run, mixed, code)


def trained(run: Run, mixed: Mixture, code: str = "") -> Backbone:
    """The model of a run, its adapter merged: trained and exported now, or read if it is finished."""
    profile, folder = run.profile, run.folder
    if run.finished:
        return backbones.load(backbones.export_settings(profile.backbone, folder), profile.seed)
    if profile.backbone.bidirectional:
        raise train.TrainingError(
            "backbone.bidirectional: others would read the exported folder as a decoder that looks back only, without "
            "a warning. Train it as a row of experiments or ablations, which are scored and not exported"
        )
    base = backbones.load(profile.backbone, profile.seed)
    model = train.train(profile, base, mixed.examples, folder, code)
    if (
        profile.train.method != "full" and not profile.pretrain
    ):  # with it, model/ alone has all that was trained
        export.export_adapter(model, folder / "adapter")
    merged = adapter.merge_lora(model)
    steps = batches.steps_of(profile.train, mixed.examples)
    card = export.model_card(profile, mixed.about, steps)
    export.export(merged, folder / "model", profile.backbone.pooling, profile.train.instruction, card)
    for notice in embedded.notices(profile.backbone.model):
        shutil.copy(notice, folder / "model")
    outputs = [p for name in MADE for p in sorted((folder / name).rglob("*")) if p.is_file()]
    outputs.append(folder / "log.jsonl")
    record = {
        "key": run.key, "seed": profile.seed, "steps": steps, "base": base.source,
        "outputs": {p.relative_to(folder).as_posix(): sha256(p) for p in outputs},
    }  # fmt: skip
    write_json(folder / RECORD, record)
    return merged


def seed_folders(profile: Profile, folder: Path) -> dict[int, Path]:
    """seed → where its training lies: the main seed's in ``folder`` itself, first, others in seeds/<n>/."""
    main, *others = profile.training_seeds
    return {main: folder} | {seed: folder / "seeds" / str(seed) for seed in others}
