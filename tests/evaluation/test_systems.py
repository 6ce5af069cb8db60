"""Any encoder, scored by one call: what ``synthembed.evaluate`` gives."""

import pytest
import synthembed
from synthembed.evaluation import mteb_runs, protocol, scores
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
