"""The systems that are evaluated: ours, as mteb sees them, beside peers (Sec. 4.2)."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import fmean

from synthembed.evaluation import intervals, peers
from synthembed.evaluation.large.spread import placed
from synthembed.evaluation.mteb_runs import errors_of, run_benchmarks
from synthembed.evaluation.peers import peer
from synthembed.evaluation.protocol import PROTOCOLS, MtebEncoder, dtype
from synthembed.evaluation.scores import TABLE1
from synthembed.evaluation.suites import units
from synthembed.evaluation.suites.benchmarks import load
from synthembed.ground import places
from synthembed.ground.files import read_json
from synthembed.ground.hardware import release
from synthembed.ground.weights import embedded
from synthembed.labelled import mixture
from synthembed.model import backbone as backbones
from synthembed.model.encoder import Encoder, Static
from synthembed.profile.settings import Profile
from synthembed.training.seed_runs import seed_folders


def subject(
    profile: Profile, model: backbones.Backbone, name: str, revision: str, static: bool = False, **about
) -> MtebEncoder:
    """A backbone as mteb sees it under a profile: pooling, lengths, way of reading queries, protocol."""
    settings = profile.evaluate
    made = Static if static else Encoder
    encoder = made(model, profile.backbone.pooling, settings.max_length, settings.batch_tokens)
    style = "none" if static else profile.train.instruction
    return MtebEncoder(encoder, name, revision, style, protocol=PROTOCOLS[settings.protocol], **about)


def evaluate(
    encoder: Encoder,
    benchmarks: Iterable[str] = ("embedded",),
    tasks: list[str] | None = None,
    style: str = "natural",
) -> list[dict]:
    """Rows of scores.json for any encoder, on benchmarks by name and, if given, ``tasks`` of them alone.

    Under the paper's protocol; ``style`` is how the model was trained to read queries (train.instruction).
    Nothing is kept: stages keep their results themselves.
    """
    subject = MtebEncoder(encoder, "synthembed/encoder", "1", style)
    with tempfile.TemporaryDirectory() as folder:
        return run_benchmarks(subject, load(list(benchmarks), tasks), Path(folder), "encoder")["rows"]


def run_system(stage, system: str, tasks: dict[str, list]) -> dict[str, list]:
    """``rows`` and ``more`` of one system of ``evaluate.systems``, and the ``folders`` that its results are kept
    in, per system and per revision of it: of a trained one a folder for each seed.

    "base", "trained", and "static" (the mean of the base's token embeddings) are ours, others peers.
    """
    profile = stage.profile
    if system == "trained":
        found = {"rows": [], "more": [], "folders": []}
        for seed, folder in seed_folders(profile, stage.of("03_train")).items():
            of_seed = _own(stage, system, tasks, folder, seed)
            found["folders"] += of_seed["folders"]
            for kind in ("rows", "more"):
                found[kind] += [row | {"seed": seed} for row in of_seed[kind]]
        return found
    if system in ("base", "static"):
        return _own(stage, system, tasks)
    scored, can = peer(system)
    name = embedded.original(places.as_written(system))  # as tables and records have it
    folder = _folder(stage, name, peers.revision(system))
    return run_benchmarks(scored, tasks, folder, name, can) | {"folders": [folder]}


def scores(scored: dict[str, dict[str, list]], fills: dict) -> dict:
    """scores.json of what ``run_system`` gave for each system: ``rows``, ``more``, what the trained model
    ``fills``, and two things that rest on single texts' scores: ``errors``, system → task → language → the
    standard error of a score (the mean over seeds), and ``intervals``, system → the distance of the trained
    model's average from it, on tasks like these and, under "on this benchmark", on these tasks alone.
    Averages are of the first benchmark."""
    found = {kind: [row for of in scored.values() for row in of[kind]] for kind in ("rows", "more")}
    errors = {system: _mean_errors([errors_of(f) for f in of["folders"]]) for system, of in scored.items()}
    return found | {"fills": fills, "errors": errors, "intervals": distances(scored)}


def _mean_errors(of_seeds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        task: {lang: round(fmean(e[task][lang] for e in of_seeds if task in e), 3) for lang in languages}
        for task, languages in of_seeds[0].items()
    }


def distances(scored: dict[str, dict[str, list]], system: str = "trained") -> dict[str, dict]:
    """Other system → the two intervals of the average's distance of ``system`` from it, on the tasks of the
    first benchmark that both can do."""
    if system not in scored:
        return {}
    rows = [row for of in scored.values() for row in of["rows"]]
    rows = [r for r in rows if r["benchmark"] == rows[0]["benchmark"]]
    tasks = {r["task"] for r in rows if r["category"] in TABLE1}
    found = {}
    for other in scored.keys() - {system}:
        with suppress(ValueError):  # no task in common
            texts = units.differences(scored[system]["folders"], scored[other]["folders"], only=tasks)
            here = intervals.interval(rows, system, other, kind=intervals.BENCHMARK, units=texts)
            found[other] = intervals.interval(rows, system, other) | {intervals.BENCHMARK: here}
    return {other: found[other] for other in scored if other in found}


def _own(stage, system: str, tasks: dict, folder: Path | None = None, seed: int = 0) -> dict[str, list]:
    """Rows of a system of ours; of a trained one, the run of a ``seed`` in ``folder``."""
    profile, about = stage.profile, stage.profile.evaluate.submission
    source = profile.backbone.model_copy(update={"dtype": dtype(profile.evaluate)})
    name, identity = f"{about.name.partition('/')[0]}/{system}", {}
    if folder:
        source = backbones.export_settings(source, folder)
        seen = {*about.training_datasets, *mixture.mteb_tasks(profile.data)}
        about = about.model_copy(update={"training_datasets": sorted(seen)})
        name = about.name + (f"-seed-{seed}" if folder != stage.of("03_train") else "")
        here = (folder / "model").relative_to(stage.run).as_posix() + "/"
        identity = {path: digest for path, digest in stage.inputs.items() if path.startswith(here)}
    release()  # the system before: two bases are never in memory at once
    model = backbones.load(source, profile.seed)
    if not folder:
        identity = {"settings": source.model_dump(mode="json"), "seed": profile.seed, **model.source}
        identity["files"] = profile.hash("backbone")  # a local base is its files, not its path
    revision = _revision(stage, identity)
    made = read_json(stage.of("03_train") / "stage.json")["started"][:10]
    described = {"about": about, "date": made, "base": profile.backbone.model}
    scored = subject(profile, model, name, revision, system == "static", **described)
    kept = _folder(stage, name, revision)
    with placed(profile.cluster, scored):
        return run_benchmarks(scored, tasks, kept, system) | {"folders": [kept]}


def _folder(stage, name: str, revision: str) -> Path:
    return stage.folder / "mteb" / "results" / name.replace("/", "__") / revision


def _revision(stage, identity: dict) -> str:
    """12 hex digits over what moves the scores of a system of ours: its weights' identity, the protocol, our
    code."""
    p = stage.profile
    read = [
        p.evaluate.max_length,
        p.evaluate.protocol,
        p.backbone.pooling,
        p.train.instruction,
        dtype(p.evaluate),
    ]
    parts = [identity, *read, stage.code]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
