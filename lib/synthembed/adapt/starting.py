"""The model that an adaptation starts from: one that tells texts apart already.

A language model that was never trained to embed learns that from a few hundred synthetic examples of anything
(Sec. 3.1), but not from thirty of one subject. So it is trained first on recorded examples of many subjects and
languages, once for all folders of documents; what a reader's own documents add is measured from there.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from synthembed import profile as profiles
from synthembed.corpus import evaluation_texts, example_files, filters
from synthembed.corpus.example import Drops, Example
from synthembed.generation import two_steps
from synthembed.ground import places, run_folders
from synthembed.ground.files import shown
from synthembed.ground.weights.embedded import folder_of
from synthembed.ground.weights.saved_models import recipe_of
from synthembed.model import adapter, export
from synthembed.model import backbone as backbones
from synthembed.profile.settings import Profile
from synthembed.training import train

RECORDED = "laptop"  # the profile whose replies are recorded, and whose training this is, shorter
FAMILY = "short-long"  # a question and a text that answers it, as reader and documents are
DEPENDS_ON = (
    "generate",
    "analyze",
    "backbone",
    "lora",
    "train",
    "seed",
)  # a start model, but for this library's code
# One of which tells a folder of weights from others.
OF_A_MODEL = ("config.json", "modules.json", "adapter_config.json")
CARD = "{base}, trained on {count} synthetic examples: what `synthembed adapt` starts from.\n"


def start_of(profile: Profile, start: str) -> Profile:
    """The profile with another start model: the trained one of a run of yours, a folder, or hub:owner/name."""
    if not start:
        return profile
    if "/" not in start and ":" not in start and not (Path(start) / "config.json").is_file():
        model = run_folders.find(start) / "03_train" / "model"
        if not model.exists():
            raise FileNotFoundError(
                f"the run {start!r} has no model here (weights are not committed): make reproduce PROFILE={start}"
            )
        start = str(model)
    found = Path(start := places.resolve(start))
    if found.is_dir() and not any((found / name).is_file() for name in OF_A_MODEL):
        inside = f": name its model, {shown(found / 'model')}" if (found / "model").is_dir() else ""
        raise FileNotFoundError(f"{shown(found)} has no config.json, and so no model{inside}")
    changes = {"model": start, "layers": None, "revision": None}
    return profile.model_copy(update={"backbone": profile.backbone.model_copy(update=changes)})


def prepared(profile: Profile, count: int, say: Callable = print) -> tuple[Profile, int]:
    """The profile with a start model that was trained on ``count`` recorded examples, which is made here the first
    time, and how many they are; as it is, and 0, if its model embeds already or ``count`` is 0. What of a model that
    embeds cannot be read as it says is said."""
    if refusal := _refusal(profile):
        say(
            f"{profile.backbone.model} is not read as it says: {refusal}. Before the training it is worse here than it is, and what it "
            "knows of embedding may be lost: choose a start model that pools by its last token or by a mean, such as --start "
            "embedded:me5-small-4bit"
        )
    if not count:
        return profile, 0
    recorded = profiles.load(RECORDED, ["generate.backend=recorded"])
    wanted = recorded.model_copy(update={
        "backbone": profile.backbone, "lora": profile.lora, "seed": profile.seed, "cluster": profile.cluster,
        "train": recorded.train.model_copy(update={"epochs": 1, "max_steps": None, "workers": profile.train.workers}),
    })  # fmt: skip
    folder = run_folders.own() / "adapt" / ".start" / f"{wanted.hash(*DEPENDS_ON)}-{count}"
    if not _made(folder) and not _make(folder, wanted, count, say):
        return profile, 0
    changes = {"model": str(folder / "model"), "layers": None, "revision": None}
    changed = profile.model_copy(update={"backbone": profile.backbone.model_copy(update=changes)})
    return changed, len(example_files.read(folder / "examples.jsonl"))


def _refusal(profile: Profile) -> str:
    try:
        return recipe_of(folder_of(profile.backbone.model), profile.backbone.revision).refusal
    except (OSError, ValueError):
        return ""  # a model that is not there: backbone.load says what to do


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
