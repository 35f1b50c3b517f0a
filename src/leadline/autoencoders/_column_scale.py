"""The scale of the columns of a table before pretraining."""

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.data import means_and_spreads
from leadline.errors import InputError

COMMON_UNIT = 3.0
"""Columns share a unit if the largest spread is at most this many times the median spread."""


def column_spreads(rows: Float[np.ndarray, "n d"], scale: str = "auto") -> Float[np.ndarray, " d"]:
    """Return the divisors of the columns: standard deviations, or one number for all.

    The divisor of a constant column is 1.

    Args:
        rows: Finite numbers, shape (n, d).
        scale: ``"auto"``, ``"common"`` or ``"column"``; see
            :class:`~leadline.autoencoders.AutoencoderTransformer`.

    Raises:
        InputError: ``scale`` is unknown.

    >>> column_spreads(np.array([[0.0, 0.0, 0.0, 7.0], [2.0, 4.0, 4000.0, 7.0]])).tolist()
    [1.0, 2.0, 2000.0, 1.0]
    """
    if not isinstance(scale, str) or scale not in ("auto", "common", "column"):
        raise InputError(
            "scale must be 'column', 'common' or 'auto'",
            got=f"scale = {checks.shown(scale)}",
        )
    spreads = means_and_spreads(rows)[1]
    varies = spreads > 0
    if not varies.any():
        return np.ones_like(spreads)
    share_a_unit = spreads[varies].max() <= COMMON_UNIT * np.median(spreads[varies])
    if scale == "common" or (scale == "auto" and share_a_unit):
        return np.full_like(spreads, np.sqrt(np.square(spreads).mean()))
    return np.where(varies, spreads, 1.0)
