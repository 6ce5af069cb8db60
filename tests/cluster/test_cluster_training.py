"""Training placed by Ray: the loss sequence of one process, and what survives of it when something dies."""

import sys
from pathlib import Path

import fsspec
import pytest
from cluster_runs import SMALL, assert_same, killing, losses, trained, workers_of_ray
from fsspec.implementations.local import LocalFileSystem
from synthembed.training import train


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_losses_are_those_of_one_process(cluster, base, alone, tmp_path, workers):
    assert_same(tmp_path, trained(tmp_path, base, workers), alone)
    assert not (tmp_path / "cluster").exists()


def test_a_worker_that_is_killed_costs_no_number(cluster, base, alone, tmp_path):
    with killing(tmp_path, "cluster/*/checkpoint_*/checkpoints/step-*", workers_of_ray) as killed:
        model = trained(tmp_path, base, 2)
    assert killed
    assert_same(tmp_path, model, alone)


def test_a_run_of_one_process_is_gone_on_with_and_a_write_may_fail_once(
    cluster, base, alone, tmp_path, capfd
):
    """Storage by an fsspec URL, whose second checkpoint cannot be written at first."""
    cluster.cloudpickle.register_pickle_by_value(sys.modules[Flaky.__module__])
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    begun = tmp_path / "begun"
    with pytest.raises(Stopped):
        trained(begun, base, None, saved=stop_at_the_second())
    assert len(losses(begun)) == 4
    model = trained(begun, base, 1, placed=SMALL | {"storage": f"flaky://{tmp_path}/storage"})
    assert (tmp_path / "storage" / "failed").exists()
    assert_same(begun, model, alone)
    assert not list((tmp_path / "storage").glob("train-*"))
    assert "resuming after step 4" in capfd.readouterr().out


def test_what_would_fail_again_is_not_tried_again(cluster, base, tmp_path):
    with pytest.raises(train.TrainingError, match=r"step \d+: the loss is"):
        trained(tmp_path, base, 1, **{"train.learning_rate": 1e30})


class Stopped(Exception):
    pass


def stop_at_the_second():
    calls = []

    def saved() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise Stopped

    return saved


class Flaky(LocalFileSystem):
    """The local disk, which refuses the first checkpoint that is written to it."""

    protocol = "flaky"

    def _open(self, path, mode="rb", **options):
        mark = Path(path.partition("/storage/")[0]) / "storage" / "failed"
        if "w" in mode and path.endswith(".safetensors") and not mark.exists():
            mark.touch()
            raise OSError("connection reset by peer")
        return super()._open(path, mode, **options)
