"""A curve through scores, and what it predicts: a line in the logarithm of what is varied.

Few points bear no more than two parameters; a line in log2 says what each doubling gives. Whether it may be
believed is tried on what is known: the curve of all points but the largest predicts the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from synthembed.evaluation.intervals import LEVEL


@dataclass(frozen=True)
class Trend:
    """score = intercept + slope log2(x), fitted for each training seed: both (seeds,)."""

    intercepts: np.ndarray
    slopes: np.ndarray

    @property
    def slope(self) -> tuple[float, float | None, float | None]:
        """Points a doubling gives, with the ends of its 95 % interval over seeds; None with one seed."""
        return interval(self.slopes)

    def at(self, x: float) -> tuple[float, float | None, float | None]:
        """The score that the curve predicts at ``x``, with its interval over seeds."""
        return interval(self.intercepts + self.slopes * np.log2(x))


def fit(xs: list[float], scores: np.ndarray) -> Trend:
    """Least squares in log2(x); ``scores`` (seeds, points). Raises ValueError for fewer than two different xs, or
    one that has no logarithm."""
    if len(set(xs)) < 2 or min(xs) <= 0:
        raise ValueError(f"a curve wants two different places above 0 at least, got {xs}")
    slopes, intercepts = np.polyfit(np.log2(xs), np.atleast_2d(scores).T, 1)
    return Trend(intercepts, slopes)


def foretold(xs: list[float], scores: np.ndarray) -> tuple[tuple, tuple] | None:
    """What the curve of all points but the largest predicts for the largest, and what was measured, each with its
    interval; None with fewer than three points."""
    scores = np.atleast_2d(scores)
    if len(set(xs)) < 3:
        return None
    order = np.argsort(xs)
    *rest, last = order.tolist()
    return fit([xs[n] for n in rest], scores[:, rest]).at(xs[last]), interval(scores[:, last])


def interval(values) -> tuple[float, float | None, float | None]:
    """The mean of values, one for each seed, with the ends of its 95 % interval by Student's t; None with one."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None, None
    half = float(stdtrit(len(values) - 1, 0.5 + LEVEL / 2) * values.std(ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half
