import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from leadline.errors import InputError
from leadline.probing import Scaling, linear_probe
from leadline.probing.linear import solve_probes

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 10))
y = np.arange(200) % 4
Z = CENTRES[y] + RNG.normal(size=(200, 10))


def probe(Z_train=Z[:100], y_train=y[:100], Z_test=Z[100:], y_test=y[100:], **options):
    return linear_probe(Z_train, y_train, Z_test, y_test, **options)


def test_is_scikit_learn_on_scaled_features():
    ours = probe(strengths=1.0, dtype=np.float64, tol=1e-9)
    scaling = Scaling.fit(Z[:100])
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(scaling(Z[:100]), y[:100])
    np.testing.assert_allclose(ours.coefficients, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.probabilities(Z[100:]), theirs.predict_proba(scaling(Z[100:])), atol=1e-5)
    assert ours.accuracy == theirs.score(scaling(Z[100:]), y[100:]) == (ours.predict(Z[100:]) == y[100:]).mean()


def test_does_not_depend_on_scale_offset_or_rotation():
    plain = probe(dtype=np.float64, tol=1e-8)
    turn = np.linalg.qr(RNG.normal(size=(10, 10)))[0]
    for moved in (1000 * Z - 7, Z @ turn):
        other = probe(moved[:100], Z_test=moved[100:], dtype=np.float64, tol=1e-8)
        np.testing.assert_allclose(other.probabilities(moved[100:]), plain.probabilities(Z[100:]), atol=1e-4)


def test_poisoned_test_rows_move_nothing_that_was_fitted():
    clean, poisoned = probe(), probe(Z_test=Z[100:] + 1e6)
    assert np.array_equal(clean.coefficients, poisoned.coefficients)
    assert np.array_equal(clean.scaling.centre, poisoned.scaling.centre)
    assert clean.scaling.scale == poisoned.scaling.scale
    assert clean.strength == poisoned.strength


def test_constant_columns_are_fine():
    with_constant = np.c_[Z, np.full(200, 3.0)]
    assert probe(with_constant[:100], Z_test=with_constant[100:]).accuracy == pytest.approx(probe().accuracy, abs=0.03)
    nothing = np.ones((200, 2))
    assert probe(nothing[:100], Z_test=nothing[100:]).accuracy == 0.25


def test_pure_noise_stays_at_chance_under_a_grid_of_52_settings():
    """The strength is chosen inside the labels, so that a large grid cannot find luck on the test rows."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(60, 260, 8, generator=generator)
    labels = torch.randint(4, (60, 260), generator=generator)
    solution = solve_probes(noise[:, :60], labels[:, :60], 4, np.logspace(-4, 3, 52).tolist(), 1e-4)
    assert solution.is_cross_validated.all()
    right = solution.fits.logits(noise[:, 60:]).argmax(-1).squeeze(1) == labels[:, 60:]
    accuracies = right.double().mean(1)
    assert abs(accuracies.mean() - 0.25) < 3 * accuracies.std() / 60**0.5


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"Z_test": Z[100:, :9]}, "Z_train has 10 features, Z_test has 9"),
        ({"y_train": y[:99]}, "99 labels in y_train for 100 rows"),
        ({"y_test": y[:3]}, r"\(3,\) labels for 100 rows"),
        ({"y_train": np.zeros(100, int)}, "at least two classes"),
        ({"Z_train": np.full((100, 10), np.nan)}, r"Z_train\[0, 0\] = nan"),
        ({"strengths": [1.0, -1.0]}, r"strengths = \[1.0, -1.0\]"),
        ({"strengths": []}, "must be positive"),
    ],
)
def test_refuses_what_does_not_fit(changes, text):
    with pytest.raises(InputError, match=text):
        probe(**changes)
