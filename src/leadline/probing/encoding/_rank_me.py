"""RankMe: the number of directions that a representation uses, measured without labels."""

from typing import Any

import numpy as np

from leadline.data import exact_features

EPSILON = 1e-7
"""The number that RankMe adds to each share; the paper's value for float32."""


def rank_me(Z: Any) -> float:
    """Return the effective rank of a representation, between 1 and ``min(n, d)``.

    Formula: ``exp(-sum_k p_k ln p_k)`` with ``p_k = σ_k / sum_j σ_j + 1e-7``. The σ are the
    singular values of Z, which is neither centred nor scaled. As in the paper, the shares are not
    normalised again after the epsilon.

    The authors compare runs of one method, pretrained by joint embedding, on 25,600 rows. It is an
    open question whether RankMe also ranks autoencoders or different kinds of models;
    :func:`rank_agreement` measures it.

    Args:
        Z: codes of shape (n, d), preferably with many more rows than features.

    Raises:
        InputError: the codes are not finite.

    >>> round(rank_me(np.eye(4)), 3), round(rank_me([[1.0, 2.0], [2.0, 4.0]]), 3)
    (4.0, 1.0)

    Reference: Garrido, Balestriero, Najman & LeCun, *RankMe: Assessing the downstream performance
    of pretrained self-supervised representations by their rank*, 2023 (equations 1 and 2).
    """
    rows = exact_features(Z, "Z").astype(np.float64)
    largest = np.abs(rows).max() or 1.0
    singular_values = np.linalg.svd(rows / largest, compute_uv=False)
    share = singular_values / (singular_values.sum() or 1.0) + EPSILON
    return float(np.exp(-(share * np.log(share)).sum()))
