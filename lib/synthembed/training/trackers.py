"""Where a run's numbers go besides ``log.jsonl``: TensorBoard, trackio, Weights & Biases, by profile."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

Tracker = Callable[[dict | None], None]  # takes a step's numbers; None when the run is over

PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}


class TrackerError(RuntimeError):
    """A tracker that the profile asks for cannot be used."""


def open_all(names: list[str], project: str, folder: Path) -> list[Tracker]:
    """A tracker for each of ``train.trackers``; raises TrackerError if its package is missing."""
    for name in names:
        try:
            importlib.import_module(PACKAGES[name])
        except ImportError:
            raise TrackerError(
                f"train.trackers asks for {name!r}, which is not installed: pip install {PACKAGES[name]}, "
                "or leave it out (log.jsonl is always written)"
            ) from None
    return [_tensorboard(folder) if n == "tensorboard" else _run(n, project, folder) for n in names]


def _tensorboard(folder: Path) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder / "tensorboard")

    def track(line: dict | None) -> None:
        if line is None:
            return writer.close()
        for key, value in line.items():
            if key != "step":
                writer.add_scalar(f"train/{key}", value, line["step"])

    return track


def _run(name: str, project: str, folder: Path) -> Tracker:
    """trackio has the interface of wandb."""
    package = importlib.import_module(PACKAGES[name])
    options = {"dir": str(folder)} if name == "wandb" else {}
    package.init(project="synthembed", name=project, **options)

    def track(line: dict | None) -> None:
        if line is None:
            return package.finish()
        package.log({k: v for k, v in line.items() if k != "step"}, step=line["step"])

    return track
