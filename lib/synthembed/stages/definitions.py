"""The stages, in order: what each reads, which sections of a profile matter to it, and what it may keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synthembed.profile.settings import Profile


@dataclass(frozen=True)
class Spec:
    """A stage: what it reads (files or globs of earlier stages) and which profile sections matter.

    ``keep`` are files that a stage which is made again goes on with: what was paid for, or is checked by
    a key of its own. ``scratch`` are files that are no artefacts and may be deleted at any time. What
    was trained under other settings (run_folders.OTHERS) is kept, and nobody's input or output.
    """

    inputs: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()


STAGES: dict[str, Spec] = {
    "00_overview": Spec(sections=tuple(Profile.model_fields)),
    "01_generate": Spec(
        (), ("seed", "generate"), keep=("replies.jsonl", "ledger/*", "batches/*"),
        scratch=("ledger/*", "batches/*"),
    ),
    "02_analyze": Spec(
        ("01_generate/items.jsonl", "01_generate/replies.jsonl"), ("generate", "analyze", "data")
    ),
    "03_train": Spec(
        ("02_analyze/examples.jsonl",), ("seed", "seeds", "data", "backbone", "lora", "pretrain", "train"),
        keep=("**/checkpoints/*", "**/log.jsonl", "**/run.json", "**/model/**/*", "**/adapter/*"),
        scratch=("**/checkpoints/*",),
    ),
    "04_evaluate": Spec(
        ("03_train/**/model/*",), ("seed", "seeds", "data", "backbone", "train", "evaluate"),
        keep=("mteb/**/*.json",),
    ),
    "05_ablations": Spec(
        ("02_analyze/examples.jsonl",),
        ("seed", "seeds", "data", "backbone", "lora", "pretrain", "train", "evaluate", "ablations"),
        keep=("rows/**/*",), scratch=("rows/**/checkpoints/*",),
    ),
    "06_long_context": Spec(("03_train/model/*",), ("seed", "backbone", "evaluate", "long_context")),
    "07_report": Spec(
        (
            "02_analyze/statistics.json", "03_train/log.jsonl", "04_evaluate/scores.json",
            "05_ablations/scores.json", "06_long_context/scores.json",
        )
    ),
    "08_beyond": Spec(
        ("01_generate/replies.jsonl", "02_analyze/examples.jsonl", "03_train/model/*"),
        ("seed", "seeds", "analyze", "data", "backbone", "lora", "pretrain", "train", "evaluate", "experiments"),
        keep=("rows/**/*",), scratch=("rows/**/checkpoints/*",),
    ),
}  # fmt: skip
BEYOND, ITS_INPUTS = "08_beyond", ("01_generate", "02_analyze", "03_train")


def stages_of(profile: Profile) -> list[str]:
    """The stages that a profile has: 08 if it lists experiments, and if it is for them alone, what they read."""
    if profile.experiments.alone:
        return [*ITS_INPUTS, BEYOND]
    return [stage for stage in STAGES if stage != BEYOND or profile.experiments.questions]


def stages_in(run: Path) -> list[str]:
    """The stages that a run's folder must have to be complete, by what is in it."""
    if not (run / BEYOND).exists():
        return [stage for stage in STAGES if stage != BEYOND]
    return list(STAGES) if (run / "04_evaluate").exists() else [*ITS_INPUTS, BEYOND]
