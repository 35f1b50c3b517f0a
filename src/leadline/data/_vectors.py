"""Synthetic vectors with known principal axes, known variances and a known decision boundary."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from leadline import checks
from leadline.data._dataset import Dataset
from leadline.data._memory import refuse_too_large


@dataclass(frozen=True, eq=False)
class RotatedVectors(Dataset):
    """Gaussian vectors and the true parameters of their distribution."""

    rotation: np.ndarray = field(kw_only=True)
    """Principal axes as columns, high variance first: ``x = rotation @ z``. Shape (d, d), float64.
    """
    variances: np.ndarray = field(kw_only=True)
    """Variance along each column of ``rotation``, shape (d,)."""
    direction: np.ndarray = field(kw_only=True)
    """Unit normal of the true boundary, shape (d,). The label is 1 if ``x @ direction > 0``."""

    @property
    def covariance(self) -> Float64[np.ndarray, "d d"]:
        """The true covariance of the rows, ``rotation @ diag(variances) @ rotation.T``."""
        return (self.rotation * self.variances) @ self.rotation.T


def high_variance_vectors(
    num: int,
    *,
    seed: int,
    rotation_seed: int = 0,
    dimensions: int = 100,
    high: int = 20,
    high_variance: float = 10.0,
    low_variance: float = 1.0,
) -> RotatedVectors:
    """Draw Gaussian vectors whose label depends only on a few directions of high variance.

    All other directions have low variance and are noise: ``z_i ~ N(0, high_variance)`` for the
    first ``high`` of the ``dimensions``, and ``N(0, low_variance)`` for the others. ``x = Q z``
    with a random rotation ``Q``, and ``y = 1`` if ``z_1 + ... + z_high > 0``, else 0.

    Args:
        num: number of vectors, at least 2.
        seed: seed of the samples only.
        rotation_seed: seed of the rotation only. Training and test data of the same problem have
            the same ``rotation_seed`` and different values of ``seed``.
        dimensions: d, at least ``high``.
        high: number of directions with high variance, at least 1.
        high_variance: variance of these directions, above 0.
        low_variance: variance of the other directions, above 0.

    Returns:
        ``X`` of shape (num, dimensions), ``y`` of shape (num,), and the true parameters.

    >>> data = high_variance_vectors(500, seed=0)
    >>> data.X.shape, bool(((data.X @ data.direction > 0) == data.y).all())
    ((500, 100), True)

    Reference: Mezzadri, *How to generate random matrices from the classical compact groups*, 2007
    (the rotation).
    """
    num = checks.whole_number(num, "num", least=2)
    seed = checks.seed(seed)
    rotation_seed = checks.seed(rotation_seed, "rotation_seed")
    high = checks.whole_number(high, "high", least=1)
    dimensions = checks.whole_number(dimensions, "dimensions", least=high)
    high_variance = checks.number(high_variance, "high_variance", above=0)
    low_variance = checks.number(low_variance, "low_variance", above=0)
    what = f"high_variance_vectors() of {num} vectors of {dimensions} dimensions"
    refuse_too_large(28 * num * dimensions, what, cure="ask for fewer vectors or dimensions")
    rotation = random_rotation(dimensions, seed=rotation_seed)
    variances = np.where(np.arange(dimensions) < high, high_variance, low_variance).astype(
        np.float64
    )
    z = np.random.default_rng(seed).standard_normal((num, dimensions)) * np.sqrt(variances)
    return RotatedVectors(
        z @ rotation.T,
        (z[:, :high].sum(axis=1) > 0).astype(np.int64),
        "high-variance vectors",
        rotation=rotation,
        variances=variances,
        direction=rotation[:, :high].sum(axis=1) / np.sqrt(high),
    )


def random_rotation(dimensions: int, *, seed: int) -> Float64[np.ndarray, "d d"]:
    """Draw a rotation (an orthogonal matrix with determinant 1) from the Haar measure.

    The rotation is the Q of the QR decomposition of a Gaussian matrix, after the signs of R's
    diagonal are moved into Q. No direction is preferred.

    >>> Q = random_rotation(3, seed=0)
    >>> bool(np.allclose(Q.T @ Q, np.eye(3)))
    True

    Reference: Mezzadri, *How to generate random matrices from the classical compact groups*, 2007.
    """
    dimensions = checks.whole_number(dimensions, "dimensions", least=1)
    what = f"a rotation of {dimensions} dimensions"
    refuse_too_large(40 * dimensions**2, what, cure="ask for fewer dimensions")
    # With a spawn key, a rotation and samples with equal seeds use different random streams.
    rng = np.random.default_rng(np.random.SeedSequence(checks.seed(seed), spawn_key=(1,)))
    Q, R = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))
    Q = Q * np.sign(np.diag(R))
    if np.linalg.det(Q) < 0:
        Q[:, 0] = -Q[:, 0]
    return Q
