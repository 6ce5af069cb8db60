"""The model that an adaptation starts from: one that tells texts apart already.

A language model that was never trained to embed learns that from a few hundred synthetic examples of anything
(Sec. 3.1), but not from thirty of one subject. So it is trained first on recorded examples of many subjects and
languages, once for all folders of documents; what a reader's own documents add is measured from there.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from synthembed import profile as profiles
from synthembed.corpus import evaluation_texts, example_files, filters
from synthembed.corpus.example import Drops, Example
from synthembed.generation import two_steps
from synthembed.ground import run_folders
from synthembed.ground.files import shown
from synthembed.model import adapter, export
from synthembed.model import backbone as backbones
from synthembed.profile.settings import Profile
from synthembed.training import train

RECORDED = "laptop"  # the profile whose replies are recorded, and whose training this is, shorter
FAMILY = "short-long"  # a question and a text that answers it, as reader and documents are
CARD = "{base}, trained on {count} synthetic examples: what `synthembed adapt` starts from.\n"


def prepared(profile: Profile, count: int, say: Callable = print) -> tuple[Profile, int]:
    """The profile with a start model that was trained on ``count`` recorded examples, which is made here the first
    time, and how many they are; as it is, and 0, if its model embeds already or ``count`` is 0."""
    if not count:
        return profile, 0
    recorded = profiles.load(RECORDED, ["generate.backend=recorded"])
    wanted = recorded.model_copy(update={
        "backbone": profile.backbone, "lora": profile.lora, "seed": profile.seed, "cluster": profile.cluster,
        "train": recorded.train.model_copy(update={"epochs": 1, "max_steps": None, "workers": profile.train.workers}),
    })  # fmt: skip
    folder = run_folders.own() / "adapt" / ".start" / _key(wanted, count)
    if not _made(folder) and not _make(folder, wanted, count, say):
        return profile, 0
    changes = {"model": str(folder / "model"), "layers": None, "revision": None}
    changed = profile.model_copy(update={"backbone": profile.backbone.model_copy(update=changes)})
    return changed, len(example_files.read(folder / "examples.jsonl"))


def _made(folder: Path) -> bool:
    return (folder / "model" / "README.md").exists()  # which is written last


def _make(folder: Path, profile: Profile, count: int, say: Callable) -> bool:
    """Whether the base is a bare language model, and so the start model is there now."""
    base = backbones.load(profile.backbone, profile.seed)
    if base.recipe.pooling is not None:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if _made(folder):  # by another process, meanwhile
            return True
        found = examples(profile, folder, count)
        say(f"first {len(found)} recorded examples in many languages, once for all folders: {shown(folder)}")
        model = adapter.merge_lora(train.train(profile, base, found, folder / "training"))
        card = CARD.format(base=profile.backbone.model, count=len(found))
        export.export(model, folder / "model", profile.backbone.pooling, profile.train.instruction, card)
        shutil.rmtree(folder / "training")
    return True


def examples(recorded: Profile, folder: Path, count: int) -> list[Example]:
    """``count`` of the recorded examples of one family that pass every filter, drawn by the seed; examples.jsonl."""
    two_steps.generate(recorded, folder)
    items, drops = two_steps.read_items(folder), Drops()
    written = (
        e for e in example_files.from_replies(folder / "replies.jsonl", items, drops) if e.family == FAMILY
    )
    kept = list(filters.filtered(written, recorded.analyze, drops, items, evaluation_texts.suite_texts()))
    random.Random(recorded.seed).shuffle(kept)
    example_files.write(folder / "examples.jsonl", kept[:count])
    return kept[:count]


def _key(profile: Profile, count: int) -> str:
    """What the start model depends on, but for this library's code."""
    settings = {
        name: getattr(profile, name).model_dump(mode="json")
        for name in ("generate", "analyze", "backbone", "lora", "train")
    }
    return hashlib.sha256(json.dumps([settings, profile.seed, count], sort_keys=True).encode()).hexdigest()[
        :12
    ]
