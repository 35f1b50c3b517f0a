"""Intervals agree with SciPy, and simulations confirm their coverage."""

from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from leadline.errors import InputError
from leadline.statistics import (
    SIMULTANEOUS_LEVEL,
    effect,
    kendall_tau,
    paired_interval,
    smallest_detectable_effect,
    zero_crossing,
)

finite = st.floats(-1e3, 1e3).map(lambda v: round(v, 6))


@given(
    npst.arrays(float, st.integers(3, 30), elements=finite),
    st.sampled_from([0.8, 0.95, SIMULTANEOUS_LEVEL]),
)
def test_paired_interval_equals_scipy(values, level):
    ours = paired_interval(values, level)
    if np.ptp(values) == 0:
        assert ours.low == ours.high == values.mean()
        return
    theirs = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-9)
    assert ours.estimate == pytest.approx(values.mean())


@pytest.mark.parametrize(("between", "within"), [(1.0, 0.1), (1.0, 1.0), (0.1, 1.0), (0.0, 1.0)])
def test_intervals_of_nested_differences_cover_at_their_level(between, within):
    """With 12 seeds of 10 label subsets, 95 % intervals cover 95 % for any ratio of variances."""
    rng = np.random.default_rng(20)
    experiments, seeds, subsets, truth = 5000, 12, 10, 0.7
    seed_effects = truth + between * rng.standard_normal((experiments, seeds, 1))
    differences = seed_effects + within * rng.standard_normal((experiments, seeds, subsets))
    intervals = [paired_interval(experiment) for experiment in differences]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert 0.94 <= covered <= 0.96


def test_simultaneous_intervals_cover_together():
    rng = np.random.default_rng(21)
    draws = rng.standard_normal((1500, 20, 12))
    together = [
        all(i.low <= 0 <= i.high for i in (paired_interval(d, SIMULTANEOUS_LEVEL) for d in e))
        for e in draws
    ]
    assert 0.94 <= np.mean(together) <= 0.975


def test_smallest_detectable_effect_is_detected_with_its_power():
    rng = np.random.default_rng(22)
    spread = rng.standard_normal(12)
    spread = (spread - spread.mean()) / spread.std(ddof=1)
    detectable = smallest_detectable_effect(spread, SIMULTANEOUS_LEVEL)
    draws = detectable + rng.standard_normal((4000, 12))
    found = np.mean([paired_interval(d, SIMULTANEOUS_LEVEL).low > 0 for d in draws])
    assert found == pytest.approx(0.8, abs=0.025)


def test_equivalence_is_rarely_claimed_at_the_margin():
    """A true difference on the margin is called equivalent in at most 2.5 % of the cases."""
    rng = np.random.default_rng(23)
    draws = 0.05 + 0.01 * rng.standard_normal((4000, 12))
    claimed = np.mean([paired_interval(d).within(-0.05, 0.05) is True for d in draws])
    assert claimed <= 0.025 + 0.008


def test_effect_widens_with_the_number_of_comparisons():
    values = np.array([1.0, 2.0, 4.0, 3.0])
    one, three = effect(values, "gain", "points"), effect(values, "gain", "points", comparisons=3)
    assert one.interval == three.interval
    assert one.simultaneous.level == pytest.approx(1 - 0.05 / 20)
    assert three.simultaneous.low < one.simultaneous.low < one.interval.low
    assert three.detectable > one.detectable


@given(
    npst.arrays(int, (3, 9), elements=st.integers(0, 5)),
    npst.arrays(int, (3, 9), elements=st.integers(0, 5)),
)
def test_kendall_tau_equals_scipy_with_ties(x, y):
    theirs = [stats.kendalltau(a, b)[0] for a, b in zip(x, y, strict=True)]
    assert kendall_tau(x, y) == pytest.approx(theirs, nan_ok=True)


@given(
    st.integers(0, 10**6), st.integers(3, 8), st.integers(1, 5), st.sampled_from([0.05, 0.5, 3.0])
)
def test_zero_crossing_spans_the_points_whose_interval_contains_zero(seed, seeds, points, spread):
    """The expected interval applies Student's t to straight curves on a fine grid."""
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.5, 2, points))
    curves = rng.normal(size=points) + spread * rng.normal(size=(seeds, points))
    grid = np.unique(np.r_[np.linspace(x[0], x[-1], 400), x])
    on_grid = np.array([[np.interp(u, x, curve) for curve in curves] for u in grid])
    holds = np.array(
        [interval.low <= 0 <= interval.high for interval in map(paired_interval, on_grid)]
    )
    found, near = zero_crossing(x, curves), 1.01 * np.diff(grid, prepend=x[0]).max() + 1e-9
    assert found.low <= found.estimate <= found.high
    assert (found.low == -np.inf) == bool(holds[0] or (on_grid.mean(axis=1) > 0).all())
    assert (found.high == np.inf) == bool(holds[-1] or (on_grid.mean(axis=1) < 0).all())
    assert (found.low <= grid[holds]).all()
    assert (grid[holds] <= found.high).all()
    inside = [u for u in (found.low, found.high) if x[0] < u < x[-1]]
    assert all(
        np.abs(grid[holds] - u).min(initial=np.inf) <= near or found.estimate == u for u in inside
    )


@pytest.mark.parametrize("points", [2, 6])
@pytest.mark.parametrize("slope", [4.0, 1.0, 0.3])
def test_zero_crossing_covers_at_its_level_for_flat_curves(points, slope):
    """Flat curves leave the interval open; no seed is dropped, and at least 95 % are covered."""
    rng = np.random.default_rng(24)
    x = np.linspace(0, 1, points)
    level = rng.normal(size=(2000, 12, 1)) + 0.7 * rng.normal(size=(2000, 12, points))
    found = [zero_crossing(x, slope * (x - 0.4) + curves) for curves in level]
    covered = np.mean([interval.low <= 0.4 <= interval.high for interval in found])
    assert covered >= 0.935
    assert covered <= 0.965 or points > 2
    is_open = np.mean([np.isinf(interval.low) or np.isinf(interval.high) for interval in found])
    assert (is_open < 0.05) if slope == 4.0 else (is_open > 0.3)


def test_zero_crossing_outside_the_points_is_infinite():
    spread = np.array([-0.1, 0.0, 0.1])[:, None]
    x = np.array([1.0, 2.0])
    above, below = (
        zero_crossing(x, spread + np.array(curve)) for curve in ([2.0, 3.0], [-3.0, -2.0])
    )
    assert (above.estimate, above.low, above.high) == (-np.inf, -np.inf, 1.0)
    assert (below.estimate, below.low, below.high) == (np.inf, 2.0, np.inf)
    assert zero_crossing(x[:1], spread + 5.0).high == 1.0
    exact = zero_crossing(x, np.array([[-1.0, 1.0]] * 3))
    assert (exact.low, exact.estimate, exact.high) == (1.5, 1.5, 1.5)


def test_kendall_tau_uses_only_the_selected_pairs():
    x, y = np.array([1, 2, 3, 4]), np.array([1, 2, 4, 3])
    first_two = np.array([0, 0, 1, 1])
    same = first_two[:, None] == first_two
    assert kendall_tau(x, y, among=same) == 0  # One pair agrees, and the other does not.
    assert kendall_tau(x, y, among=~same) == 1
    assert kendall_tau(x, y, among=np.ones((4, 4), bool)) == kendall_tau(x, y)


@given(
    npst.arrays(float, st.integers(3, 9), elements=st.floats(0, 100)),
    st.sampled_from([0.5, 0.95, 0.9975]),
)
def test_bounds_only_cut_the_interval(values, level):
    plain = paired_interval(values, level)
    cut = paired_interval(values, level, bounds=(0, 100))
    assert 0 <= cut.low <= cut.estimate <= cut.high <= 100
    assert cut.low == pytest.approx(max(plain.low, 0), abs=1e-9)
    assert cut.high == pytest.approx(min(plain.high, 100), abs=1e-9)


def test_two_seeds_give_an_estimate_without_an_interval():
    interval = paired_interval(np.array([85.0, 90.0]), bounds=(0, 100))
    assert interval.estimate == 87.5
    assert not interval.is_known
    assert (interval.above(0), interval.below(100), interval.within(0, 100)) == (None, None, None)
    assert f"{interval:.1f}" == "87.5"
    found = effect(np.array([1.0, 2.0]), "gain", "points")
    assert str(found) == "gain: 1.5 points (no interval: 2 seeds)"
    assert found.detectable == np.inf
    crossing = zero_crossing(np.array([0.0, 1.0]), np.array([[-1.0, 1.0], [-1.0, 1.0]]))
    assert crossing.estimate == 0.5
    assert not crossing.is_known


BAD = [
    (
        lambda: paired_interval(np.arange(3.0), 95),
        "level must be a finite number above 0 and below 1\n.*level = 95",
    ),
    (lambda: paired_interval(np.arange(3.0), 0), "level = 0"),
    (lambda: smallest_detectable_effect(np.arange(3.0), power=80), "power = 80"),
    (lambda: zero_crossing(np.arange(2.0), np.ones((3, 2)), 95), "level = 95"),
    (
        lambda: paired_interval(np.array([0.5, 0.6, 101.0]), bounds=(0, 100)),
        r"differences\[2\] = 101",
    ),
    (lambda: paired_interval(np.arange(3.0), bounds=(1, 0)), r"bounds = \(1, 0\)"),
    (lambda: effect(np.arange(3.0), "gain", comparisons=0), "comparisons"),
    (lambda: kendall_tau(np.arange(3), np.arange(4)), r"x of shape \(3,\) and y of shape \(4,\)"),
    (lambda: kendall_tau(np.arange(3), np.arange(12).reshape(4, 3)), "one shape"),
    (lambda: kendall_tau(np.arange(1), np.arange(1)), "n of at least 2"),
    (lambda: kendall_tau(np.array([1.0, np.nan]), np.arange(2)), r"x\[1\] = nan"),
    (lambda: kendall_tau(np.arange(3), np.arange(3), among=np.ones((2, 2), bool)), "among must be"),
    (lambda: zero_crossing(np.array([1.0, 0.0]), np.ones((3, 2))), "ascending x"),
    (lambda: zero_crossing(np.arange(3.0), np.ones((3, 2))), r"curves of shape \(3, 2\)"),
]


@pytest.fixture
def as_users_run() -> Iterator[None]:
    """Disable the run-time checks of shapes, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(("make", "text"), BAD)
def test_invalid_settings_and_shapes_raise_an_error(make, text):
    with pytest.raises(InputError, match=text):
        make()


def test_masked_cells_count_as_missing():
    masked = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False])
    with pytest.raises(InputError, match=r"differences\[1\] = nan"):
        paired_interval(masked)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([1.0]), "at least two seeds"),
        (np.array(1.0), "at least two seeds"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), r"differences\[1, 1\] = nan"),
    ],
)
def test_values_without_an_interval_raise_an_error(values, text):
    with pytest.raises(InputError, match=text):
        paired_interval(values)
