"""The linear probe against scikit-learn, and its refusals."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from leadline.errors import InputError
from leadline.probing import Scaling, linear_probe
from leadline.probing.probes._linear import STRENGTHS, LogisticSettings, fit_probes
from leadline.probing.probes._logistic import fit_logistic

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 10))
y = np.arange(200) % 4
Z = CENTRES[y] + RNG.normal(size=(200, 10))


def probe(Z_train=Z[:100], y_train=y[:100], Z_test=Z[100:], y_test=y[100:], **options):
    return linear_probe(Z_train, y_train, Z_test, y_test, **options)


def test_linear_probe_equals_scikit_learn_on_scaled_features():
    ours = probe(strengths=1.0, dtype=np.float64, tolerance=1e-9)
    scaling = Scaling.fit(Z[:100])
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(scaling(Z[:100]), y[:100])
    np.testing.assert_allclose(ours.coefficients, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(
        ours.probabilities(Z[100:]), theirs.predict_proba(scaling(Z[100:])), atol=1e-5
    )
    assert (
        ours.accuracy
        == theirs.score(scaling(Z[100:]), y[100:])
        == (ours.predict(Z[100:]) == y[100:]).mean()
    )


def test_linear_probe_ignores_scale_offset_and_rotation():
    plain = probe(dtype=np.float64, tolerance=1e-8)
    turn = np.linalg.qr(RNG.normal(size=(10, 10)))[0]
    for moved in (1000 * Z - 7, Z @ turn):
        other = probe(moved[:100], Z_test=moved[100:], dtype=np.float64, tolerance=1e-8)
        np.testing.assert_allclose(
            other.probabilities(moved[100:]), plain.probabilities(Z[100:]), atol=1e-4
        )


def test_poisoned_test_rows_do_not_change_the_fit():
    clean, poisoned = probe(), probe(Z_test=Z[100:] + 1e6)
    assert np.array_equal(clean.coefficients, poisoned.coefficients)
    assert np.array_equal(clean.scaling.centre, poisoned.scaling.centre)
    assert clean.scaling.scale == poisoned.scaling.scale
    assert clean.strength == poisoned.strength


def test_constant_columns_are_accepted():
    with_constant = np.c_[Z, np.full(200, 3.0)]
    assert probe(with_constant[:100], Z_test=with_constant[100:]).accuracy == pytest.approx(
        probe().accuracy, abs=0.03
    )
    nothing = np.ones((200, 2))
    assert probe(nothing[:100], Z_test=nothing[100:]).accuracy == 0.25


def test_noise_stays_at_chance_with_a_grid_of_52_strengths():
    """C is chosen inside the labels, so a large grid cannot profit from chance on the test rows."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(60, 260, 8, generator=generator)
    labels = torch.randint(4, (60, 260), generator=generator)
    settings = LogisticSettings(np.logspace(-4, 3, 52))
    solution = fit_probes(noise[:, :60], labels[:, :60], 4, settings)
    assert solution.is_cross_validated.all()
    right = solution.fits.logits(noise[:, 60:]).argmax(-1).squeeze(1) == labels[:, 60:]
    accuracies = right.double().mean(1)
    assert abs(accuracies.mean() - 0.25) < 3 * accuracies.std() / 60**0.5


@pytest.mark.parametrize("C", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("shape", [(40, 3), (30, 80)])
def test_two_classes_equal_the_binary_fit_of_scikit_learn(C, shape):
    rows = RNG.normal(size=shape)
    labels = np.where(rows[:, 0] + RNG.normal(size=shape[0]) > 0, 7, 3)
    ours = linear_probe(rows, labels, rows, labels, strengths=C, dtype=np.float64, tolerance=1e-10)
    scaled = ours.scaling(rows)
    theirs = LogisticRegression(C=C, tol=1e-12, max_iter=20_000).fit(scaled, labels)
    np.testing.assert_allclose(ours.probabilities(rows), theirs.predict_proba(scaled), atol=1e-6)
    np.testing.assert_allclose(
        ours.coefficients[1] - ours.coefficients[0], theirs.coef_[0], atol=1e-5
    )
    assert ours.intercepts[1] - ours.intercepts[0] == pytest.approx(theirs.intercept_[0], abs=1e-5)
    assert np.array_equal(ours.predict(rows), theirs.predict(scaled))


def test_two_of_four_classes_equal_the_binary_fit():
    """A problem with rows of two of four classes equals the binary fit, in any batch."""
    rows = torch.from_numpy(Z[None, :60].copy())
    labels = torch.from_numpy(np.where(y[None, :60] % 2, 3, 0))
    fits = fit_logistic(
        rows, labels, torch.ones(1, 1, dtype=torch.float64), num_classes=4, tolerance=1e-9
    )
    theirs = LogisticRegression(C=1.0, tol=1e-12, max_iter=20_000).fit(Z[:60], labels[0])
    chances = fits.logits(rows)[0, 0].softmax(1)[:, [0, 3]].numpy()
    np.testing.assert_allclose(chances, theirs.predict_proba(Z[:60]), atol=1e-5)


def test_the_strength_for_two_classes_equals_the_choice_with_scikit_learn():
    labels = np.where(y % 2, 5, 2)
    for criterion in ("likelihood", "accuracy"):
        scores = []
        scaled = Scaling.fit(Z[:60])(Z[:60])
        rank = np.array([(labels[:i] == labels[i]).sum() for i in range(60)])
        for C in STRENGTHS:
            right, likelihood = 0, 0.0
            for fold in range(3):
                inside, held_out = rank % 3 != fold, rank % 3 == fold
                model = LogisticRegression(C=C, tol=1e-10, max_iter=5000).fit(
                    scaled[inside], labels[:60][inside]
                )
                chances = model.predict_proba(scaled[held_out])
                truth = (labels[:60][held_out] == 5).astype(int)
                right += (chances.argmax(1) == truth).sum()
                likelihood += np.log(chances[np.arange(len(truth)), truth]).sum()
            scores.append((right, likelihood) if criterion == "accuracy" else (likelihood,))
        found = linear_probe(
            Z[:60], labels[:60], Z[60:], labels[60:], criterion=criterion, dtype=np.float64
        )
        assert found.strength == STRENGTHS[max(range(len(STRENGTHS)), key=scores.__getitem__)]


def test_labels_may_have_gaps():
    """Labels such as years or postal codes create no array of all numbers up to the largest."""
    named = np.array([10**6, 2024, 0, 7])[y]
    found, plain = probe(y_train=named[:100], y_test=named[100:]), probe()
    assert found.classes.tolist() == [0, 7, 2024, 10**6]
    assert set(found.predict(Z[100:])) <= set(named.tolist())
    assert found.accuracy == pytest.approx(plain.accuracy, abs=0.03)
    assert found.accuracy == (found.predict(Z[100:]) == named[100:]).mean()


@pytest.mark.parametrize("offset", [1.7e9, 1e12])
def test_a_large_offset_does_not_reduce_precision(offset):
    """A timestamp in seconds decides the label; float32 cannot separate adjacent minutes."""
    seconds = RNG.permutation(200).astype(float)
    labels = (seconds > seconds.mean()).astype(int)
    rows = np.c_[offset + seconds, np.zeros(200)]
    found = linear_probe(rows[:100], labels[:100], rows[100:], labels[100:], strengths=10.0)
    assert found.accuracy >= 0.95
    near = probe(Z[:100] + 1e8, Z_test=Z[100:] + 1e8)
    assert near.accuracy == pytest.approx(probe().accuracy, abs=0.02)
    as_integers = linear_probe(
        rows[:100].astype(np.int64), labels[:100], rows[100:].astype(np.int64), labels[100:]
    )
    assert as_integers.accuracy >= 0.9


def test_the_verdict_contains_the_share_of_the_largest_class():
    rare = np.arange(100) % 20 == 0
    found = linear_probe(Z[:100], rare.astype(int), Z[:100], rare.astype(int))
    assert found.majority == 0.95
    assert "always predicting the largest class reaches 95.0 %" in str(found)
    assert f"classifies {100 * found.accuracy:.1f} % of the test rows correctly" in str(found)


def test_wide_rows_are_solved_exactly():
    """With as many features as an image has pixels, the fit equals scikit-learn's, and the reported
    gradient is correct."""
    wide = RNG.normal(size=(40, 6000)) + 0.2 * RNG.normal(size=(4, 6000))[y[:40]]
    ours = linear_probe(wide, y[:40], wide, y[:40], strengths=0.1, dtype=np.float64, tolerance=1e-7)
    scaled = ours.scaling(wide)
    theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(scaled, y[:40])
    np.testing.assert_allclose(ours.coefficients, theirs.coef_, atol=1e-6)
    chances = ours.probabilities(wide)
    residual = chances - np.eye(4)[y[:40]]
    gradient = (residual.T @ scaled + ours.coefficients / 0.1) / 40
    assert np.abs(gradient).max() <= 1e-7
    assert ours.gradient == pytest.approx(
        max(np.abs(gradient).max(), np.abs(residual.mean(0)).max()), rel=1e-2
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"Z_test": Z[100:, :9]}, "Z_train has 10 features, Z_test has 9"),
        ({"y_train": y[:99]}, "99 labels in y_train for 100 rows"),
        ({"y_test": y[:3]}, "3 labels in y_test for 100 rows"),
        ({"y_test": y[100:, None]}, r"y_test of shape \(100, 1\)"),
        ({"y_test": y[100:].astype(str)}, "y_test of dtype"),
        (
            {"y_test": np.where(np.arange(100) == 7, np.nan, y[100:])},
            r"y_test\[7\] = nan; 1 of 100 rows",
        ),
        ({"y_test": np.where(np.arange(100) == 7, -1, y[100:])}, r"y_test\[7\] = -1"),
        (
            {"y_test": y[100:] + 1},
            r"y_test\[3\] = 4; 25 of 100 rows\n  cause: another numbering of the classes",
        ),
        ({"y_test": np.full(100, 9)}, r"y_test\[0\] = 9; 100 of 100 rows"),
        ({"y_test": np.full(100, 1.5)}, r"y_test\[0\] = 1.5"),
        ({"y_test": np.ma.masked_array(y[100:], mask=np.arange(100) == 5)}, r"y_test\[5\] = nan"),
        ({"y_train": np.ma.masked_array(y[:100], mask=np.arange(100) == 5)}, r"y_train\[5\] = nan"),
        ({"Z_train": np.ma.masked_less(Z[:100], -1)}, r"Z_train\[\d+, \d+\] = nan"),
        ({"y_train": set(y[:100].tolist())}, "y_train must be"),
        ({"y_train": [[0, 1], [1]]}, "y_train must be"),
        ({"y_train": np.zeros(100, int)}, "at least two classes"),
        ({"Z_train": np.full((100, 10), np.nan)}, r"Z_train\[0, 0\] = nan"),
        ({"strengths": [1.0, -1.0]}, r"strengths\[1\] must be a finite number above 0"),
        ({"strengths": []}, "strengths must be a list of numbers, not empty"),
        ({"strengths": "1"}, "strengths must be a list"),
        ({"criterion": "loss"}, "criterion must be 'likelihood' or 'accuracy'"),
        ({"tolerance": 0}, "tolerance must be a finite number above 0"),
        ({"dtype": np.int64}, "dtype must be numpy.float32 or numpy.float64"),
        ({"scaling": 1.0}, "scaling must be a Scaling"),
        ({"Z_train": np.full((100, 10), 1e300) * np.sign(Z[:100])}, "finite variance"),
    ],
)
def test_linear_probe_refuses_invalid_arguments(changes, text):
    with pytest.raises(InputError, match=text):
        probe(**changes)
