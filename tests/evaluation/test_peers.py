"""A peer's scores are kept as long as nothing that makes them has changed, whatever becomes of our model."""

from pathlib import Path
from types import SimpleNamespace

import mteb
import pytest
from synthembed import profile
from synthembed.evaluation import peers, systems
from synthembed.evaluation.suites import benchmarks


def stage(folder, code: str, *settings: str):
    return SimpleNamespace(folder=folder, code=code, profile=profile.load("laptop", list(settings)))


def test_a_peer_is_not_scored_again_for_another_model_of_ours(tmp_path, monkeypatch):
    tasks = benchmarks.load(["embedded"], ["EmbeddedCommunity", "EmbeddedSTSDialogue"])
    first = systems.run_system(stage(tmp_path, "1"), "bm25", tasks)
    assert [r["task"] for r in first["rows"]] == ["EmbeddedCommunity"] and first["rows"][0]["score"] > 20
    monkeypatch.setattr(mteb, "evaluate", lambda *a, **k: pytest.fail("it was scored again"))
    later = stage(tmp_path, "2", "train.instruction=none", "backbone.pooling=mean", "train.max_steps=3")
    assert systems.run_system(later, "bm25", tasks) == first


def test_what_moves_a_peers_scores_is_in_its_revision(tmp_path, monkeypatch):
    before = peers.revision("minilm")
    assert peers.revision("minilm") == before != peers.revision("bm25")
    read = Path.read_text
    for changed, moves in (("mteb_runs.py", True), ("protocol.py", True), ("peers.py", True),
                           ("embedded_tasks.py", True), ("systems.py", False), ("train.py", False)):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(
                Path, "read_text", lambda p, name=changed, **k: read(p, **k) + "#" * (p.name == name)
            )
            assert (peers.revision("minilm") != before) is moves, changed
    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.version", lambda name: "0")
        assert peers.revision("minilm") != before
    (tmp_path / "config.json").write_text("{}")
    of_folder = peers.revision(str(tmp_path))
    (tmp_path / "config.json").write_text("{} ")
    assert peers.revision(str(tmp_path)) != of_folder
