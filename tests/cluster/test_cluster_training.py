"""Training placed by Ray: the loss sequence of one process, and what survives of it when something dies."""

import json
import os

import pytest

ray = pytest.importorskip("ray")
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"

from synthembed.cluster import session
from synthembed.model import backbone as backbones
from synthembed.profile.cluster import Cluster
from synthembed.training import train
from tiny_training import CORPUS, tiny

SMALL = {"address": "local", "object_store_mb": 100, "workers": 4}


@pytest.fixture(scope="module")
def cluster():
    """One Ray for the file, with four processes at most; it listens on loopback alone."""
    with session.joined(Cluster(**SMALL)) as connected:
        yield connected


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def trained(folder, base, workers: int | None, **changes):
    """The run of so many workers of the cluster, or of this process."""
    placed = {"cluster": {**SMALL, "workers": workers}} if workers else {}
    chosen = tiny(**{"backbone.model": str(base), "train.epochs": 1, **placed, **changes})
    return train.train(chosen, backbones.load(chosen.backbone, chosen.seed), CORPUS, folder)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_losses_are_those_of_one_process(cluster, tiny_folder, tmp_path, workers):
    alone = trained(tmp_path / "alone", tiny_folder, None)
    placed = trained(tmp_path / "placed", tiny_folder, workers)
    assert losses(tmp_path / "placed") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)
    assert not (tmp_path / "placed" / "cluster").exists()
    there = dict(placed.model.named_parameters())
    for name, weight in alone.model.named_parameters():
        assert there[name].detach().numpy() == pytest.approx(weight.detach().numpy(), abs=1e-5), name
