"""What paragraphs say follows from the numbers that they are made from."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthembed.evaluation.intervals import wilson
from synthembed.profile.taxonomy import PAPER_COUNTS
from synthembed.report.seen import data


def usage(replies: int, failures: dict, unusable: dict, silent: int) -> dict:
    model = {"replies": replies, "replies_without_usage": silent}
    return {"models": {"m": model}, "failures": failures, "unusable": unusable}


def test_replies_that_are_missing_or_unusable_are_named():
    fine = data.replies(usage(100, {}, {}, 100), 100)
    assert "nothing is missing" in fine and "Every one" in fine and "100 replies report no tokens" in fine
    bad = data.replies(usage(90, {"timeout": 10}, {"not JSON": 9}, 0), 100)
    assert "10 have none (timeout 10)" in bad and "9 replies (10.0%)" in bad and "report no tokens" not in bad


def test_a_run_without_any_reply_is_described():
    assert "0 of 5" in data.replies(usage(0, {"timeout": 5}, {}, 0), 5)


def test_the_most_frequent_reason_is_named():
    outcome = {"kept": 980, "dropped": 20, "reasons": {"refusal phrase": 5, "near-duplicate": 15}}
    said = data.funnel(outcome)
    assert '(15) for "near-duplicate"' in said and "one in a hundred" not in said
    assert "one in a hundred" in data.funnel({"kept": 999, "dropped": 1, "reasons": {"near-duplicate": 1}})
    assert "no filter found" in data.funnel({"kept": 5, "dropped": 0, "reasons": {}})


@given(st.integers(50, 5_000), st.sampled_from(sorted(PAPER_COUNTS)), st.floats(-20, 20))
def test_a_family_that_is_off_is_told_from_chance(n, family, off):
    total = sum(PAPER_COUNTS.values())
    shares = {f: 100 * c / total for f, c in PAPER_COUNTS.items()}
    shares[family] += off
    weight = PAPER_COUNTS[family] / total
    allowed = 2.64 * 100 * (weight * (1 - weight) / n) ** 0.5
    said = data.shares({"examples": n, "families": shares})
    assert ("agree with the paper" in said) is (abs(off) <= allowed + 1e-9)


@given(st.integers(0, 32), st.integers(0, 32))
def test_two_models_are_told_apart_only_if_their_intervals_are(before, after):
    rows = [{"among": 32, "before": 100 * before / 32, "after": 100 * after / 32}]
    said = data.in_batch(rows, 32, unseen=True)
    (low, high), (least, most) = wilson(100 * before / 32, 32), wilson(100 * after / 32, 32)
    apart = least > high or low > most
    assert ("do not overlap" in said) is apart
    assert not apart or ("better" in said) is (after > before)
    assert ("not told from a guess" in said) is (low <= 100 / 32)
    assert "in no batch of the training" in said


def log(losses: list[float]) -> list[dict]:
    return [{"loss": x, "accuracy": 0.5, "gradient_norm": 1.0} for x in losses]


def test_training_is_described_with_its_noise():
    steady = data.training(log([6.0] * 5 + [3.0] * 10 + [1.0, 1.1, 0.9, 1.0, 1.0]), 32, True, 0.5)
    assert "6.00" in steady and "1.00" in steady and "1.6%" in steady and "more than noise" not in steady
    assert "no memory" in steady
    noisy = data.training(log([2.0] * 15 + [1.0, 3.0, 0.5, 3.5, 2.0]), 32, False, 2.0)
    assert "not clearly more than noise" in noisy and "seen 2.0 times" in noisy and "3.1%" in noisy
    assert "too few steps" in data.training(log([3.0, 1.0]), 8, False, 0.1)


@pytest.mark.parametrize(("last", "word"), [(1.0, "fell"), (7.0, "did not fall")])
def test_a_loss_that_did_not_fall_is_not_said_to_have(last, word):
    history = [{"loss": 5.0, "accuracy": 0.1}, {"loss": last, "accuracy": 0.9}]
    assert f"the loss {word}:" in data.tiny_training(history, 8)


def test_contamination_that_gives_answers_away_is_called_so():
    types = {"low-entropy": {"exact": 7, "near": 0}, "question": {"exact": 0, "near": 0}}
    overlap = {"types": types, "evaluation": {"texts": 100}}
    assert "nothing that was found gives an answer away" in data.contamination(overlap).replace("\n", " ")
    types["question"]["near"] = 2
    assert re.search(r"2 of these could give an answer away", data.contamination(overlap))
    assert "None is among" in data.contamination({"types": {}, "evaluation": {"texts": 3}})
