"""The batch solver of logistic regressions against scikit-learn and autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from leadline import data
from leadline.probing import Scaling, linear_probe
from leadline.probing.probes import _logistic as logistic
from leadline.probing.probes._linear import FIXED_STRENGTH, STRENGTHS, fit_probes
from leadline.probing.probes._logistic import fit_logistic

DIGITS = data.digits()
LABELS = data.check_labels(DIGITS.y, len(DIGITS))
ROLES = data.split_roles(LABELS, seed=0)
SUBSETS = data.label_subsets(LABELS, ROLES.probe_pool, [10, 30, 100], num=3, seed=0)
Z = Scaling.fit(DIGITS.X[ROLES.pretrain_train])(DIGITS.X.astype(np.float64))
y = torch.from_numpy(LABELS)


def solve(rows, strengths, **options):
    rows = torch.as_tensor(rows)
    strengths = torch.as_tensor(strengths, dtype=torch.float64)
    return fit_logistic(torch.from_numpy(Z)[rows], y[rows], strengths, num_classes=10, **options)


@pytest.mark.parametrize("labels", [10, 100])
def test_coefficients_equal_those_of_scikit_learn(labels):
    rows, strengths = SUBSETS.rows(labels)[:2], [0.01, 1.0]
    fits = solve(rows, [strengths] * 2, tolerance=1e-9)
    assert fits.gradient.max() <= 1e-9
    scores = fits.logits(torch.from_numpy(Z)[ROLES.test].expand(2, -1, -1)).softmax(-1)
    for draw, index in enumerate(rows):
        for k, strength in enumerate(strengths):
            oracle = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(
                Z[index], LABELS[index]
            )
            np.testing.assert_allclose(fits.coefficients[draw, k], oracle.coef_, atol=2e-5)
            np.testing.assert_allclose(
                fits.intercepts[draw, k] - fits.intercepts[draw, k].mean(),
                oracle.intercept_,
                atol=1e-4,
            )
            np.testing.assert_allclose(
                scores[draw, k], oracle.predict_proba(Z[ROLES.test]), atol=1e-5
            )


def test_float32_fits_converge_and_reach_the_accuracy_of_the_optimum():
    rows = torch.as_tensor(SUBSETS.rows(100))
    features = torch.from_numpy(Z).float()
    fits = fit_logistic(features[rows], y[rows], torch.full((3, 1), 1.0), num_classes=10)
    assert fits.gradient.max() <= 1e-4
    ours = fits.logits(features[ROLES.test].expand(3, -1, -1)).argmax(-1)[:, 0]
    for draw, index in enumerate(SUBSETS.rows(100)):
        W, b = (
            fits.coefficients[draw, 0].double().numpy(),
            fits.intercepts[draw, 0].double().numpy(),
        )
        residual = softmax(Z[index] @ W.T + b, axis=1) - np.eye(10)[LABELS[index]]
        gradient = (residual.T @ Z[index] + W) / len(index)
        assert np.abs(gradient).max() <= 1.1e-4
        optimum = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(Z[index], LABELS[index])
        accuracy = (ours[draw].numpy() == LABELS[ROLES.test]).mean()
        assert accuracy == pytest.approx(
            optimum.score(Z[ROLES.test], LABELS[ROLES.test]), abs=0.005
        )


def test_a_solution_does_not_depend_on_the_batch():
    rows = SUBSETS.rows(30)
    together = solve(rows, [[0.01, 10.0]] * 3, tolerance=1e-8)
    for draw in range(3):
        alone = solve(rows[draw : draw + 1], [[10.0]], tolerance=1e-8)
        np.testing.assert_allclose(
            alone.coefficients[0, 0], together.coefficients[draw, 1], atol=1e-5
        )


def test_rows_of_weight_zero_have_no_effect():
    rows = SUBSETS.rows(30)[:1]
    weights = torch.ones(1, 1, 30, dtype=torch.float64)
    weights[..., 20:] = 0
    masked = solve(rows, [[1.0]], weights=weights, tolerance=1e-9)
    absent = solve(rows[:, :20], [[1.0]], tolerance=1e-9)
    np.testing.assert_allclose(masked.coefficients, absent.coefficients, atol=1e-6)


def test_a_warm_start_does_not_change_the_solution():
    rows = SUBSETS.rows(30)
    cold = solve(rows, [[1.0]] * 3, tolerance=1e-9)
    warm = solve(rows, [[1.0]] * 3, tolerance=1e-9, start=solve(rows, [[0.1]] * 3))
    np.testing.assert_allclose(warm.coefficients, cold.coefficients, atol=1e-6)


def objective(Z, y, C, W, b):
    """Return the formula of the docstring for one fit; two classes use C / 2."""
    C = C / 2 if len(y.unique()) == 2 else C
    losses = torch.nn.functional.cross_entropy(Z @ W.mT + b, y, reduction="mean")
    return losses + W.square().sum() / (2 * C * len(y))


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(2, 5),
    st.integers(1, 30),
    st.sampled_from([1e-4, 0.01, 1.0, 100.0]),
)
def test_every_problem_is_solved(seed, classes, features, strength):
    """The gradient of the formula falls below the tolerance and equals the reported gradient.

    The random problems are separable or not, have more or fewer features than rows, features of
    unequal size, an offset, and repeated rows.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = 10 ** (0.5 * torch.randn(features, generator=generator, dtype=torch.float64))
    X = sizes * torch.randn(4, 12, features, generator=generator, dtype=torch.float64)
    X = (X - X.mean((0, 1))) / X.var((0, 1)).mean().sqrt() + 0.5
    X[1, 5:] = X[1, :7].clone()
    labels = torch.randint(classes, (4, 12), generator=generator)
    fits = fit_logistic(
        X,
        labels,
        torch.full((4, 1), strength, dtype=torch.float64),
        num_classes=classes,
        tolerance=1e-6,
    )
    for i in range(4):
        W, b = fits.coefficients[i, 0].requires_grad_(), fits.intercepts[i, 0].requires_grad_()
        gradients = torch.autograd.grad(objective(X[i], labels[i], strength, W, b), (W, b))
        largest = max(float(gradient.abs().max()) for gradient in gradients)
        assert largest <= 1.01e-6
        assert largest == pytest.approx(float(fits.gradient[i, 0]), rel=1e-3, abs=1e-12)


@pytest.mark.parametrize(("rows", "features"), [(9, 4), (4, 9), (6, 6)])
def test_principal_axes_reproduce_the_rows(rows, features):
    X = (
        torch.randn(
            2, rows, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        + 3
    )
    X[1] = X[1, :1]  # All rows are equal, so there is no axis.
    axes = logistic.PrincipalAxes.of(X)
    assert axes.rows.shape == (2, rows, min(rows, features))
    np.testing.assert_allclose(axes.rows @ axes.directions + axes.mean, X, atol=1e-12)
    products = axes.rows.mT @ axes.rows
    np.testing.assert_allclose(
        products, torch.diag_embed(products.diagonal(dim1=1, dim2=2)), atol=1e-12
    )
    lengths = axes.directions[0].norm(dim=1)
    assert all(length == pytest.approx(1) or length == 0 for length in lengths.tolist())


def test_a_fit_that_is_given_up_reports_its_gradient(monkeypatch):
    monkeypatch.setattr(logistic, "MAX_STEPS", 3)
    assert (solve(SUBSETS.rows(30), [[1.0]] * 3, tolerance=1e-9).gradient > 1e-9).all()


def test_the_strength_is_fixed_below_three_labels_per_class():
    pool = torch.from_numpy(Z).float()
    for labels, chosen in ((10, False), (30, True)):
        rows = torch.as_tensor(SUBSETS.rows(labels))
        solution = fit_probes(pool[rows], y[rows], 10)
        assert solution.is_cross_validated.tolist() == [chosen] * 3
        allowed = STRENGTHS if chosen else (FIXED_STRENGTH,)
        assert all(
            any(value == pytest.approx(c) for c in allowed) for value in solution.strengths.tolist()
        )
    mixed = torch.stack([torch.arange(30) % 10, torch.arange(30) // 3])
    mixed[0, 0] = 1
    solution = fit_probes(pool[:30].expand(2, -1, -1), mixed, 10)
    assert solution.is_cross_validated.tolist() == [False, True]


def test_cross_validation_equals_scikit_learn_on_the_same_folds():
    rows = SUBSETS.rows(100)[0]
    rank = np.array([(LABELS[rows[:i]] == LABELS[row]).sum() for i, row in enumerate(rows)])
    losses = []
    for strength in STRENGTHS:
        loss = 0.0
        for k in range(3):
            inside, held_out = rows[rank % 3 != k], rows[rank % 3 == k]
            model = LogisticRegression(C=strength, max_iter=1000).fit(Z[inside], LABELS[inside])
            chances = model.predict_proba(Z[held_out])
            loss -= np.log(chances[np.arange(len(held_out)), LABELS[held_out]]).sum()
        losses.append(loss)
    probe = linear_probe(Z[rows], LABELS[rows], Z[ROLES.test], LABELS[ROLES.test])
    assert probe.strength == pytest.approx(STRENGTHS[int(np.argmin(losses))])
