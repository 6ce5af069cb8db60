"""A run beside the committed one: what is equal, what is within seeds' spread, what is not, and why."""

import json
import random
import shutil
from pathlib import Path
from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthembed.paper import reference_run
from synthembed.paper.reference_run import DIFFERENT, EQUAL, MISSING, WITHIN, Pair, compare

RECORD = {
    "status": "done", "commit": "a" * 40, "code": "one", "inputs": {}, "settings": {"train": {"max_steps": 3}},
    "versions": {"torch": "2.13"}, "machine": {"processor": "x86_64", "cores": 2},
}  # fmt: skip


def row(score: float, seed: int | None = 1, system: str = "trained", task: str = "STS12") -> dict:
    return {"system": system, "benchmark": "MTEB", "task": task, "language": "eng", "metric": "cosine_spearman",
            "score": score} | ({} if seed is None else {"seed": seed})  # fmt: skip


def run(folder: Path, rows: list[dict], losses=(2.0, 1.0), **records: dict) -> Path:
    for stage in ("03_train", "04_evaluate"):
        (folder / stage).mkdir(parents=True, exist_ok=True)
        inputs = (
            {"inputs": {"03_train/model/weights": records.pop("weights", "one")}}
            if stage == "04_evaluate"
            else {}
        )
        (folder / stage / "stage.json").write_text(json.dumps(RECORD | inputs | records.get(stage, {})))
    lines = [json.dumps({"step": n, "loss": loss}) + "\n" for n, loss in enumerate(losses, 1)]
    (folder / "03_train" / "log.jsonl").write_text("".join(lines))
    (folder / "04_evaluate" / "scores.json").write_text(json.dumps({"rows": rows}))
    return folder


@pytest.fixture
def reference(tmp_path) -> Path:
    return run(tmp_path / "results" / "small", [row(70.0), row(50.0, None, "bm25")])


def test_a_copy_is_equal_bit_for_bit(reference, tmp_path):
    own = tmp_path / "runs" / "small"
    shutil.copytree(reference, own)
    found = compare(own, reference)
    assert found.counts() == {EQUAL: 4}
    assert found.text() == "All 4 numbers of the reference came out equal, bit for bit."


def test_a_run_has_no_reference_but_another_of_its_name(reference):
    assert compare(reference, None) is None and compare(reference, reference / ".") is None


def test_what_differs_is_counted_with_its_likely_cause(reference, tmp_path):
    changed = {"machine": {"processor": "arm64", "cores": 2}, "versions": {"torch": "2.14"}}
    own = run(tmp_path / "runs" / "small", [row(69.0)], (2.0, 1.5), weights="other", **{"03_train": changed})
    found = compare(own, reference)
    assert found.counts() == {EQUAL: 1, DIFFERENT: 2, MISSING: 1}
    causes = [
        "another package version: torch 2.14, not 2.13",
        "another processor: processor arm64, not x86_64",
    ]
    assert found.causes("03_train") == found.causes("04_evaluate") == causes
    assert "No run with several seeds tells" in found.text() and "arm64, not x86_64" in found.text()
    assert [p.what[0] for p in found.apart()] == ["trained", "loss"]


def test_changed_code_and_settings_are_named(reference, tmp_path):
    changed = {"code": "two", "commit": "b" * 40, "settings": {"train": {"max_steps": 5}}}
    own = run(tmp_path / "runs" / "small", [row(69.0)], **{"04_evaluate": changed})
    assert compare(own, reference).causes("04_evaluate") == [
        "other settings: train.max_steps", "changed code: commit bbbbbbbbbb, not aaaaaaaaaa",
    ]  # fmt: skip


def test_the_spread_of_another_committed_run_is_the_tolerance(reference, tmp_path):
    run(tmp_path / "results" / "several", [row(score, n) for n, score in enumerate((60.0, 61.0, 62.0))])
    near, far = ([row(70.0 + by), row(50.5, None, "bm25")] for by in (4.0, 7.0))
    assert compare(run(tmp_path / "runs" / "small", near), reference).counts()[WITHIN] == 1
    found = compare(run(tmp_path / "runs" / "small", far), reference)
    assert found.counts() == {EQUAL: 2, DIFFERENT: 2}  # BM25 is not trained: no seed excuses it
    assert "0 within what other seeds differ by" in found.said()


def test_two_runs_of_one_recipe_are_within_the_tolerance_as_often_as_it_says():
    drawn, inside, tries = random.Random(1), 0, 4_000
    for _ in range(tries):
        known = [drawn.gauss(0, 3) for _ in range(3)]
        key = ("04_evaluate", ("trained", "MTEB", "STS12", "eng", "m", "seed 1"))
        spread = {("STS12", "eng", "m"): [(stdev(known) ** 2, 3)]}
        most = reference_run._tolerance(spread, key, None)
        inside += abs(drawn.gauss(0, 3) - drawn.gauss(0, 3)) <= most
    assert inside / tries == pytest.approx(reference_run.LEVEL, abs=0.012)


@given(st.floats(), st.floats(), st.floats(min_value=0) | st.none())
def test_every_number_has_one_outcome(reference, own, tolerance):
    pair = Pair("04_evaluate", ("x",), reference, own, tolerance)
    assert pair.outcome in (EQUAL, WITHIN, DIFFERENT)
    assert Pair("04_evaluate", ("x",), reference, reference, tolerance).outcome == EQUAL
    assert Pair("04_evaluate", ("x",), reference, None, tolerance).outcome == MISSING
