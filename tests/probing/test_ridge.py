"""The ridge probe against scikit-learn, and its refusals."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from leadline.errors import InputError
from leadline.probing import Scaling, ridge_probe

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(120, 8)) * np.logspace(0, 1, 8)
y = Z @ RNG.normal(size=(8, 2)) + 3 * RNG.normal(size=(120, 2)) + 5
STRENGTHS = (1e-3, 0.1, 10.0)


def probe(Z_train=Z[:80], y_train=y[:80], Z_test=Z[80:], y_test=y[80:], **options):
    return ridge_probe(Z_train, y_train, Z_test, y_test, **{"strengths": STRENGTHS, **options})


@pytest.mark.parametrize("labels", [6, 30])
def test_fits_and_leave_one_out_errors_equal_scikit_learn(labels):
    """There are fewer rows than features in one case, and more in the other."""
    subsets = np.stack([RNG.permutation(80)[:labels] for _ in range(3)])
    result = probe(subsets=subsets)
    scaled = Scaling.fit(Z[:80])(Z)
    for i, rows in enumerate(subsets):
        for j, strength in enumerate(STRENGTHS):
            errors = []
            for row in rows:
                others = rows[rows != row]
                model = Ridge(alpha=1 / strength).fit(scaled[others], y[others])
                errors.append((model.predict(scaled[[row]]) - y[row]) ** 2)
            assert result.own_errors[i, j] == pytest.approx(np.mean(errors))
        assert result.strengths[i] == STRENGTHS[int(result.own_errors[i].argmin())]
        model = Ridge(alpha=1 / result.strengths[i]).fit(scaled[rows], y[rows])
        np.testing.assert_allclose(result.coefficients[i], model.coef_, atol=1e-8)
        np.testing.assert_allclose(result.predict(Z[80:])[i], model.predict(scaled[80:]), atol=1e-8)
        assert result.r2[i] == pytest.approx(r2_score(y[80:], model.predict(scaled[80:])))
        assert result.errors[i] == pytest.approx(
            ((model.predict(scaled[80:]) - y[80:]) ** 2).mean()
        )


def test_ridge_probe_ignores_scale_offset_and_rotation():
    turn = np.linalg.qr(RNG.normal(size=(8, 8)))[0]
    for moved in (1000 * Z - 7, Z @ turn):
        assert probe(moved[:80], Z_test=moved[80:]).r2 == pytest.approx(probe().r2)


def test_poisoned_test_rows_do_not_change_the_fit():
    clean, poisoned = probe(), probe(Z_test=Z[80:] + 1e6)
    assert np.array_equal(clean.coefficients, poisoned.coefficients)
    assert np.array_equal(clean.own_errors, poisoned.own_errors)
    assert clean.r2[0] > 0.5 > poisoned.r2[0]


def test_a_large_offset_does_not_reduce_precision():
    moved = probe(Z[:80] + 1e9, y[:80] + 1e9, Z[80:] + 1e9, y[80:] + 1e9)
    assert moved.r2 == pytest.approx(probe().r2, abs=1e-4)


def test_wide_rows_equal_scikit_learn():
    wide = RNG.normal(size=(30, 5000))
    found = ridge_probe(wide[:20], y[:20], wide[20:], y[20:30], strengths=0.1)
    scaled = found.scaling(wide)
    oracle = Ridge(alpha=10).fit(scaled[:20], y[:20])
    np.testing.assert_allclose(found.predict(wide[20:])[0], oracle.predict(scaled[20:]), atol=1e-8)


def test_the_verdict_contains_the_explained_variance():
    found = probe()
    assert f"explains {100 * found.r2[0]:.1f} % of the variance" in str(found)


def test_noise_explains_nothing():
    noise = RNG.normal(size=(120, 8))
    assert probe(noise[:80], Z_test=noise[80:], strengths=np.logspace(-4, 4, 52)).r2[0] < 0.1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"y_train": np.ones(80)}, "y_train is 1 in all 80 rows"),
        ({"y_train": y[:79]}, "79 in y_train for 80 rows"),
        ({"y_train": np.full(80, np.nan)}, r"y_train\[0, 0\] = nan"),
        ({"y_test": y[80:, :1]}, "y_train has 2 targets, y_test has 1"),
        ({"subsets": [[0, 80]]}, "up to 80 with 80 rows"),
        ({"subsets": [0, 1]}, r"subsets of shape \(2,\)"),
        ({"strengths": 0.0}, "strengths\\[0\\] must be a finite number above 0"),
        ({"y_test": y[80:].astype(str)}, "must hold real numbers|y_test"),
        (
            {"y_test": np.where(np.arange(40)[:, None] == 3, np.nan, y[80:])},
            r"y_test\[3, 0\] = nan",
        ),
        ({"y_train": np.ma.masked_greater(y[:80], 8)}, r"y_train\[\d+, \d\] = nan"),
        ({"subsets": "all"}, "subsets"),
    ],
)
def test_ridge_probe_refuses_invalid_arguments(changes, text):
    with pytest.raises(InputError, match=text):
        probe(**changes)
