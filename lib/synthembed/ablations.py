"""Ablations as data (Table 5): each row is a set of overrides, a complete training and evaluation."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

from . import backbone as backbones
from . import evaluate, labelled, paper, train
from .examples import Example
from .profile import Ablation, Profile, ProfileError
from .provenance import write_json
from .scores import averages

SECTIONS = ("seed", "data", "backbone", "lora", "train", "evaluate")


def check(profile: Profile) -> None:
    """Raises ProfileError if a row fills an artefact or a row of it that the paper does not have."""
    for row in profile.ablations.rows:
        for artefact, name in row.fills.items():
            if artefact not in paper.TITLES:
                raise ProfileError(
                    f"ablation {row.id!r} fills {artefact!r}, which is none of {', '.join(paper.TITLES)}"
                )
            if name not in (known := paper.systems(artefact)):
                raise ProfileError(
                    f"ablation {row.id!r} fills row {name!r} of {artefact}, which has: {'; '.join(known)}"
                )


def run(profile: Profile, corpus: list[Example], folder: Path, code: str = "") -> list[dict]:
    """Rows for scores.json of every ablation of the profile; ``corpus`` is the synthetic data, which each
    row's ``data.setting`` mixes with labelled sets.

    A row that was finished with the same settings, corpus and ``code`` is read, not run.
    """
    check(profile)
    rows = []
    for number, row in enumerate(profile.ablations.rows, 1):
        print(f"ablation {number}/{len(profile.ablations.rows)}: {row.id}", flush=True)
        settings = profile.with_overrides(profile.ablations.set | row.set)
        mixed = labelled.mixture(settings, corpus)
        rows += one(row, settings, mixed.examples, folder / row.id, code)
        mixed.write(folder / row.id)
    return rows


def one(row: Ablation, profile: Profile, corpus: list[Example], folder: Path, code: str) -> list[dict]:
    """Train and evaluate one ablation in ``folder``; its stage.json says what it was made from."""
    made_from = _key(profile, corpus, code)
    record_path = folder / "stage.json"
    record = json.loads(record_path.read_text(encoding="utf-8")) if record_path.exists() else {}
    if record.get("key") != made_from:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(record_path, {"key": made_from, "status": "running"})
    elif record["status"] == "done" and (folder / "log.jsonl").exists():
        print(f"  finished before: {averages(record['rows'])['Avg']:.1f}")
        return record["rows"]
    started = time.time()
    base = backbones.load(profile.backbone, profile.seed)
    model = backbones.merge_lora(train.train(profile, base, corpus, folder, code))
    subject = evaluate.subject(profile, model, f"synthembed/{row.id}", made_from)
    tasks = evaluate.tasks_of(profile.evaluate)
    rows = evaluate.run_benchmarks(subject, tasks, folder / "mteb", row.id)["rows"]
    write_json(
        record_path,
        {
            "key": made_from,
            "status": "done",
            "id": row.id,
            "settings": profile.model_dump(mode="json", include=set(SECTIONS)),
            "wall_s": round(time.time() - started, 1),
            "rows": rows,
        },
    )
    return rows


def _key(profile: Profile, corpus: list[Example], code: str) -> str:
    trained = train.run_key(profile, corpus, code)
    return hashlib.sha256(f"{profile.hash(*SECTIONS)}/{trained}".encode()).hexdigest()[:16]
