import numpy as np
import pytest
import torch

from leadline import data
from leadline.autoencoders import (
    Autoencoder,
    GaussianNoise,
    LinearOptimum,
    Nothing,
    PixelMask,
    pretrain,
)
from leadline.errors import InputError

RNG = np.random.default_rng(0)
X = (
    RNG.normal(size=(400, 3)) @ RNG.normal(size=(3, 6))
    + 0.5 * RNG.normal(size=(400, 6))
    + RNG.normal(size=6)
)
KINDS = [Nothing(), GaussianNoise(0.7), PixelMask(0.3)]


def expected_loss(model: Autoencoder, mean, S, corruption):
    """Return the expected error of ``W seen + b``, term by term from the moments of the rows."""
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    W = state["decoder.0.weight"] @ state["encoder.0.weight"]
    b = state["decoder.0.weight"] @ state["encoder.0.bias"] + state["decoder.0.bias"]
    second = S + np.outer(mean, mean)
    keep, noise, hidden = 1.0, 0.0, 0.0
    if isinstance(corruption, GaussianNoise):
        noise = corruption.std**2
    if isinstance(corruption, PixelMask):
        keep, hidden = 1 - corruption.ratio, corruption.ratio
    seen_seen = keep**2 * second + keep * hidden * np.diag(np.diag(second)) + noise * np.eye(len(S))
    seen_row = keep * second
    return (
        np.trace(second) - 2 * np.trace(W @ seen_row) - 2 * b @ mean
        + np.trace(W @ seen_seen @ W.T) + 2 * keep * b @ W @ mean + b @ b
    )  # fmt: skip


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("corruption", KINDS, ids=str)
def test_the_loss_matches_the_model_and_no_linear_model_is_better(corruption, k):
    mean, S = X.mean(0), np.cov(X.T, bias=True)
    optimum = LinearOptimum.from_rows(X, k, corruption)
    loss = expected_loss(optimum.autoencoder, mean, S, corruption)
    assert loss == pytest.approx(optimum.loss, rel=1e-5, abs=1e-5)
    for seed in range(20):
        other = optimum.autoencoder
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter += 0.03 * torch.randn(parameter.shape, generator=draw)
        assert expected_loss(other, mean, S, corruption) >= optimum.loss


@pytest.mark.parametrize("corruption", KINDS, ids=str)
def test_training_reaches_the_optimum_within_two_percent(corruption):
    mean, S = X.mean(0), np.cov(X.T, bias=True)
    optimum = LinearOptimum.from_rows(X, 2, corruption)
    model = Autoencoder(6, (2,), "linear", corruption, seed=0).double()
    pretrained = pretrain(model, X, validation=None, epochs=250, learning_rate=2e-2, batch_size=50)
    loss = expected_loss(pretrained.model, mean, S, corruption)  # pyright: ignore[reportArgumentType]
    assert optimum.loss * (1 - 1e-9) <= loss <= 1.02 * optimum.loss
    basis = np.linalg.qr(pretrained.weights["decoder.0.weight"])[0]
    cosines = np.linalg.svd(optimum.decode_weights.T @ basis)[1]
    assert cosines == pytest.approx([1, 1], abs=1e-2)


def test_the_trained_code_spans_the_pca_subspace():
    """Principal angles between a trained linear code and the leading components are small."""
    from scipy.linalg import subspace_angles
    from sklearn.decomposition import PCA

    model = Autoencoder(6, (2,), "linear", seed=0).double()
    pretrained = pretrain(model, X, validation=None, epochs=400, learning_rate=1e-2, batch_size=50)
    pca = np.asarray(PCA(4).fit(X).components_).T
    components, other_components = pca[:, :2], pca[:, 2:]
    assert (
        np.rad2deg(subspace_angles(pretrained.weights["encoder.0.weight"].T, components)).max() < 3
    )
    assert np.rad2deg(subspace_angles(pretrained.weights["decoder.0.weight"], components)).max() < 3
    angles = subspace_angles(pretrained.weights["encoder.0.weight"].T, other_components)
    assert np.rad2deg(angles).min() > 80


def test_the_optimum_without_corruption_is_pca():
    from sklearn.decomposition import PCA

    optimum, pca = LinearOptimum.from_rows(X, 3), PCA(3).fit(X)
    cosines = np.linalg.svd(pca.components_ @ optimum.decode_weights)[1]
    assert cosines == pytest.approx([1, 1, 1])
    assert optimum.loss == pytest.approx(
        ((X - pca.inverse_transform(pca.transform(X))) ** 2).sum(1).mean()
    )
    codes = optimum.encoder.encode(X)
    assert codes.mean(0) == pytest.approx([0, 0, 0], abs=1e-5)
    np.testing.assert_allclose(codes.std(0), pca.transform(X).std(0), rtol=1e-4)


@pytest.mark.parametrize(
    ("corruption", "losses"),
    [
        (Nothing(), (230, 80, 0)),
        (GaussianNoise(0.5), (231.2, 84.9, 20.9)),
        (PixelMask(0.25), (234.1, 97.6, 55.8)),
    ],
)
def test_losses_of_a_known_distribution_match_the_course(corruption, losses):
    """20 of 100 directions have variance 10, the others 1; the mask's losses need a rotation."""
    S = data.high_variance_vectors(2, seed=0).covariance
    for k, loss in zip((5, 20, 100), losses, strict=True):
        optimum = LinearOptimum.from_moments(np.zeros(100), S, k, corruption)
        assert optimum.loss == pytest.approx(
            loss, abs=0.7 if isinstance(corruption, PixelMask) else 0.06
        )


def test_constant_columns_and_fingerprints():
    digits = data.digits()
    encoder = LinearOptimum.from_rows(digits.X[:500], 16, GaussianNoise(0.5)).encoder
    assert np.isfinite(encoder.encode(digits.X)).all()
    assert encoder.has_seen(digits.X[:500]).all()
    assert LinearOptimum.from_rows(digits.X, 64).loss == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LinearOptimum.from_rows(X, 7), "code_size = 7 of 6"),
        (lambda: LinearOptimum.from_rows(X, 0), "code_size must be a whole number of at least 1"),
        (
            lambda: LinearOptimum.from_rows(X, 2, PixelMask(0.5, loss="masked")),
            "a PixelMask with loss='all'",
        ),
        (lambda: LinearOptimum.from_rows(np.full((3, 2), np.nan), 1), "finite"),
    ],
)
def test_cases_without_a_closed_form_are_refused(make, text):
    with pytest.raises(InputError, match=text):
        make()
