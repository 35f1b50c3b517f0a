"""RankMe: how many directions a representation uses, told without labels."""

from typing import Any

import numpy as np

from leadline.probing.probes._scaling import exact_features

EPSILON = 1e-7
"""What RankMe adds to each share: the paper's number for float32."""


def rank_me(Z: Any) -> float:
    """The effective rank of a representation: between 1 and the number of features, or of rows if there are fewer.

    Formula: ``exp(-sum_k p_k ln p_k)`` with ``p_k = σ_k / sum_j σ_j + 1e-7``, σ being the singular values of Z as it
    is, neither centred nor scaled. The shares are not normalised again after the epsilon, as in the paper. Its authors
    compare runs of one method, pretrained by joint embedding, on 25,600 rows. That it tells something of autoencoders,
    or across kinds, is a hypothesis: :func:`rank_agreement` tests it.

    Args:
        Z: codes of shape (n, d), best of many more rows than features.

    Raises:
        InputError: codes that are not finite.

    >>> round(rank_me(np.eye(4)), 3), round(rank_me([[1.0, 2.0], [2.0, 4.0]]), 3)
    (4.0, 1.0)

    Reference: Garrido, Balestriero, Najman & LeCun, *RankMe: Assessing the downstream performance of pretrained
    self-supervised representations by their rank*, 2023 (equations 1 and 2).
    """
    rows = exact_features(Z, "Z").astype(np.float64)
    largest = np.abs(rows).max() or 1.0
    sizes = np.linalg.svd(rows / largest, compute_uv=False)
    share = sizes / (sizes.sum() or 1.0) + EPSILON
    return float(np.exp(-(share * np.log(share)).sum()))
