"""The best linear autoencoder of any width, in closed form (reduced-rank regression).

It is a baseline that needs no training, and an oracle: no trained linear autoencoder has a lower
expected error on the same distribution.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt64

from leadline import checks
from leadline.autoencoders._corruption import Corruption, LinearEffect, Nothing, check_corruption
from leadline.autoencoders._encoder import Encoder
from leadline.autoencoders._encoder_weights import check_fingerprints
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders._rows import open_rows
from leadline.autoencoders.models._dense import Autoencoder
from leadline.checks import ShortRepr
from leadline.errors import InputError


@dataclass(frozen=True, eq=False)
class LinearOptimum(ShortRepr):
    """The best linear autoencoder of a width, for a corruption."""

    corruption: Corruption
    """The corruption that the autoencoder undoes."""
    encode_weights: Float64[np.ndarray, "code features"]
    """The encoder's weights A."""
    decode_weights: Float64[np.ndarray, "features code"]
    """The decoder's weights B; their columns are orthonormal."""
    mean: Float64[np.ndarray, " features"]
    """The mean of the clean rows."""
    seen_mean: Float64[np.ndarray, " features"]
    """The mean of the corrupted rows."""
    loss: float
    """Expected squared error per row, summed over features: the minimum of all linear ones."""
    rows_seen: UInt64[np.ndarray, " n"]
    """Fingerprints of the rows that the optimum was computed from."""
    form: RowForm | None = None
    """The columns and the scale of these rows, which the encoder keeps."""

    @classmethod
    def from_rows(
        cls, X: Any, code_size: int, corruption: Corruption | None = None
    ) -> "LinearOptimum":
        """Return the best linear autoencoder of these rows; :meth:`from_moments` has the formula.

        Args:
            X: Rows of shape (n, features), or the path of a ``.npy`` file. Pixels of dtype uint8
                are divided by 255.
            code_size: Width k of the representation, from 1 to the number of features.
            corruption: :class:`Nothing` (the default), :class:`GaussianNoise`, or
                :class:`PixelMask` with ``loss="all"``.

        Raises:
            InputError: Rows that are not finite, another corruption, or a width out of range.

        >>> X = np.random.default_rng(0).normal(size=(200, 4)) * [3, 2, 1, 0]
        >>> optimum = LinearOptimum.from_rows(X, 2)
        >>> abs(optimum.loss - X[:, 2].var()) < 0.05 and optimum.encoder.encode(X).shape
        (200, 2)
        """
        rows = open_rows(X, "X", np.float64, torch.device("cpu"))
        if len(rows.row_shape) > 1:
            raise InputError(
                "X must have the shape (samples, features)",
                got=f"X of shape {(len(rows), *rows.row_shape)}",
                cure="use X.reshape(len(X), -1)",
            )
        _check_size(code_size, rows.width)
        mean = rows.mean().numpy()
        covariance = np.zeros((rows.width, rows.width))
        for block in rows.blocks():
            centred = block.numpy() - mean
            covariance += centred.T @ centred
        optimum = cls.from_moments(
            mean, covariance / len(rows), code_size, corruption, rows.fingerprints
        )
        return replace(optimum, form=rows.form)

    @classmethod
    def from_moments(
        cls,
        mean: Float[np.ndarray, " features"],
        covariance: Float[np.ndarray, "features features"],
        code_size: int,
        corruption: Corruption | None = None,
        rows_seen: UInt64[np.ndarray, " n"] | None = None,
    ) -> "LinearOptimum":
        """Return the best linear autoencoder of a distribution with known mean and covariance.

        Formula: let S be the covariance of the clean rows, T that of the corrupted rows, and C the
        covariance of clean with corrupted rows. The rank-k map of least expected error is
        ``U U^T C T^+``, where U holds the k leading eigenvectors of ``C T^+ C^T``. Its error is
        ``tr S`` minus the k largest eigenvalues. Noise has ``C = S, T = S + std^2 I``. A mask that
        keeps entries with probability q has ``C = q S, T = q^2 S + q (1 - q) diag(S + m m^T)``,
        where m is the mean. Without corruption the optimum is PCA.

        Args:
            mean: Mean of the rows, shape (features,).
            covariance: Covariance of the rows, shape (features, features).
            code_size: Width k of the representation, from 1 to the number of features.
            corruption: As in :meth:`from_rows`.
            rows_seen: Fingerprints of the rows behind the moments, if any.

        Raises:
            InputError: Moments of no distribution, another corruption, or a width out of range.

        >>> LinearOptimum.from_moments(np.zeros(3), np.diag([4.0, 2.0, 1.0]), 2).loss
        1.0

        Reference: Izenman, *Reduced-rank regression for the multivariate linear model*, 1975;
        Baldi & Hornik, *Neural networks and principal component analysis*, 1989.
        """
        corruption = Nothing() if corruption is None else check_corruption(corruption)
        S, m = _checked_moments(covariance, mean)
        code_size = _check_size(code_size, len(S))
        effect = _known_effect(corruption)
        C = effect.kept * S
        T = (
            effect.kept**2 * S
            + effect.noise_variance * np.eye(len(S))
            + effect.mask_variance * np.diag(np.diag(S) + m**2)
        )
        regression = C @ np.linalg.pinv(T, rcond=1e-12, hermitian=True)
        explained = regression @ C.T
        values, vectors = np.linalg.eigh((explained + explained.T) / 2)
        U = vectors[:, ::-1][:, :code_size]
        return cls(
            corruption=corruption,
            encode_weights=U.T @ regression,
            decode_weights=U,
            mean=m,
            seen_mean=effect.kept * m,
            loss=max(0.0, float(np.trace(S) - values[::-1][:code_size].sum())),
            rows_seen=check_fingerprints([] if rows_seen is None else rows_seen),
        )

    @property
    def autoencoder(self) -> Autoencoder:
        """The optimum as a float32 model: ``xhat = mean + B A (seen - seen_mean)``."""
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
        """The optimum's frozen encoder."""
        model = self.autoencoder
        weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return Encoder.of(model.architecture, weights, self.rows_seen, self.form)


def _check_size(code_size: Any, features: int) -> int:
    plain = checks.whole_number(code_size, "code_size", least=1)
    if plain > features:
        raise InputError(
            "code_size must be at most the number of features",
            got=f"code_size = {checks.shown(code_size)} of {features}",
        )
    return plain


def _checked_moments(covariance: Any, mean: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return covariance and mean in float64; refuse what no distribution has."""
    S = checks.array(covariance, "covariance")
    m = checks.array(mean, "mean")
    for name, array in (("covariance", S), ("mean", m)):
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise InputError(
                f"{name} must hold finite numbers", got=f"{name} = {checks.shown(array)}"
            )
    if S.ndim != 2 or S.shape[0] != S.shape[1] or m.shape != S.shape[:1] or not len(S):
        raise InputError(
            "covariance must have the shape (features, features), and mean (features,)",
            got=f"covariance of shape {S.shape}, mean of shape {m.shape}",
        )
    S = S.astype(np.float64)
    m = m.astype(np.float64)
    scale = float(np.abs(S).max())
    if not np.allclose(S, S.T, rtol=0, atol=1e-6 * scale):
        raise InputError(
            "covariance must be symmetric",
            got=f"entries that differ by up to {np.abs(S - S.T).max():.3g}",
            cure="np.cov(X.T) gives the covariance of rows",
        )
    least = float(np.linalg.eigvalsh(S)[0])
    if least < -1e-6 * scale * len(S):
        raise InputError(
            "covariance must have no negative eigenvalue",
            got=f"an eigenvalue of {least:.3g}",
            cause="a correlation that was edited by hand, or another kind of matrix",
            cure="np.cov(X.T) gives the covariance of rows",
        )
    return S, m


def _known_effect(corruption: Corruption) -> LinearEffect:
    """Return the effect of a corruption on the moments; refuse unknown effects."""
    effect = corruption.linear_effect
    if effect is None:
        raise InputError(
            "corruption must be Nothing, GaussianNoise, or a PixelMask with loss='all'",
            got=repr(corruption),
            cause="other corruptions have no closed form",
            cure="train it: pretrain(Autoencoder(..., 'linear', corruption))",
        )
    return effect
