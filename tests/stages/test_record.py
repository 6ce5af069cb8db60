"""A stage and its record: what it lacks is named, what was paid for survives."""

import pytest
from synthembed.stages.record import MissingInput, Stage


def test_a_notebook_says_what_is_missing(tmp_path):
    with pytest.raises(
        MissingInput, match=r"03_train needs .*examples\.jsonl.*synthembed run --only 02_analyze"
    ):
        Stage.open("03_train", "smoke", results=str(tmp_path))


def test_batches_survive_a_restart_of_the_stage(tmp_path):
    stage = Stage.open("01_generate", "smoke", "generate.backend=batch", results=str(tmp_path))
    (stage.folder / "batches").mkdir()
    (stage.folder / "batches" / "state.json").write_text("[]")
    (stage.folder / "replies.jsonl").write_text("")
    (stage.folder / "requests.jsonl").write_text("")
    again = Stage.open("01_generate", "smoke", "generate.backend=batch", results=str(tmp_path))
    assert (again.folder / "batches" / "state.json").exists() and (again.folder / "replies.jsonl").exists()
    assert not (again.folder / "requests.jsonl").exists()
