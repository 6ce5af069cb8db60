"""The scores of single texts: all of them give the task's main score, resampled they give an interval."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from synthembed.evaluation import intervals, mteb_runs, systems
from synthembed.evaluation.protocol import PROTOCOLS, MtebEncoder
from synthembed.evaluation.suites import embedded_tasks, units
from synthembed.model.encoder import Encoder

ONE_OF_A_KIND = [
    "EmbeddedAdvice", "EmbeddedCommunity", "EmbeddedReadingAct", "EmbeddedSTSGeneral", "EmbeddedDuplicates",
    "EmbeddedEmotion", "EmbeddedForumTitles", "EmbeddedSummaries", "EmbeddedBitext",
]  # fmt: skip


class Words(Encoder):
    """Sums of a random vector for each word: quick, and not without sense."""

    salt = 0

    def encode(self, texts, instruction="", normalize=True, progress=None):
        found = {
            w: np.random.default_rng([self.salt, *w.encode()]).normal(size=48)
            for w in set(" ".join(texts).split())
        }
        out = np.array([sum((found[w] for w in t.split()), np.zeros(48)) + 1e-3 for t in texts], np.float32)
        return out / np.linalg.norm(out, axis=1, keepdims=True) if normalize else out


def subject(llama, salt: int = 0):
    encoder = Words(llama, max_length=50)
    encoder.salt = salt
    return MtebEncoder(encoder, f"synthembed/words-{salt}", "1", protocol=PROTOCOLS["paper"])


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_all_units_once_give_the_main_score(llama, tmp_path, name):
    (task,) = embedded_tasks.embedded([name])
    rows = mteb_runs.run_tasks(subject(llama), [task], tmp_path, "x")
    record = json.loads(units.path(tmp_path, name).read_text())
    result = json.loads((tmp_path / f"{name}.json").read_text())
    scores = {s["hf_subset"]: s["main_score"] for s in result["scores"]["test"]}
    assert set(scores) == set(record["units"]["test"]) and len(rows) == len(scores)
    for subset, unit in record["units"]["test"].items():
        once = np.ones((1, units.size(record["kind"], unit)))
        assert units.rescored(record["kind"], unit, once) == pytest.approx(scores[subset], abs=2e-5)


def test_a_result_without_units_is_run_again(llama, tmp_path):
    tasks = embedded_tasks.embedded(["EmbeddedSTSGeneral"])
    first = mteb_runs.run_tasks(subject(llama), tasks, tmp_path, "x")
    assert mteb_runs.run_tasks(None, tasks, tmp_path, "x") == first
    units.path(tmp_path, "EmbeddedSTSGeneral").unlink()
    assert mteb_runs.run_tasks(subject(llama), tasks, tmp_path, "x") == first
    assert units.path(tmp_path, "EmbeddedSTSGeneral").exists()


def test_weights_are_repeats():
    """Ties, and units drawn twice or never, as scipy and scikit-learn score the drawn texts themselves."""
    rng = np.random.default_rng(0)
    gold, cosine = rng.integers(0, 5, 40), rng.integers(0, 20, 40) / 20
    drawn = rng.integers(0, 40, (5, 40))
    weights = np.stack([np.bincount(d, minlength=40) for d in drawn])
    found = units.rescored("spearman", {"gold": gold, "cosine": cosine}, weights)
    assert found == pytest.approx([spearmanr(gold[d], cosine[d]).statistic for d in drawn])
    found = units.rescored("ap", {"label": gold > 2, "similarity": {"cosine_scores": cosine}}, weights)
    assert found == pytest.approx([average_precision_score(gold[d] > 2, cosine[d]) for d in drawn])
    found = units.rescored("mean", {"values": [None, *cosine[1:]]}, weights)
    assert found == pytest.approx([cosine[d[d > 0]].mean() for d in drawn])


def test_a_stage_keeps_both_intervals_and_the_errors_of_its_scores(llama, tmp_path):
    names, scored = ["EmbeddedSTSGeneral", "EmbeddedEmotion", "EmbeddedBitext"], {}
    for system, salt in (("trained", 0), ("base", 1)):
        tasks = {"embedded": embedded_tasks.embedded(names)}
        found = mteb_runs.run_benchmarks(subject(llama, salt), tasks, tmp_path / system, system)
        scored[system] = found | {"folders": [tmp_path / system]}
    for row in scored["trained"]["rows"]:
        row["seed"] = 42
    made = systems.scores(scored, {})
    here, elsewhere = made["intervals"]["base"]["on this benchmark"], made["intervals"]["base"]
    assert here["covers"] == ["texts"] and elsewhere["covers"] == ["tasks"]
    assert here["tasks"] == 2  # bitext is no part of the average
    assert not here["significant"] and here["why"] == elsewhere["why"] == "one seed"
    row = next(r for r in made["rows"] if r["task"] == "EmbeddedEmotion" and r["system"] == "trained")
    record = json.loads(units.path(tmp_path / "trained", "EmbeddedEmotion").read_text())
    share, n = row["score"] / 100, units.size("mean", record["units"]["test"]["default"])
    error = made["errors"]["trained"]["EmbeddedEmotion"]["eng"]
    assert error == pytest.approx(
        100 * (share * (1 - share) / n) ** 0.5, rel=0.4
    )  # a mean over repeated draws
    languages = {r["language"] for r in made["rows"] if r["task"] == "EmbeddedBitext"}
    assert set(made["errors"]["base"]["EmbeddedBitext"]) == languages
    assert list(systems.scores({"base": scored["base"]}, {})["intervals"]) == []


def test_texts_give_two_systems_an_interval_on_this_benchmark(llama, tmp_path):
    names = ["EmbeddedSTSGeneral", "EmbeddedDuplicates", "EmbeddedAbstracts"]
    rows = []
    for salt in (0, 1):
        tasks = embedded_tasks.embedded(names)
        rows += mteb_runs.run_tasks(subject(llama, salt), tasks, tmp_path / str(salt), str(salt))
    drawn = units.differences([tmp_path / "0"], [tmp_path / "1"])
    assert set(drawn) == set(names[:2])  # a clustering's texts cannot be drawn
    found = intervals.interval(rows, "0", "1", kind=intervals.BENCHMARK, units=drawn)
    assert found["covers"] == ["texts"] and found["fixed"] == names[2:]
    assert found["low"] < found["delta"] < found["high"]
    same = units.differences([tmp_path / "0"], [tmp_path / "0"] * 2)
    assert all(np.allclose(x, 0) for x in same.values())
    record = units.path(tmp_path / "1", names[0])
    broken = json.loads(record.read_text())
    broken["units"]["test"]["default"]["gold"].pop()
    record.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="different texts"):
        units.differences([tmp_path / "0"], [tmp_path / "1"])
