"""The systems that are evaluated: ours, as mteb sees them, beside peers (Sec. 4.2)."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from synthembed.evaluation import peers
from synthembed.evaluation.mteb_runs import run_benchmarks
from synthembed.evaluation.peers import peer
from synthembed.evaluation.protocol import PROTOCOLS, MtebEncoder
from synthembed.evaluation.suites.benchmarks import load
from synthembed.ground import embedded, places
from synthembed.ground.files import read_json
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


def run_system(stage, system: str, tasks: dict[str, list]) -> dict[str, list[dict]]:
    """Rows of one system of ``evaluate.systems``; results are kept per system and per revision of it.

    "base", "trained", and "static" (the mean of the base's token embeddings) are ours, others peers.
    """
    profile = stage.profile
    if system == "trained":
        found = {"rows": [], "more": []}
        for seed, folder in seed_folders(profile, stage.of("03_train")).items():
            of_seed = _own(stage, system, tasks, folder, seed)
            for kind in found:
                found[kind] += [row | {"seed": seed} for row in of_seed[kind]]
        return found
    if system in ("base", "static"):
        return _own(stage, system, tasks)
    scored, can = peer(system)
    name = embedded.original(places.as_written(system))  # as tables and records have it
    return run_benchmarks(scored, tasks, _folder(stage, name, peers.revision(system)), name, can)


def _own(stage, system: str, tasks: dict, folder: Path | None = None, seed: int = 0) -> dict[str, list[dict]]:
    """Rows of a system of ours; of a trained one, the run of a ``seed`` in ``folder``."""
    profile, about = stage.profile, stage.profile.evaluate.submission
    name, source, identity = f"{about.name.partition('/')[0]}/{system}", profile.backbone, {}
    if folder:
        source = backbones.export_settings(source, folder)
        seen = {*about.training_datasets, *mixture.mteb_tasks(profile.data)}
        about = about.model_copy(update={"training_datasets": sorted(seen)})
        name = about.name + (f"-seed-{seed}" if folder != stage.of("03_train") else "")
        here = (folder / "model").relative_to(stage.folder.parent).as_posix() + "/"
        identity = {path: digest for path, digest in stage.inputs.items() if path.startswith(here)}
    model = backbones.load(source, profile.seed)
    if not folder:
        identity = {"settings": source.model_dump(mode="json"), "seed": profile.seed, **model.source}
        identity["files"] = profile.hash("backbone")  # a local base is its files, not its path
    revision = _revision(stage, identity)
    made = read_json(stage.of("03_train") / "stage.json")["started"][:10]
    described = {"about": about, "date": made, "base": profile.backbone.model}
    scored = subject(profile, model, name, revision, system == "static", **described)
    return run_benchmarks(scored, tasks, _folder(stage, name, revision), system)


def _folder(stage, name: str, revision: str) -> Path:
    return stage.folder / "mteb" / "results" / name.replace("/", "__") / revision


def _revision(stage, identity: dict) -> str:
    """12 hex digits over what moves the scores of a system of ours: its weights' identity, the protocol, our
    code."""
    p = stage.profile
    read = [p.evaluate.max_length, p.evaluate.protocol, p.backbone.pooling, p.train.instruction]
    parts = [identity, *read, stage.code]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
