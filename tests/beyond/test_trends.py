"""Curves through scores, and what they predict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.beyond import trends


@given(st.floats(-5, 5), st.floats(0, 60))
@settings(max_examples=25, deadline=None)
def test_a_line_in_log2_is_found_and_prolonged(slope, start):
    xs = [100, 200, 400, 800]
    scores = [[start + slope * np.log2(x) for x in xs]] * 2
    trend = trends.fit(xs, np.array(scores))
    assert trend.slope[0] == pytest.approx(slope, abs=1e-6)
    assert trend.at(1600)[0] == pytest.approx(start + slope * np.log2(1600), abs=1e-5)
    known, measured = trends.foretold(xs, np.array(scores))
    assert known[0] == pytest.approx(measured[0], abs=1e-5)


def test_a_curve_that_bends_is_seen_to_foretell_too_much():
    xs = [1, 2, 4, 8]
    known, measured = trends.foretold(xs, np.array([[10.0, 20, 30, 31], [11.0, 20, 29, 31]]))
    assert known[0] > 38 and measured == (31.0, 31.0, 31.0)


def test_intervals_hold_what_they_say():
    """Of 2,000 means of three trainings, the interval misses the truth about one time in twenty."""
    rng = np.random.default_rng(0)
    found = [trends.interval(rng.normal(50, 2, 3)) for _ in range(2000)]
    assert 0.035 < np.mean([not low <= 50 <= high for _, low, high in found]) < 0.065
    assert trends.interval([50.0]) == (50.0, None, None)


@pytest.mark.parametrize("xs", [[4, 4], [0, 4]])
def test_a_curve_wants_two_places_that_have_logarithms(xs):
    with pytest.raises(ValueError, match="two different places above 0"):
        trends.fit(xs, np.zeros((1, 2)))
