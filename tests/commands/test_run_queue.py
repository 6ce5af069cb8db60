"""Several runs in a queue: one that fails is named, the others are made, and machines can read what became of all."""

import json
import os
import subprocess
import sys

import pytest
from synthembed.ground.files import ROOT
from synthembed.stages import run_queue
from synthembed.stages.runner import StageFailed


def queue(tmp_path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "synthembed", "run", "--only", "00_overview", *words],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"SYNTHEMBED_RUNS": str(tmp_path / "runs")},
    )  # fmt: skip


@pytest.fixture
def profiles(tmp_path) -> list[str]:
    """Two runs that can be made, and between them one whose profile has a misspelt key."""
    lines = {"first": "seed: 1", "wrong": "train: {lerning_rate: 1.0}", "last": "seed: 3"}
    for name, line in lines.items():
        (tmp_path / f"{name}.yaml").write_text(f"extends: smoke\nname: {name}\n{line}\n", encoding="utf-8")
    return [word for name in lines for word in ("--profile", str(tmp_path / f"{name}.yaml"))]


def test_a_queue_goes_on_after_a_failure_and_its_json_is_all_there_is_on_stdout(tmp_path, profiles):
    done = queue(tmp_path, "--json", *profiles)
    first, wrong, last = json.loads(done.stdout)
    assert [o["status"] for o in (first, wrong, last)] == ["done", "failed", "done"] and done.returncode == 1
    assert "lerning_rate" in wrong["error"] and wrong["run"] is None
    for made in (first, last):
        record = json.loads((tmp_path / "runs" / made["profile"].rpartition("/")[2].removesuffix(".yaml")
                             / "00_overview" / "stage.json").read_text())  # fmt: skip
        assert record["status"] == "done" and made["stages"] == {"00_overview": record["wall_s"]}
    assert "00_overview: runs, because" in done.stderr and "lerning_rate" in done.stderr


def test_a_queue_of_ten_ends_in_a_line_for_each():
    def fails():
        raise StageFailed(
            "03_train: OutOfMemoryError: 8 GB wanted\nThe executed notebook: runs/p7/03_train.ipynb"
        )

    outcomes = [
        run_queue.outcome(f"p{n}", fails if n == 7 else lambda n=n: ROOT / "runs" / f"p{n}")
        for n in range(10)
    ]
    lines = run_queue.summary(outcomes).splitlines()
    assert len(lines) == 11 and lines[-1] == "9 of 10 runs are done; failed: p7"
    assert lines[7].startswith("failed  p7") and "OutOfMemoryError: 8 GB wanted" in lines[7]
    assert outcomes[7]["error"].endswith("03_train.ipynb"), "the whole message is kept"


def test_a_fault_of_our_own_is_no_outcome():
    with pytest.raises(ZeroDivisionError):
        run_queue.outcome("p", lambda: 1 / 0)


def test_one_folder_for_several_profiles_is_wrong_usage(tmp_path, profiles):
    done = queue(tmp_path, "--run", "mine", *profiles)
    assert done.returncode == 2 and "leave --run out" in done.stderr and not (tmp_path / "runs").exists()
