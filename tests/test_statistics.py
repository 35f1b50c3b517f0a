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
)

finite = st.floats(-1e3, 1e3).map(lambda v: round(v, 6))


@given(npst.arrays(float, st.integers(2, 30), elements=finite), st.sampled_from([0.8, 0.95, SIMULTANEOUS_LEVEL]))
def test_interval_is_scipys(values, level):
    ours = paired_interval(values, level)
    if values.std() == 0:
        assert ours.low == ours.high == values.mean()
        return
    theirs = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-9)
    assert ours.estimate == pytest.approx(values.mean())


@pytest.mark.parametrize(("between", "within"), [(1.0, 0.1), (1.0, 1.0), (0.1, 1.0), (0.0, 1.0)])
def test_nested_interval_covers_as_it_says(between, within):
    """12 seeds, 10 label subsets in each: 95 % means 95 %, whichever variance dominates."""
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
    together = [all(i.low <= 0 <= i.high for i in (paired_interval(d, SIMULTANEOUS_LEVEL) for d in e)) for e in draws]
    assert 0.94 <= np.mean(together) <= 0.975


def test_smallest_detectable_effect_is_detected_four_times_in_five():
    rng = np.random.default_rng(22)
    spread = rng.standard_normal(12)
    spread = (spread - spread.mean()) / spread.std(ddof=1)
    detectable = smallest_detectable_effect(spread, SIMULTANEOUS_LEVEL)
    draws = detectable + rng.standard_normal((4000, 12))
    found = np.mean([paired_interval(d, SIMULTANEOUS_LEVEL).low > 0 for d in draws])
    assert found == pytest.approx(0.8, abs=0.025)


def test_equivalence_is_rarely_claimed_at_the_margin():
    """A true difference on the margin is called equivalent in at most half of what the interval leaves out."""
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


@given(npst.arrays(int, (3, 9), elements=st.integers(0, 5)), npst.arrays(int, (3, 9), elements=st.integers(0, 5)))
def test_kendall_tau_is_scipys_with_ties(x, y):
    theirs = [stats.kendalltau(a, b)[0] for a, b in zip(x, y, strict=True)]
    assert kendall_tau(x, y) == pytest.approx(theirs, nan_ok=True)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([1.0]), "at least two seeds"),
        (np.array(1.0), "at least two seeds"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), r"differences\[1, 1\] = nan"),
    ],
)
def test_refuses_what_has_no_interval(values, text):
    with pytest.raises(InputError, match=text):
        paired_interval(values)
