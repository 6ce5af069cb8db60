"""Trainings of a tiny model placed by Ray, what they must equal, and processes killed meanwhile."""

import contextlib
import json
import os
import sys
import threading
from pathlib import Path

import psutil
import pytest
from synthembed.model import backbone as backbones
from synthembed.training import train
from tiny_training import CORPUS, tiny

SMALL = {"address": "local", "object_store_mb": 100, "workers": 4}


def python_path() -> str:
    """Where Ray's processes look for modules: where this one does."""
    return os.pathsep.join(sys.path)


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def trained(folder, base, workers: int | None, placed=SMALL, saved=lambda: None, **changes):
    """The run of so many workers of the cluster, or of this process."""
    placed = {"cluster": {**placed, "workers": workers}} if workers else {}
    chosen = tiny(**{"backbone.model": str(base), "train.epochs": 3, **placed, **changes})
    return train.train(chosen, backbones.load(chosen.backbone, chosen.seed), CORPUS, folder, saved=saved)


def assert_same(folder, model, alone) -> None:
    """Every loss to 1e-5, and every tensor to a thousandth of its length. Not every number of it: Adam moves one whose
    gradient is rounding alone as far as any other, and each processor rounds in its own order."""
    assert losses(folder) == pytest.approx(losses(alone[0]), rel=1e-5)
    there = dict(model.model.named_parameters())
    for name, weight in alone[1].model.named_parameters():
        assert (there[name] - weight).norm() <= 1e-3 * weight.norm(), name


def processes_of_ray(kind: str, of: psutil.Process | None = None) -> list[psutil.Process]:
    """Below this process, or ``of`` another."""
    found = []
    for process in (of or psutil.Process()).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [process] if kind in " ".join(process.cmdline()) else []
    return found


@contextlib.contextmanager
def killing(after: Path, pattern: str, find):
    """Kills with SIGKILL the last process that ``find`` gives, once ``after`` holds what ``pattern`` names."""
    killed, over = [], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            if any(after.glob(pattern)) and (found := find()):
                found[-1].kill()
                return killed.append(found[-1].pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()
