"""The benchmarks of more than one process at tiny size: every side runs, the sides agree, and rows come out."""

from dataclasses import replace

import pytest
from benchmark_rows import KEYS
from synthembed.ground.files import ROOT
from synthembed.model import backbone
from synthembed.profile.settings import Backbone


def test_what_a_second_worker_gives_and_what_ray_costs(cluster, base, monkeypatch):
    """Within the file's cluster, which is larger than theirs."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import scale_encode, scale_train, train
    from benchmarks.__main__ import line

    load = backbone.load
    monkeypatch.setattr(backbone, "load", lambda settings, *_: load(Backbone(model=str(base))))
    size = replace(train.TINY, max_length=400, chunk_tokens=1_024)  # a byte is a token here
    trained = scale_train.run(size, rounds=1, steps=2)
    encoded = scale_encode.run(Backbone(model=str(base)), texts=16, rounds=1, shards=20)
    assert [row["name"] for row in (*trained, *encoded)] == [
        "scale/train", "scale/train-overhead", "scale/encode", "scale/encode-overhead", "scale/encode-memory"
    ]  # fmt: skip
    for row in (*trained, *encoded):
        assert row.keys() == KEYS and row["ours"] >= 0 and row["name"] in line(row)
    assert all(row["ratio"] > 0 for row in (*trained, *encoded[:2]))
    assert all("losses agree to" in row["check"] for row in trained)
    assert all("vectors agree to" in row["check"] for row in encoded[:2])
    assert "of 20 blocks" in encoded[2]["check"]


def test_a_measurement_of_nothing_is_shown_as_such(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.__main__ import line

    row = {"name": "scale/encode-memory", "ours": 0.0, "peer": None, "unit": "MB", "check": "flat"}
    assert line(row) == "scale/encode-memory: 0.00 MB, no peer; check: flat"


def test_who_dies_is_drawn_and_differences_are_named(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import random

    from benchmarks import kills

    plans = [kills.Killer(None, None, random.Random(f"0/{n}"), {}).planned() for n in range(40)]
    assert {kind for plan in plans for kind, _ in plan} == {"worker", "node"}
    assert {stage for plan in plans for _, stage in plan} == set(kills.PLACED)
    assert all(first[1] <= second[1] and first[0] != second[0] for first, second in plans)

    def scored(score: float, category: str = "STS") -> dict:
        row = {"system": "base", "task": "T", "category": category, "score": score}
        return {"04_evaluate": {"rows": [row], "more": []}}

    assert kills.differences(scored(1.001), scored(1.001)) == ([], [])
    said = ["04_evaluate: base T 1.002, alone 1.001"]
    assert kills.differences(scored(1.002), scored(1.001)) == (said, [])
    assert kills.differences(scored(1.002, "Class."), scored(1.001, "Class.")) == ([], said)
    wrong, rounded = kills.differences(scored(2.0, "Class."), scored(1.0, "Class."))
    assert len(wrong) == 1 and not rounded
    with pytest.raises(ValueError):
        kills.differences({"04_evaluate": {"rows": [], "more": []}}, scored(1.0))
