"""Averages over seeds, and intervals of differences: exact pairing, coverage, and what cannot be judged."""

import random
from statistics import fmean, stdev

import numpy as np
import pytest
from synthembed.evaluation import intervals, scores

TASKS = {"STS12": "STS", "SICK": "STS", "Quora": "Retr.", "NQ": "Retr.", "Dup": "PairClass.", "Summ": "Summ."}


def rows(system: str, values: dict, language: str = "eng") -> list[dict]:
    """``values``: (task, seed) → score."""
    return [
        {"system": system, "benchmark": "b", "task": task, "category": TASKS[task], "language": language,
         "metric": "m", "score": score} | ({} if seed is None else {"seed": seed})
        for (task, seed), score in values.items()
    ]  # fmt: skip


def drawn(system: str, shift: float = 0.0, seeds=(1, 2), noise: int = 0) -> list[dict]:
    draw = random.Random(noise)
    return rows(system, {(t, s): 50 + shift + draw.gauss(0, 3) for t in TASKS for s in seeds})


def deviations(found: list[dict]) -> dict[str, float]:
    """Sample standard deviation (n - 1) over seeds of each column of ``averages``, in points.

    A column with fewer than two seeds has none.
    """
    by_seed = scores.averages_by_seed(found).values()
    columns = {c: [values[c] for values in by_seed if c in values] for values in by_seed for c in values}
    return {column: stdev(values) for column, values in columns.items() if len(values) > 1}


def test_averages_are_means_over_seeds_of_each_seeds_averages():
    found = rows("a", {("STS12", 1): 10.0, ("SICK", 1): 30.0, ("NQ", 1): 80.0, ("STS12", 2): 50.0,
                       ("SICK", 2): 50.0, ("NQ", 2): 20.0})  # fmt: skip
    assert scores.averages(found) == {"STS": 35.0, "Retr.": 50.0, "Avg": 40.0}
    assert deviations(found)["STS"] == pytest.approx(stdev([20, 50]))
    assert deviations(found)["Avg"] == pytest.approx(0.0)
    assert scores.averages_by_seed(found)[2]["Avg"] == 40.0


def test_a_seed_with_more_languages_weighs_no_more():
    """Mixed together, the task's mean would be (10 + 10 + 40) / 3."""
    found = rows("a", {("STS12", 1): 10.0}) + rows("a", {("STS12", 1): 10.0}, "deu")
    assert scores.averages(found + rows("a", {("STS12", 2): 40.0}))["STS"] == 25.0


def test_one_seed_has_no_deviation():
    assert deviations(drawn("a", seeds=(1,))) == {} == deviations(drawn("a", seeds=(None,)))


def test_identical_systems_differ_by_nothing():
    found = intervals.interval(drawn("a") + drawn("b"), "a", "b")
    assert (found["delta"], found["low"], found["high"], found["within_noise"]) == (0, 0, 0, True)


def test_a_constant_shift_on_the_same_pairs_has_no_width():
    """Scores vary by points between tasks and seeds; only exact pairing takes all of it away."""
    found = intervals.interval(drawn("a", shift=1.5) + drawn("b"), "a", "b")
    assert found["low"] == pytest.approx(1.5) == found["high"] and not found["within_noise"]


def test_the_delta_is_the_difference_of_the_averages():
    both = drawn("a", noise=1) + drawn("b", noise=2)
    means = scores.by_system(both)
    found = intervals.interval(both, "a", "b")
    assert found["delta"] == pytest.approx(means["a"]["Avg"] - means["b"]["Avg"], abs=1e-4)
    assert found["low"] < found["delta"] < found["high"]
    assert (found["tasks"], found["seeds"], found["unit"]) == (6, 2, "task and seed")


def test_the_order_of_rows_changes_nothing():
    both = drawn("a", noise=1) + drawn("b", noise=2) + rows("a", {("NQ", 1): 3.1}, "deu")
    expected = intervals.interval(both, "a", "b")
    for seed in range(3):
        random.Random(seed).shuffle(both)
        assert intervals.interval(both, "a", "b") == expected


def test_bitext_and_tasks_of_one_side_take_no_part():
    both = drawn("a", noise=1) + drawn("b", noise=2)
    extra = [r | {"task": "BUCC", "category": "Bitext", "score": 99.0} for r in both[:1]]
    extra += [r | {"task": "Only", "score": 0.0} for r in both[:1]]
    assert intervals.interval(both + extra, "a", "b") == intervals.interval(both, "a", "b")


def test_common_seeds_are_paired_and_without_two_each_training_has_its_own_spread():
    first, other = drawn("a", seeds=(1, 2, 3), noise=1), drawn("b", seeds=(2, 3, 4), noise=2)
    assert intervals.interval(first + other, "a", "b")["seeds"] == 2
    apart = intervals.interval(first + drawn("b", seeds=(7, 8), noise=2), "a", "b")
    assert (apart["seeds"], apart["unit"]) == (2, "task and seed")
    means = scores.by_system(first + drawn("b", seeds=(7, 8), noise=2))
    assert apart["delta"] == pytest.approx(means["a"]["Avg"] - means["b"]["Avg"], abs=1e-4)


def test_with_one_seed_two_trainings_are_never_told_apart():
    for seeds in ((1,), (2,), (1, 2, 3)):
        found = intervals.interval(drawn("a", 30, seeds) + drawn("b", seeds=(1,)), "a", "b")
        assert (found["significant"], found["why"], found["within_noise"]) == (False, "one seed", True)
        assert found["low"] > 0 and found["seeds"] == 1 and "training" not in found["covers"]


def test_models_that_are_not_trained_here_need_no_seeds():
    fixed = drawn("base", seeds=(None,), noise=1) + drawn("peer", 30, seeds=(None,), noise=2)
    found = intervals.interval(fixed, "peer", "base")
    assert found["significant"] and not found["within_noise"] and found["covers"] == ["tasks"]
    once = intervals.interval(fixed + drawn("a", 30, seeds=(1,)), "a", "base")
    assert not once["significant"] and once["why"] == "one seed"  # whatever it is set against
    assert once["low"] > 0 and once["covers"] == ["tasks"] and once["trainings"] == 1
    often = intervals.interval(fixed + drawn("a", 30, seeds=(1, 2, 3)), "a", "base")
    assert often["significant"] and often["covers"] == ["tasks", "training"] and often["seeds"] == 3


def test_on_this_benchmark_tasks_are_fixed():
    """Tasks that differ by much, seeds by little: sure here, and unsure elsewhere."""
    one = rows("a", {(t, s): 50 + 30 * (n % 2) + 0.1 * s for n, t in enumerate(TASKS) for s in (1, 2, 3)})
    other = rows("b", {(t, s): 60 + 0.2 * s for t in TASKS for s in (1, 2, 3)})
    here, elsewhere = (
        intervals.interval(one + other, "a", "b", kind=k) for k in (intervals.BENCHMARK, intervals.TASKS)
    )
    assert here["significant"] and not elsewhere["significant"] and here["covers"] == ["training"]
    error = 0.1 / 3**0.5  # of the mean over seeds
    assert here["high"] - here["low"] == pytest.approx(2 * 4.303 * error, rel=0.05)
    fixed = [r | {"seed": None} for r in one + other if r["seed"] == 1]
    silent = intervals.interval(fixed, "a", "b", kind=intervals.BENCHMARK)
    assert silent["low"] is None and silent["why"] == "no texts' scores" and silent["within_noise"]
    units = {t: np.random.default_rng(n).normal(0, 1, 5000) for n, t in enumerate(TASKS)}
    texts = intervals.interval(fixed, "a", "b", kind=intervals.BENCHMARK, units=units)
    assert texts["significant"] and texts["covers"] == ["texts"] and texts["unit"] == "text"
    assert texts["high"] - texts["low"] == pytest.approx(2 * 1.96 / 6**0.5, rel=0.05)


def test_a_single_pair_cannot_be_judged():
    found = intervals.interval(rows("a", {("NQ", 1): 60.0}) + rows("b", {("NQ", 1): 50.0}), "a", "b")
    assert found["delta"] == 10 and found["low"] is None and found["within_noise"] is True


def test_nothing_in_common_is_an_error():
    with pytest.raises(ValueError, match="'a' and 'b' have no task in common"):
        intervals.interval(rows("a", {("NQ", 1): 1.0}) + rows("b", {("SICK", 1): 1.0}), "a", "b")


def test_no_stratum_is_a_single_task():
    """A category of one task would never vary: eight tasks of seven kinds would look certain."""
    assert intervals.strata_of(["STS", "STS", "Retr.", "Summ."]) == [[0, 1], [2, 3]]
    assert intervals.strata_of(["STS", "STS", "Retr.", "Retr.", "Retr.", "Summ."]) == [[2, 3, 4], [0, 1, 5]]
    assert intervals.strata_of(["Summ."]) == [[0]]


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_intervals_hold_the_true_difference_about_as_often_as_they_say(seeds, noise):
    """Eight tasks; a difference has a part of its task, of its seed where there are several, and of both.
    ``here`` and ``elsewhere``: is the truth that of these tasks, or of all tasks like them?"""
    rng, strata, runs, here, elsewhere = np.random.default_rng(1), [[0, 1], [2, 3], [4, 5, 6, 7]], 500, 0, 0
    for _ in range(runs):
        of_tasks = 1.0 + rng.normal(0, 2, (8, 1))
        values = of_tasks + rng.normal(0, 1, (8, seeds))
        training = []
        if seeds > 1:
            values += rng.normal(0, noise, (1, seeds))
            error, freedom = intervals._error(values)
            training = [(rng.normal(0, error, 1000), freedom)]
        means = values.mean(1)
        drawn = intervals.resampled(means, strata, 1000, rng) - means.mean()
        low, high = means.mean() + intervals.ends([(drawn, 5), *training])
        elsewhere += low <= 1.0 <= high
        if training:
            low, high = means.mean() + intervals.ends(training)
            here += low <= of_tasks.mean() <= high
    assert elsewhere / runs >= 0.90
    assert elsewhere / runs < 0.99 or seeds == 2
    assert seeds == 1 or 0.92 < here / runs < 0.98


def test_the_spread_of_resampled_means_is_the_standard_error():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 6)
    drawn_means = intervals.resampled(values, [list(range(6))], 40_000, rng)
    assert drawn_means.std() == pytest.approx(values.std(ddof=1) / 6**0.5, rel=0.02)
    assert fmean(drawn_means) == pytest.approx(values.mean(), abs=0.02)
