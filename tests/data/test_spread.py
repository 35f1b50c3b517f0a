"""Means and spreads of columns agree with exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from leadline.autoencoders._estimator import column_spreads
from leadline.data import compact_features
from leadline.data._spread import means_and_spreads
from leadline.probing import Scaling, linear_probe
from leadline.probing.encoding._principal_components import principal_components

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("offset", [0.0, -0.1, 1.7e9, 1e12 + 0.1, -1e13])
def test_the_mean_and_the_spread_equal_those_of_exact_fractions(offset: float):
    column = offset + RNG.integers(0, 3, 3000)
    mean, spread = means_and_spreads(column[:, None])
    exact = [Fraction(value) for value in column.tolist()]
    exact_mean = sum(exact) / len(exact)
    exact_variance = sum((value - exact_mean) ** 2 for value in exact) / len(exact)
    assert mean[0] == pytest.approx(float(exact_mean), rel=1e-15)
    assert spread[0] == pytest.approx(float(exact_variance) ** 0.5, rel=1e-9)


@pytest.mark.parametrize("constant", [0.1, -1e12 - 0.1, 1e13 + 1 / 3, 1e300])
def test_a_constant_column_has_an_exact_mean_and_zero_spread(constant: float):
    mean, spread = means_and_spreads(np.full((3000, 1), constant))
    assert mean[0] == constant
    assert spread[0] == 0


def test_a_constant_column_does_not_change_the_scale_of_other_columns():
    small = 1e-3 * RNG.normal(size=(400, 2))
    y = (small.sum(axis=1) > 0).astype(int)
    rows = np.c_[np.full(400, 1.7e12), small]
    zeros = np.c_[np.zeros(400), small]
    assert Scaling.fit(rows).scale == pytest.approx(Scaling.fit(zeros).scale, rel=1e-12)
    found = linear_probe(rows[:200], y[:200], rows[200:], y[200:])
    assert found.accuracy == linear_probe(zeros[:200], y[:200], zeros[200:], y[200:]).accuracy


def test_small_differences_on_a_large_offset_are_kept():
    differences = RNG.integers(0, 2, (200, 1)).astype(float)
    assert (compact_features(1e12 + differences) - 1e12 == differences).all()
    assert column_spreads(1e12 + differences, "column") == pytest.approx(
        differences.std(), rel=1e-9
    )


def test_a_constant_column_that_float32_would_change_stays_in_float64():
    assert compact_features(np.full((3, 1), 1e12 + 0.1)).dtype == np.float64
    assert compact_features(np.full((3, 1), 0.1)).dtype == np.float32


def test_the_first_component_is_not_a_constant_column():
    column = 1e-3 * RNG.normal(size=30_000)
    rows = np.c_[np.full(30_000, 1e13 + 1 / 3), column]
    codes = principal_components(rows, 1)(rows)[:, 0]
    assert abs(codes) == pytest.approx(abs(column - column.mean()), abs=1e-9)
