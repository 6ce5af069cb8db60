"""Any encoder, scored by one call: what ``synthembed.evaluate`` gives."""

import gc
import json
import weakref
from types import SimpleNamespace

import pytest
import synthembed
from synthembed import profile
from synthembed.evaluation import mteb_runs, protocol, scores, systems
from synthembed.evaluation.suites import embedded_tasks

TASKS = ["EmbeddedSTSGeneral", "EmbeddedEmotion"]


@pytest.mark.parametrize("style", ["natural", "none"])
def test_an_encoder_gets_the_scores_that_its_stage_would_keep(llama, tmp_path, style):
    encoder = synthembed.Encoder(llama, max_length=256)
    rows = synthembed.evaluate(encoder, tasks=TASKS, style=style)
    assert [r["task"] for r in rows] == TASKS
    for row in rows:
        assert set(row) == {"system", "benchmark", "task", "category", "language", "metric", "score"}
        assert row["benchmark"] == "embedded" and -100 <= row["score"] <= 100
    assert [r["category"] for r in rows] == ["STS", "Class."] and set(scores.averages(rows)) >= {"STS", "Avg"}
    subject = protocol.MtebEncoder(encoder, "someone/tiny", "1", style)
    kept = mteb_runs.run_tasks(subject, embedded_tasks.embedded(TASKS), tmp_path, rows[0]["system"])
    assert rows == kept


def test_a_benchmark_or_task_that_is_not_there_is_named(llama):
    with pytest.raises(ValueError, match="EmbeddedNothing"):
        synthembed.evaluate(synthembed.Encoder(llama), tasks=["EmbeddedNothing"])
    with pytest.raises(ValueError, match="no such benchmark"):
        synthembed.evaluate(synthembed.Encoder(llama), ["no such benchmark"])


class Cycle:
    def __init__(self):
        self.source, self.itself = {}, self


def test_at_most_one_base_is_in_memory_while_systems_are_scored(tmp_path, monkeypatch):
    """Each loaded once; one that only a cycle holds has gone when the next is loaded, not at some later time."""
    alive, counts = [], []

    def load(*_):
        counts.append(sum(model() is not None for model in alive))
        made = Cycle()
        alive.append(weakref.ref(made))
        return made

    (tmp_path / "03_train").mkdir()
    (tmp_path / "03_train" / "stage.json").write_text(json.dumps({"started": "2026-01-01"}))
    monkeypatch.setattr(systems.backbones, "load", load)
    monkeypatch.setattr(systems, "subject", lambda profile, model, *_, **about: model)
    monkeypatch.setattr(systems, "run_benchmarks", lambda model, *_: {"rows": [], "more": []})
    stage = SimpleNamespace(
        profile=profile.load("smoke", ["seeds=[1, 2]"]), folder=tmp_path, run=tmp_path, code="", inputs={}
    )
    stage.of = lambda name: tmp_path / name
    gc.disable()
    try:
        for system in ("base", "trained", "static"):
            systems.run_system(stage, system, {})
    finally:
        gc.enable()
    assert counts == [0, 0, 0, 0]
