"""Scaling of features, which makes representations comparable for a probe."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.data import check_features, exact_features, means_and_spreads
from leadline.errors import InputError


@dataclass(frozen=True, eq=False)
class Scaling:
    """Centring of each feature, and division of all features by one common scale.

    Formula: ``(z - mean) / sqrt(mean variance of the features)``.

    A common scale favours no direction of a representation: a rotated or rescaled representation
    gives the same probe, and a pixel that hardly ever varies is not enlarged to the size of the
    others (which would cost raw digits six points at one label per class). Standardise columns
    with units of their own, such as a table's, in ``X`` before any encoder.

    Features are centred in float64, so that a large offset, such as a timestamp's, costs no
    precision.

    >>> scaling = Scaling.fit([[0.0, 0.0], [2.0, 4.0]])
    >>> scaling.centre.tolist(), round(scaling.scale, 3)
    ([1.0, 2.0], 1.581)
    """

    centre: Float[np.ndarray, " d"]
    """Mean of each feature, shape (d,)."""
    scale: float
    """Square root of the mean variance of the features, > 0; 1 if no feature varies."""

    def __post_init__(self):
        row = checks.array(self.centre, "centre")[None]
        centre = check_features(row, "centre", dtype=np.float64)[0]
        object.__setattr__(self, "centre", centre)
        object.__setattr__(self, "scale", checks.number(self.scale, "scale", above=0))

    @classmethod
    def fit(cls, Z: Any) -> Self:
        """Return the scaling of rows of shape (n, d), such as pretraining rows without labels.

        Raises:
            InputError: the features or their variance are not finite.
        """
        numbers = check_features(checks.array(Z, "Z"), "Z", dtype=np.float64)
        centre, spreads = means_and_spreads(numbers)
        with np.errstate(over="ignore", invalid="ignore"):
            scale = float(np.sqrt(np.square(spreads).mean()))
        if not np.isfinite(scale):
            raise InputError(
                "Z must have a finite variance",
                got=f"numbers up to {np.abs(numbers).max():g}",
                cure="rescale the rows",
            )
        return cls(centre, scale if scale > 0 else 1.0)

    def __call__(self, Z: Any) -> Float[np.ndarray, "n d"]:
        """Return scaled rows in the number type of ``Z``.

        Raises:
            InputError: the rows have another width, or are not finite.
        """
        rows = exact_features(Z, "Z")
        if rows.shape[1] != len(self.centre):
            raise InputError(
                "Z must have as many features as the scaling was fitted on",
                got=f"Z has {rows.shape[1]} features, the scaling {len(self.centre)}",
                cure="encode both with the same encoder",
            )
        return ((rows - self.centre) / self.scale).astype(rows.dtype)


def check_scaling(scaling: Any, rows: np.ndarray) -> Scaling:
    """Return the given scaling, or the scaling of the rows if it is ``None``."""
    if scaling is None:
        return Scaling.fit(rows)
    return checks.instance(scaling, "scaling", Scaling, cure="Scaling.fit(rows)")
