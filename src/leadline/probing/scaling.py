"""How representations are put on one footing before a probe sees them."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from leadline.data import check_features


@dataclass(frozen=True, eq=False)
class Scaling:
    """Each feature is centred, and all are divided by one number: the root of their mean variance.

    One number and not one per feature, so that no direction of a representation is favoured: a rotated or a rescaled
    representation is probed alike, and a pixel that hardly ever varies is not blown up to the size of the others
    (which would cost raw digits six points at one label per class). Columns in units of their own (a table's) should be
    standardised in ``X``, before any encoder.

    >>> scaling = Scaling.fit([[0.0, 0.0], [2.0, 4.0]])
    >>> scaling.centre.tolist(), round(scaling.scale, 3)
    ([1.0, 2.0], 1.581)
    """

    centre: Float[np.ndarray, " d"]
    """Mean of each feature."""
    scale: float
    """Root of the mean variance of the features; 1 where nothing varies."""

    @classmethod
    def fit(cls, Z: Any) -> Self:
        """The scaling of rows of shape (n, d): pretraining rows, which need no labels."""
        Z = check_features(Z, "Z", dtype=np.float64)
        scale = float(np.sqrt(Z.var(axis=0).mean()))
        return cls(Z.mean(axis=0), scale if scale > 0 else 1.0)

    def __call__(self, Z: Any) -> Float[np.ndarray, "n d"]:
        """Scaled rows, in the number type of ``Z``."""
        Z = np.asarray(Z)
        return ((Z - self.centre) / self.scale).astype(Z.dtype if Z.dtype.kind == "f" else np.float32)
