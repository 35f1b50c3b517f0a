"""Linear autoencoders without training: the best that any width can do, by reduced-rank regression.

An instant baseline, and an oracle: a linear autoencoder that was trained cannot do better on the distribution that
these are computed from.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt64

from leadline import checks
from leadline.autoencoders._corruption import (
    Corruption,
    GaussianNoise,
    Nothing,
    PixelMask,
    check_corruption,
)
from leadline.autoencoders._encoder import Encoder, check_fingerprints
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders.models._dense import Autoencoder
from leadline.autoencoders.training._rows import open_rows
from leadline.checks import ShortRepr
from leadline.errors import InputError


@dataclass(frozen=True, eq=False)
class LinearOptimum(ShortRepr):
    """The best linear autoencoder of a width, for a corruption."""

    corruption: Corruption
    encode_weights: Float64[np.ndarray, "code features"]
    """The encoder's weights A."""
    decode_weights: Float64[np.ndarray, "features code"]
    """The decoder's weights B: orthonormal columns."""
    mean: Float64[np.ndarray, " features"]
    """The mean row."""
    seen_mean: Float64[np.ndarray, " features"]
    """The mean of what the encoder sees in training."""
    loss: float
    """Expected squared error per row from what the encoder sees, summed over features: no linear one has less."""
    rows_seen: UInt64[np.ndarray, " n"]
    """Fingerprints of the rows that it was computed from."""
    form: RowForm | None = None
    """The columns and the scale of these rows, which the encoder keeps."""

    @property
    def autoencoder(self) -> Autoencoder:
        """The same as a model, ``xhat = mean + B A (seen - seen_mean)``, float32."""
        code, features = self.encode_weights.shape
        model = Autoencoder(features, (code,), "linear", self.corruption, seed=0)
        state = {
            "encoder.0.weight": self.encode_weights,
            "encoder.0.bias": -self.encode_weights @ self.seen_mean,
            "decoder.0.weight": self.decode_weights,
            "decoder.0.bias": self.mean,
        }
        model.load_state_dict(
            {name: torch.from_numpy(array.astype(np.float32)) for name, array in state.items()}
        )
        return model

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder: a baseline for every study."""
        model = self.autoencoder
        weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return Encoder.of(model.architecture, weights, self.rows_seen, self.form)


def linear_optimum(X: Any, code_size: int, corruption: Corruption | None = None) -> LinearOptimum:
    """The best linear autoencoder of these rows; see :func:`linear_optimum_of` for the formula.

    Args:
        X: rows of shape (n, features), or a ``.npy`` file of them. Pixels of dtype uint8 are divided by 255.
        code_size: width k of the representation, from 1 to the number of features.
        corruption: :class:`Nothing` (by default), :class:`GaussianNoise`, or :class:`PixelMask` whose loss counts
            everywhere.

    Raises:
        InputError: rows that are not finite, another corruption, or a width out of range.

    >>> X = np.random.default_rng(0).normal(size=(200, 4)) * [3, 2, 1, 0]
    >>> optimum = linear_optimum(X, 2)
    >>> abs(optimum.loss - X[:, 2].var()) < 0.05 and optimum.encoder.encode(X).shape
    (200, 2)
    """
    rows = open_rows(X, "X", np.float64, torch.device("cpu"))
    if len(rows.row_shape) > 1:
        raise InputError(
            "features are a matrix of shape (samples, features)",
            got=f"X of shape {(len(rows), *rows.row_shape)}",
            cure="use X.reshape(len(X), -1)",
        )
    _check_size(code_size, rows.width)
    mean = rows.mean().numpy()
    covariance = np.zeros((rows.width, rows.width))
    for block in rows.blocks():
        centred = block.numpy() - mean
        covariance += centred.T @ centred
    optimum = linear_optimum_of(
        mean, covariance / len(rows), code_size, corruption, rows.fingerprints
    )
    return replace(optimum, form=rows.form)


def linear_optimum_of(
    mean: Float[np.ndarray, " features"],
    covariance: Float[np.ndarray, "features features"],
    code_size: int,
    corruption: Corruption | None = None,
    rows_seen: UInt64[np.ndarray, " n"] | None = None,
) -> LinearOptimum:
    """The best linear autoencoder of a distribution of which mean and covariance are known.

    Formula: with S the covariance, T that of what is seen, and C the covariance of the row with what is seen, the
    rank-k map of least expected error is ``U U^T C T^+``, U the k leading eigenvectors of ``C T^+ C^T``; its error is
    ``tr S`` minus the k largest eigenvalues. Noise: ``C = S, T = S + std^2 I``. A mask that keeps with probability q:
    ``C = q S, T = q^2 S + q (1 - q) diag(S + m m^T)``, m being the mean. Without corruption it is PCA.

    Args:
        mean: of the rows, shape (features,).
        covariance: of the rows, shape (features, features).
        code_size: width k of the representation, from 1 to the number of features.
        corruption: as in :func:`linear_optimum`.
        rows_seen: fingerprints of the rows behind the moments, if there are any.

    Reference: Izenman, *Reduced-rank regression for the multivariate linear model*, 1975; Baldi & Hornik, *Neural
    networks and principal component analysis*, 1989.
    """
    corruption = Nothing() if corruption is None else check_corruption(corruption)
    S, m = _checked_moments(covariance, mean)
    code_size = _check_size(code_size, len(S))
    C, T, kept = _moments(S, m, corruption)
    regression = C @ np.linalg.pinv(T, rcond=1e-12, hermitian=True)
    explained = regression @ C.T
    values, vectors = np.linalg.eigh((explained + explained.T) / 2)
    U = vectors[:, ::-1][:, :code_size]
    return LinearOptimum(
        corruption=corruption,
        encode_weights=U.T @ regression,
        decode_weights=U,
        mean=m,
        seen_mean=kept * m,
        loss=max(0.0, float(np.trace(S) - values[::-1][:code_size].sum())),
        rows_seen=check_fingerprints([] if rows_seen is None else rows_seen),
    )


def _check_size(code_size: Any, features: int) -> int:
    plain = checks.whole_number(code_size, "code_size", least=1)
    if plain > features:
        raise InputError(
            "a linear code is at most as wide as the rows",
            got=f"code_size = {checks.shown(code_size)} of {features}",
        )
    return plain


def _checked_moments(covariance: Any, mean: Any) -> tuple[np.ndarray, np.ndarray]:
    """Covariance and mean in float64, or a refusal of what cannot be the moments of a distribution."""
    S = checks.array(covariance, "covariance")
    m = checks.array(mean, "mean")
    for name, array in (("covariance", S), ("mean", m)):
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise InputError(
                f"{name} must hold finite numbers", got=f"{name} = {checks.shown(array)}"
            )
    if S.ndim != 2 or S.shape[0] != S.shape[1] or m.shape != S.shape[:1] or not len(S):
        raise InputError(
            "covariance has the shape (features, features) and mean the shape (features,)",
            got=f"covariance of shape {S.shape}, mean of shape {m.shape}",
        )
    S = S.astype(np.float64)
    m = m.astype(np.float64)
    scale = float(np.abs(S).max())
    if not np.allclose(S, S.T, rtol=0, atol=1e-6 * scale):
        raise InputError(
            "a covariance is symmetric",
            got=f"entries that differ by up to {np.abs(S - S.T).max():.3g}",
            cure="np.cov(X.T) gives the covariance of rows",
        )
    least = float(np.linalg.eigvalsh(S)[0])
    if least < -1e-6 * scale * len(S):
        raise InputError(
            "a covariance has no negative eigenvalue",
            got=f"an eigenvalue of {least:.3g}",
            cause="a correlation that was edited by hand, or a matrix of another kind",
            cure="np.cov(X.T) gives the covariance of rows",
        )
    return S, m


def _moments(
    S: np.ndarray, m: np.ndarray, corruption: Corruption
) -> tuple[np.ndarray, np.ndarray, float]:
    """Covariance of rows with what is seen, covariance of what is seen, and the share of the mean that stays."""
    match corruption:
        case Nothing():
            return S, S, 1.0
        case GaussianNoise(std):
            return S, S + std**2 * np.eye(len(S)), 1.0
        case PixelMask(ratio, "all"):
            q = 1 - ratio
            return q * S, q**2 * S + q * ratio * np.diag(np.diag(S) + m**2), q
    raise InputError(
        "the optimum is known for Nothing, GaussianNoise, and a PixelMask whose loss counts everywhere",
        got=checks.shown(corruption)
        if not isinstance(corruption, Corruption)
        else repr(corruption),
        cause="a loss that follows the mask is no regression on one target",
        cure="train it: pretrain(Autoencoder(..., 'linear', corruption))",
    )
