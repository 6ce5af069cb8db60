"""One training per seed: where it lies, what is kept, and what a changed list of seeds runs again."""

import json

import numpy as np
import pytest
import torch
from synthembed import profile
from synthembed.ground import run_folders
from synthembed.labelled.mixture import Mixture
from synthembed.model import backbone as backbones
from synthembed.model.encoder import Encoder
from synthembed.profile.reading import ProfileError
from synthembed.training import seed_runs
from synthembed.training.seed_runs import seed_folders
from tiny_training import CORPUS, tiny

MIXED = Mixture(CORPUS, {"setting": "synthetic", "examples": len(CORPUS), "sets": {}})


@pytest.fixture
def settings(tiny_folder):
    def make(seeds: list[int], **changes) -> profile.Profile:
        short = {"seed": 0, "train.max_steps": 2, "backbone.model": str(tiny_folder), "backbone.layers": 1}
        return tiny(**short | changes).model_copy(update={"seeds": seeds})

    return make


def make_all(plan, folder, code="") -> list[int]:
    """Seeds that were trained now."""
    listed = seed_runs.plan(plan, CORPUS, folder, code)
    unfinished = [r.profile.seed for r in listed if not r.finished]
    seed_runs.train_all(listed, MIXED, code)
    return unfinished


def test_seeds_default_to_the_one_seed_and_the_main_one_is_first():
    assert profile.Profile(name="x", seed=3).training_seeds == [3]
    assert profile.Profile(name="x", seed=3, seeds=[1, 3, 2]).training_seeds == [3, 1, 2]
    assert profile.Profile(name="x", seed=9, seeds=[1, 2]).training_seeds == [1, 2]
    assert [p.seed for p in profile.Profile(name="x", seed=3, seeds=[1, 3]).for_seeds()] == [3, 1]


def test_an_override_of_the_seed_is_not_overruled_by_the_list():
    several = profile.Profile(name="x", seeds=[1, 2])
    assert several.with_overrides({"seed": 5}).training_seeds == [5]
    assert several.with_overrides({"seeds": [7, 8]}).training_seeds == [7, 8]
    assert several.with_overrides({"lora.rank": 8}).training_seeds == [1, 2]


def test_a_seed_is_listed_once():
    with pytest.raises(ProfileError, match=r"seeds.*every seed once"):
        profile.load("laptop", "seeds=[1,1]")


def test_each_seed_is_a_model_of_its_own_in_its_own_place(settings, tmp_path):
    plan = settings([0, 1])
    assert make_all(plan, tmp_path) == [0, 1]
    weights = [tmp_path / "model" / "model.safetensors", *tmp_path.glob("[ac]*/*.safetensors")]
    rights = {path.stat().st_mode & 0o777 for path in weights}
    assert len(weights) == 3 and rights == {(tmp_path / "run.json").stat().st_mode & 0o777}, (
        "weights are read by whom the rest is"
    )
    assert (tmp_path / "model" / "modules.json").exists() and (tmp_path / "adapter").exists()
    assert (tmp_path / "seeds" / "1" / "model" / "modules.json").exists()
    vectors = [
        Encoder(backbones.load(backbones.export_settings(plan.backbone, place))).encode(["a text"])
        for place in seed_folders(plan, tmp_path).values()
    ]
    assert not np.allclose(*vectors, atol=1e-4)


def test_a_changed_list_of_seeds_runs_only_what_is_missing(settings, tmp_path):
    assert make_all(settings([0]), tmp_path) == [0]
    assert make_all(settings([0, 1]), tmp_path) == [1]
    assert make_all(settings([2, 1, 0]), tmp_path) == [2]
    assert make_all(settings([0, 2]), tmp_path) == []
    assert not (tmp_path / "seeds" / "1").exists()  # no longer listed: stage 04 must not find it


def test_other_settings_and_other_code_run_again(settings, tmp_path):
    make_all(settings([0, 1]), tmp_path)
    seed_runs.plan(settings([0, 1], **{"train.learning_rate": 0.5}), CORPUS, tmp_path)
    assert not (tmp_path / "model").exists() and not (tmp_path / "seeds" / "1" / "model").exists()
    assert make_all(settings([0]), tmp_path, code="changed") == [0]


def weights(folder) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_training_of_other_settings_is_set_aside_and_comes_back(settings, tmp_path):
    """Also where a seed has moved from its own folder to that of the main one."""
    make_all(settings([0, 1]), tmp_path)
    first, second = weights(tmp_path), weights(tmp_path / "seeds" / "1")
    other = settings([0], **{"train.learning_rate": 0.5})
    assert make_all(other, tmp_path) == [0] and weights(tmp_path) != first
    assert len(list((tmp_path / "other_settings").iterdir())) == 2 and not (tmp_path / "seeds" / "1").exists()
    assert make_all(settings([0, 1]), tmp_path) == []
    assert weights(tmp_path) == first and weights(tmp_path / "seeds" / "1") == second
    assert make_all(settings([1], seed=1), tmp_path) == [] and weights(tmp_path) == second
    assert make_all(other, tmp_path) == []


def test_an_interrupted_training_of_other_settings_goes_on_where_it_was(
    settings, tmp_path, monkeypatch, capsys
):
    steps = {"train.max_steps": 4, "train.checkpoint_every": 2}
    plan = settings([0], **steps)
    save = seed_runs.checkpoints.save

    def stopped(*given):
        save(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(seed_runs.checkpoints, "save", stopped)
        make_all(plan, tmp_path)
    make_all(settings([0], **{"train.learning_rate": 0.5}), tmp_path)
    capsys.readouterr()
    assert make_all(plan, tmp_path) == [0] and "resuming after step 2" in capsys.readouterr().out


def test_no_more_of_other_settings_is_kept_than_is_said(tmp_path, capsys):
    for number in range(run_folders.OTHERS_KEPT + 2):
        (tmp_path / "model").write_text(str(number))
        run_folders.set_aside(tmp_path, f"key{number}", ["model"], tmp_path)
    kept = sorted(p.name for p in (tmp_path / "other_settings").iterdir())
    assert kept == [f"key{n}" for n in range(2, run_folders.OTHERS_KEPT + 2)]
    assert capsys.readouterr().out.count("removed, the oldest") == 2


@pytest.mark.parametrize("name", ["model/model.safetensors", "log.jsonl"])
def test_a_damaged_run_is_not_taken_for_a_finished_one(settings, tmp_path, name):
    make_all(settings([0]), tmp_path)
    before = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert make_all(settings([0]), tmp_path) == [0]


def test_a_finished_run_is_read_as_it_was_trained(settings, tmp_path):
    plan = seed_runs.plan(settings([0]), CORPUS, tmp_path)
    made, read = (seed_runs.train_all(plan, MIXED) for _ in range(2))
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 2
    first, again = made.model.state_dict(), read.model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
