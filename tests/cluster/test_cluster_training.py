"""Training placed by Ray: the loss sequence of one process, and what survives of it when something dies."""

import json
from pathlib import Path

import fsspec
import pytest
from cluster_runs import SMALL, assert_same, killing, losses, processes_of_ray, trained
from fsspec.implementations.local import LocalFileSystem
from synthembed import profile
from synthembed.beyond import experiment_runs
from synthembed.evaluation import ablations
from synthembed.evaluation.large import spread
from synthembed.profile.cluster import Cluster
from synthembed.training import train
from tiny_training import CORPUS


def test_two_workers_have_the_losses_of_one_process_though_one_of_them_is_killed(
    cluster, base, alone, tmp_path
):
    """Begun by two, and by two again from what the first ones had saved."""
    with killing(
        tmp_path, "cluster/*/checkpoint_*/checkpoints/step-*", lambda: processes_of_ray("RayTrainWorker")
    ) as killed:
        model = trained(tmp_path, base, 2)
    assert killed
    assert_same(tmp_path, model, alone)
    assert not (tmp_path / "cluster").exists()


def test_four_workers_have_the_losses_of_one_process(cluster, base, alone, tmp_path):
    assert_same(tmp_path, trained(tmp_path, base, 4), alone)


def test_a_run_of_one_process_is_gone_on_with_by_one_worker_and_a_write_may_fail_once(
    cluster, base, alone, tmp_path, capfd
):
    """To the end, and nothing dies; storage by an fsspec URL, whose second checkpoint cannot be written at first."""
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


def test_workers_wait_for_the_first_while_it_scores_a_curve(cluster, tmp_path, monkeypatch):
    """Torch ended them after half an hour."""
    from synthembed.cluster import data_parallel

    def told(*_, torch_config, **rest):
        raise Stopped(f"{torch_config.timeout_s / 3600:.0f} hours")

    monkeypatch.setattr(data_parallel, "TorchTrainer", told)
    for place in ({}, {"address": "auto"}):
        with pytest.raises(Stopped, match="12 hours"):
            data_parallel.run(print, (), Cluster(**SMALL | place), "patience", tmp_path)


def test_a_grid_goes_on_where_its_worker_was_killed(cluster, base, tmp_path, one_thread):
    """Three rows, one of them done before and not repeated: scores as if run one by one, to the last digit."""
    rows = [{"id": f"row{n}", "set": {"train.temperature": t}} for n, t in enumerate((0.02, 0.1, 0.5))]
    plan = profile.Profile(
        name="x", backbone={"model": str(base)},
        train={"batch_size": 4, "max_length": 64, "max_steps": 12, "checkpoint_every": 2,
               "gradient_checkpointing": False},
        evaluate={"benchmarks": ["embedded"], "tasks": ["EmbeddedSTSGeneral"], "max_length": 64},
        ablations={"rows": rows},
    )  # fmt: skip
    expected = ablations.run(ablations.plan(plan, CORPUS, tmp_path / "alone"))
    placed = plan.model_copy(update={"cluster": Cluster(**SMALL | {"workers": 2})})
    jobs = ablations.plan(placed, CORPUS, tmp_path / "placed")
    ablations.run([job for job in ablations.plan(plan, CORPUS, tmp_path / "placed") if job.row.id == "row0"])
    before = (jobs[0].folder / "stage.json").stat().st_mtime_ns
    with killing(
        tmp_path / "placed", "row2/checkpoints/step-*", lambda: processes_of_ray("ray::_there")
    ) as killed:
        found = ablations.run(jobs)
    assert killed and found == expected
    assert (jobs[0].folder / "stage.json").stat().st_mtime_ns == before
    records = [json.loads((job.folder / "stage.json").read_text()) for job in jobs]
    assert {record["status"] for record in records} == {"done"}


def test_a_row_that_is_no_task_is_scored_by_all_workers_as_by_one_process(
    cluster, base, tmp_path, one_thread, monkeypatch
):
    """Trained by this process in either case, since two add up gradients in another order."""
    row = {"id": "default", "set": {"train.temperature": 0.1}}
    alone = profile.Profile(
        name="x", backbone={"model": str(base)},
        train={"batch_size": 4, "max_length": 64, "max_steps": 4, "gradient_checkpointing": False},
        evaluate={"benchmarks": ["embedded"], "tasks": ["EmbeddedSTSGeneral", "EmbeddedBitext"], "max_length": 64},
        ablations={"rows": [row]},
    )  # fmt: skip
    placed = alone.model_copy(update={"cluster": Cluster(**SMALL | {"workers": 2, "grid": []})})
    by, train_it, ahead = [], train.train, spread.ahead
    monkeypatch.setattr(train, "train", lambda chosen, *rest: train_it(chosen.in_process(), *rest))
    monkeypatch.setattr(
        spread, "ahead", lambda model, *rest: (by.append(len(model.pool.workers)), ahead(model, *rest))
    )
    expected, found = (
        ablations.run(ablations.plan(chosen, CORPUS, tmp_path / str(n)))
        for n, chosen in enumerate((alone, placed))
    )
    assert by == [2] and found == expected


def test_a_learning_curve_is_scored_by_the_first_worker_and_comes_back(cluster, base, tmp_path, one_thread):
    """The curve within what another order of adding up may move; the training is the one of the workers."""
    told = {"id": "steps", "question": "What does it give?", "varied": "steps", "held": "all else"}
    alone = profile.Profile(
        name="x", backbone={"model": str(base)},
        train={"batch_size": 4, "max_length": 64, "max_steps": 3, "gradient_checkpointing": False},
        evaluate={"benchmarks": ["embedded"], "tasks": ["EmbeddedSTSGeneral"], "max_length": 64},
        experiments={"questions": [told | {"rows": [{"id": "all", "scored_at": [2]}]}]},
    )  # fmt: skip
    placed = alone.model_copy(update={"cluster": Cluster(**SMALL | {"workers": 2})})
    expected, found = (
        experiment_runs.run(experiment_runs.plan(chosen, {"synthetic": CORPUS}, tmp_path / str(n)))
        for n, chosen in enumerate((alone, placed))
    )
    assert {row["system"] for row in found} == {"steps/all", "steps/all@step-2"}
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected], abs=0.5)


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

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("flaky://"))

    def _open(self, path, mode="rb", **options):
        mark = Path(path.partition("/storage/")[0]) / "storage" / "failed"
        if "w" in mode and path.endswith(".safetensors") and not mark.exists():
            mark.touch()
            raise OSError("connection reset by peer")
        return super()._open(path, mode, **options)
