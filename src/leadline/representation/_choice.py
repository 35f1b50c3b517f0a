"""The choice of a kind of autoencoder by repeatedly held-out labels and a fixed rule.

The rule: take the kind with the best mean accuracy; but of the kinds within one standard error of
it, take the first in :data:`PREFERENCE`. A few dozen labels cannot separate kinds that differ by a
point, and then the kind that did best on other data is the better guess.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from leadline.data import Roles, row_fingerprints, split_roles
from leadline.probing import LogisticSettings, Scaling, fit_probes
from leadline.randomness import numpy_generator

DRAWS = 5
"""Number of random splits of the labels by which a seed chooses."""

HELD_OUT = 0.25
"""Share of these labels that each split holds out."""

PREFERENCE = ("denoising", "masked", "vanilla")
"""Order of preference among kinds that the labels do not separate.

Denoising did best, or as well as any other kind, in ``docs/guide/choosing.md``.
"""

Split = tuple[np.ndarray, np.ndarray]
"""Row numbers to fit on, and row numbers that are held out."""


def choose(kinds: Sequence[str], accuracy: Float[np.ndarray, "kinds draws"]) -> str:
    """Return the kind that the rule of this module chooses.

    Formula: the standard error of a mean difference over n draws is
    ``s sqrt(1/n + h / (1 - h))``, where h is the held-out share. Draws share their rows, so that
    many draws carry no more information than their rows.

    Args:
        kinds: names of the kinds.
        accuracy: accuracy of each kind on held-out rows; the draws are the same for all kinds.

    >>> choose(["vanilla", "denoising"], np.array([[0.90, 0.92, 0.88], [0.89, 0.90, 0.90]]))
    'denoising'
    >>> choose(["vanilla", "denoising"], np.array([[0.90, 0.92, 0.88], [0.80, 0.83, 0.79]]))
    'vanilla'

    Reference: Nadeau & Bengio, *Inference for the generalization error*, 2003.
    """
    best = int(accuracy.mean(axis=1).argmax())
    deficit = accuracy[best] - accuracy
    n = accuracy.shape[1]
    errors = deficit.std(axis=1, ddof=1) * (1 / n + HELD_OUT / (1 - HELD_OUT)) ** 0.5
    is_tied = deficit.mean(axis=1) <= errors
    tied = [kind for kind, tie in zip(kinds, is_tied, strict=True) if tie]
    return min(tied, key=PREFERENCE.index)


def held_out_accuracy(
    encoders: Mapping[str, Sequence[Any]],
    X: np.ndarray,
    y: np.ndarray,
    neighbours: np.ndarray,
    roles: Sequence[Roles],
    strengths: Float[np.ndarray, "kinds seeds"],
    groups: np.ndarray | None = None,
) -> Float[np.ndarray, "kinds seeds draws"]:
    """Return accuracies of probes on held-out labels, without the test rows of each seed.

    Args:
        encoders: kind -> one encoder for each seed.
        X: labelled rows.
        y: class of each labelled row.
        neighbours: pretraining rows that determine the scale of codes.
        roles: roles of each seed; the rows outside the test role are split here.
        strengths: C of the probes.
        groups: group of each row; rows of one group stay together. By default equal rows do.
    """
    groups = row_fingerprints(X) if groups is None else groups
    splits = [_splits(y, groups, role, seed) for seed, role in enumerate(roles)]
    accuracy = np.empty((len(encoders), len(roles), DRAWS))
    for k, per_seed in enumerate(encoders.values()):
        for i, encoder in enumerate(per_seed):
            scaling = Scaling.fit(encoder.encode(neighbours))
            scaled = scaling(encoder.encode(X))
            accuracy[k, i] = _accuracies(scaled, y, splits[i], float(strengths[k, i]))
    return accuracy


def _splits(y: np.ndarray, groups: np.ndarray, role: Roles, seed: int) -> list[Split]:
    """Return the splits of one seed; all of them fit on the same number of rows."""
    rows = np.union1d(role.probe_pool, role.probe_validation)
    shares = (0, 0, 1 - HELD_OUT, HELD_OUT, 0)
    parts = [
        split_roles(y[rows], seed=DRAWS * seed + draw, fractions=shares, groups=groups[rows])
        for draw in range(DRAWS)
    ]
    num_fitted = min(len(part.probe_pool) for part in parts)
    rng = numpy_generator(seed, "representation.choice")
    return [
        (rows[rng.permutation(part.probe_pool)[:num_fitted]], rows[part.probe_validation])
        for part in parts
    ]


def _accuracies(Z: np.ndarray, y: np.ndarray, splits: list[Split], strength: float) -> list[float]:
    """Return the held-out accuracy of each split."""
    codes = torch.from_numpy(Z)
    classes = torch.from_numpy(y)
    fitted = torch.from_numpy(np.stack([rows for rows, _ in splits]))
    settings = LogisticSettings(strength)
    fits = fit_probes(codes[fitted], classes[fitted], int(y.max()) + 1, settings).fits
    accuracies = []
    for i, (_, held_out) in enumerate(splits):
        scores = codes[held_out] @ fits.coefficients[i, 0].T + fits.intercepts[i, 0]
        is_right = scores.argmax(1) == classes[held_out]
        accuracies.append(float(is_right.double().mean()))
    return accuracies
