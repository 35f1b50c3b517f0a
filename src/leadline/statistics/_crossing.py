"""The point at which a mean curve crosses zero."""

import math

import numpy as np
from jaxtyping import Num
from scipy.special import stdtrit

from leadline.errors import InputError
from leadline.sounding import Interval
from leadline.statistics._checks import check_level, finite_numbers, means_per_seed
from leadline.statistics._student import FEWEST_REPLICATES


def zero_crossing(
    x: Num[np.ndarray, " points"],
    curves: Num[np.ndarray, "seeds points *rest"],
    level: float = 0.95,
) -> Interval:
    """Return the x at which the mean of rising curves crosses zero, with Fieller's interval.

    Curves are straight between their points. The interval spans every x at which Student's t
    interval of the mean over seeds contains zero: ``m(x)² <= t² s(x)² / n``, a quadratic inequality
    between two points that is solved exactly. Every seed counts, whether or not its own curve
    crosses zero. At the true crossing, zero is excluded with probability ``1 - level``, for any
    number of points, so that the interval covers it with at least ``level``.

    If the interval at the first point contains zero, the crossing may lie before it, and ``low`` is
    ``-inf``; if the interval at the last point contains zero, ``high`` is ``inf``. If the mean is
    negative at all points, the estimate is ``inf``; if it is positive at all points, the estimate
    is ``-inf``. Two seeds give the estimate without an interval (``low`` and ``high`` are NaN).

    Args:
        x: shape (points,), ascending.
        curves: shape (seeds, points, ...); axes after the second (label subsets) are averaged
            within a seed.
        level: probability of coverage, in (0, 1).

    Raises:
        InputError: there are fewer than two seeds, a value is not finite, x does not ascend, or the
            level is outside (0, 1).

    >>> x, seeds = np.array([0.0, 1.0]), np.array([[-0.2], [0.0], [0.2]])
    >>> print(f"{zero_crossing(x, seeds + [-1.0, 1.0]):.2f}")
    0.50 [0.25, 0.75]
    >>> print(f"{zero_crossing(x, seeds + [-1.0, -0.2]):.2f}")
    inf [0.63, inf]

    Reference: Fieller, *Some problems in interval estimation*, 1954.
    """
    level = check_level(level)
    x = finite_numbers(x, "x")
    rows = finite_numbers(curves, "curves")
    is_ascending = x.ndim == 1 and len(x) > 0 and bool((np.diff(x) > 0).all())
    if not is_ascending or rows.ndim < 2 or rows.shape[1] != len(x):
        raise InputError(
            "zero_crossing() needs ascending x of shape (points,) and curves of shape "
            "(seeds, points, ...)",
            got=f"x of shape {x.shape} and curves of shape {rows.shape}",
        )
    values = np.stack([means_per_seed(rows[:, i], "curves") for i in range(len(x))], axis=1)
    mean = values.mean(axis=0)
    seeds = len(values)
    if seeds < FEWEST_REPLICATES:
        return Interval(_first_zero(x, mean), math.nan, math.nan, level)
    critical = stdtrit(seeds - 1, 0.5 + level / 2)
    # Squared half-widths of the intervals on the diagonal; zero is inside if mean² is not larger.
    error = critical**2 / seeds * np.atleast_2d(np.cov(values.T))
    contains_zero = mean**2 <= error.diagonal()
    ends = [*x[contains_zero]]
    for i in range(len(x) - 1):
        # Between two points, mean² - error is a quadratic polynomial in the share of the way.
        rise = mean[i + 1] - mean[i]
        slope = error[i, i + 1] - error[i, i]
        curvature = error[i, i] + error[i + 1, i + 1] - 2 * error[i, i + 1]
        polynomial = [
            rise**2 - curvature,
            2 * (mean[i] * rise - slope),
            mean[i] ** 2 - error[i, i],
        ]
        roots = np.roots(polynomial)
        shares = roots.real[(roots.imag == 0) & (roots.real >= 0) & (roots.real <= 1)]
        ends.extend(x[i] + shares * (x[i + 1] - x[i]))
    estimate = _first_zero(x, mean)
    if math.isfinite(estimate):
        ends.append(estimate)
    low = min(ends, default=x[-1])
    high = max(ends, default=x[0])
    if contains_zero[0] or estimate == -math.inf:
        low = -math.inf
    if contains_zero[-1] or estimate == math.inf:
        high = math.inf
    return Interval(float(estimate), float(low), float(high), level)


def _first_zero(x: np.ndarray, mean: np.ndarray) -> float:
    """Return the first zero of a curve.

    Without a zero, the result is infinite, on the side where a rising curve would cross zero.
    """
    changes = np.flatnonzero(np.sign(mean[1:]) != np.sign(mean[:-1]))
    if changes.size == 0 and mean[0] == 0:
        return float(x[0])
    if changes.size == 0:
        return -math.copysign(math.inf, mean[0])
    i = changes[0]
    return float(x[i] + mean[i] / (mean[i] - mean[i + 1]) * (x[i + 1] - x[i]))
