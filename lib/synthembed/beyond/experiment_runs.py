"""Experiments as data: the rows of a profile's ``experiments`` → trainings → rows of scores.json.

A row is trained once for each seed. Rows of the same settings and examples share their trainings, whichever
experiments they are in. A training that is finished is read and not made again, one that was interrupted goes on,
and one whose data are not there waits, with the command that makes them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthembed.beyond import rereading, soups
from synthembed.corpus import example_files
from synthembed.corpus.example import Example
from synthembed.evaluation import mteb_runs, protocol, systems
from synthembed.evaluation.large.spread import placed
from synthembed.ground.console import Progress
from synthembed.ground.files import read_json, shown, write_json
from synthembed.labelled import mixture
from synthembed.labelled.mixture import Mixture
from synthembed.model import adapter
from synthembed.model import backbone as backbones
from synthembed.profile.experiment_settings import Reading, Row
from synthembed.profile.settings import Profile
from synthembed.training import batches, checkpoints, train

SECTIONS = ("seed", "data", "backbone", "lora", "pretrain", "train", "evaluate")
PLAIN = "plain"  # the folder of the model as it is
FEWEST = 2  # batches that a corpus must fill for a training on it to say anything


@dataclass
class Training:
    """One training under one seed (a soup: under all of them), the ``systems`` of scores.json that it makes, and
    the ``readings`` and steps that they want of it."""

    profile: Profile
    mixed: Mixture
    folder: Path
    key: str
    soup: bool = False
    systems: list[str] = field(default_factory=list)
    readings: dict[str, Reading] = field(default_factory=dict)
    steps: set[int] = field(default_factory=set)
    curve_tasks: tuple[str, ...] = ()

    def wanted(self) -> dict:
        """What its record must say."""
        read = {name: reading.model_dump() for name, reading in sorted(self.readings.items())}
        return {
            "key": self.key,
            "readings": read,
            "steps": sorted(self.steps),
            "curve": list(self.curve_tasks),
        }

    def results(self, of: str = "") -> list[Path]:
        """Where mteb's results of a reading of it lie, or of the model as it is; of a soup one for each seed."""
        places = sorted(p for p in self.folder.glob("*/mteb")) if self.soup else [self.folder / "mteb"]
        return [place / (of or PLAIN) for place in places]

    def finished(self) -> list[dict] | None:
        """Its rows, if all that is wanted of it was made before."""
        record = read_json(self.folder / "stage.json", {})
        done = record.get("status") == "done" and record.get("wanted") == self.wanted()
        return record["rows"] if done else None


@dataclass
class Plan:
    """Trainings in the order in which they are made; what waits, system → why and what to do; and of each system
    how many examples it is trained on and how many steps."""

    trainings: list[Training]
    waiting: dict[str, str]
    sizes: dict[str, dict[str, int]]


def plan(
    profile: Profile,
    corpora: Mapping[str, list[Example]],
    folder: Path,
    code: str = "",
    trained: Path | None = None,
) -> Plan:
    """The trainings of all experiments. ``corpora`` are "synthetic" and "dropped"; ``trained`` is the model of
    stage 03, which a row may mine its negatives with; ``code`` is the hash of the code that trains and scores."""
    made, mixtures = Plan([], {}, {}), {}
    found: dict[str, Training] = {}
    for experiment in profile.experiments.questions:
        for row in experiment.rows:
            name = f"{experiment.id}/{row.id}"
            settings, why = _with_trained(profile.of_row(experiment, row), trained)
            why = why or _not_there(row, corpora)
            if not why:
                data = row.corpus + settings.hash("data", "analyze")
                if data not in mixtures:
                    ours = row.corpus in corpora
                    corpus = corpora[row.corpus] if ours else example_files.read(Path(row.corpus))
                    print(f"{name}: ", end="")
                    mixtures[data] = mixture.mixture(settings, corpus)
                why = _too_few(settings, mixtures[data].examples)
            if why:
                made.waiting[name] = why
                continue
            examples = mixtures[data].examples
            steps = batches.steps_of(settings.train, examples)
            made.sizes[name] = {"examples": len(examples), "steps": steps}
            for one in _of_seeds(settings, mixtures[data], folder / experiment.id / row.id, row, code):
                training = found.setdefault(one.key, one)
                training.systems.append(name)
                training.readings |= {reading.id: reading for reading in row.readings}
                training.steps |= {step for step in row.scored_at if step <= steps}
                training.curve_tasks = tuple(profile.experiments.curve_tasks)
    made.trainings = list(found.values())
    return made


def _of_seeds(settings: Profile, mixed: Mixture, folder: Path, row: Row, code: str) -> list[Training]:
    if row.soup:
        key = _key(settings, mixed, f"{code} soup {settings.training_seeds}")
        return [Training(settings, mixed, folder / "soup", key, soup=True)]
    return [
        Training(one, mixed, folder / str(one.seed), _key(one, mixed, code)) for one in settings.for_seeds()
    ]


def _key(profile: Profile, mixed: Mixture, code: str) -> str:
    """What a training and its scores are made from."""
    trained = checkpoints.run_key(profile, mixed.examples, code)
    scored = profile.hash(*(s for s in SECTIONS if s != "data"))  # of the data its examples alone
    return hashlib.sha256(f"{scored}/{trained}".encode()).hexdigest()[:16]


def _with_trained(settings: Profile, trained: Path | None) -> tuple[Profile, str]:
    """The settings with stage 03's model in the place of "trained"; and why the row waits, if it is not there."""
    key = "data.select.negatives.encoder"
    chosen = settings.data.select and settings.data.select.negatives
    if not chosen or chosen.encoder != "trained":
        return settings, ""
    if trained is None or not (trained / "modules.json").exists():
        return (
            settings,
            f"not run: there is no trained model. synthembed run --profile {settings.name} --only 03_train",
        )
    return settings.with_overrides({key: str(trained)}), ""


def _not_there(row: Row, corpora: Mapping[str, list[Example]]) -> str:
    if row.corpus in corpora or Path(row.corpus).exists():
        return ""
    return f"not recorded: {shown(Path(row.corpus))}" + (
        f". Make it with\n{row.command}" if row.command else ""
    )


def _too_few(settings: Profile, examples: list[Example]) -> str:
    least = FEWEST * settings.train.batch_size
    if len(examples) >= least:
        return ""
    return f"not run: {len(examples)} examples, and two batches are {least}"


# --- running -------------------------------------------------------------------------------------------------


def run(planned: Plan) -> list[dict]:
    """Rows of scores.json of all systems, those of readings as ``system@reading``, those of learning curves as
    ``system@step-n``. What was finished before is read, not run."""
    rows, progress, done = [], Progress("experiments", "trainings", every=0), 0
    kept = [training.finished() for training in planned.trainings]
    for training, found in zip(planned.trainings, kept, strict=True):
        if found is None:
            print(f"{training.systems[0]}, seed {training.profile.seed}", flush=True)
            found = one(training)
            done += 1
            progress(done, kept.count(None), training.systems[0])
        rows += [_named(row, system) for system in training.systems for row in found]
    return rows


def _named(row: dict, system: str) -> dict:
    plain = {name: value for name, value in row.items() if name != "of"}
    return plain | {"system": system + (f"@{row['of']}" if row["of"] else "")}


def one(training: Training) -> list[dict]:
    """Train and score one training in its folder; its stage.json says what it was made from."""
    folder, record = training.folder, {"wanted": training.wanted(), "status": "running"}
    if read_json(folder / "stage.json", {}).get("wanted", {}).get("key") != training.key:
        shutil.rmtree(folder, ignore_errors=True)  # what is there was made from something else
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "stage.json", record)
    started = time.time()
    rows = _soup(training) if training.soup else _scored(training, trained_model(training), folder)
    training.mixed.write(folder)
    settings = training.profile.model_dump(mode="json", include=set(SECTIONS))
    record |= {
        "status": "done",
        "settings": settings,
        "wall_s": round(time.time() - started, 1),
        "rows": rows,
    }
    write_json(folder / "stage.json", record)
    for left in (folder / "checkpoints", folder / "pretraining"):
        shutil.rmtree(left, ignore_errors=True)
    return rows


def trained_model(training: Training, profile: Profile | None = None, folder: Path | None = None):
    """The model of a training, its adapter merged, in the precision that it is scored in."""
    profile, folder = profile or training.profile, folder or training.folder
    base = backbones.load(profile.backbone, profile.seed)
    watch = _watcher(training) if training.steps else None
    model = adapter.merge_lora(
        train.train(profile, base, training.mixed.examples, folder, training.key, watch=watch)
    )
    return protocol.in_dtype(model, profile.evaluate)


def _watcher(training: Training):
    """Scores the model on a part of the suite after some of the steps, and keeps the scores in the training's
    folder. It travels to a cluster's workers, so it holds no examples."""
    profile, steps, key = training.profile.in_process(), training.steps, training.key
    chosen = profile.evaluate.model_copy(
        update={"tasks": list(training.curve_tasks) or profile.evaluate.tasks}
    )

    def watch(step: int, model: backbones.Backbone, folder: Path) -> None:
        if step not in steps:
            return
        model.model.eval()
        subject = systems.subject(profile, model, "synthembed/step", f"{key}-{step}")
        place = folder / "curve" / f"step-{step}"
        scored = mteb_runs.run_benchmarks(subject, mteb_runs.tasks_of(chosen), place, f"step {step}")
        write_json(place / "rows.json", scored["rows"])
        model.model.train()

    return watch


def _scored(
    training: Training, model: backbones.Backbone, folder: Path, seed: int | None = None
) -> list[dict]:
    """Rows of the model as it is, of its readings, and of its learning curve; ``of`` says which."""
    profile, rows = training.profile, []
    seed = profile.seed if seed is None else seed
    plain = systems.subject(profile, model, "synthembed/row", training.key)
    tasks = mteb_runs.tasks_of(profile.evaluate)
    memory = rereading.Remembered(plain.encoder)
    cluster = None if training.readings else profile.cluster  # readings share what one process keeps
    with placed(cluster, plain):
        for name, reading in {"": Reading(id=PLAIN), **training.readings}.items():
            subject = rereading.Read(plain, reading, memory) if training.readings else plain
            place = folder / "mteb" / (name or PLAIN)
            scored = mteb_runs.run_benchmarks(subject, tasks, place, name or "scores")
            rows += [row | {"seed": seed, "of": name} for row in scored["rows"]]
    for path in sorted((folder / "curve").glob("*/rows.json")):
        kept = json.loads(path.read_text(encoding="utf-8"))
        rows += [row | {"seed": seed, "of": path.parent.name} for row in kept]
    return rows


def _soup(training: Training) -> list[dict]:
    """The average of all seeds' weights but one's, once for each seed that is left out; a row's ``seed`` is that."""
    profiles = training.profile.for_seeds()
    pots = {}
    for profile in profiles:
        model = trained_model(training, profile, training.folder / "members" / str(profile.seed))
        pots[profile.seed] = soups.weights_of(model)
    rows = []
    for left_out in pots:
        mixed = soups.average([weights for seed, weights in pots.items() if seed != left_out])
        soups.put_into(model, mixed)
        rows += _scored(replace(training, steps=set()), model, training.folder / str(left_out), left_out)
    shutil.rmtree(training.folder / "members")
    return rows
