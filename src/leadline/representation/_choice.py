"""Which kind to take: told by labels that are held out again and again, and a rule that was set down beforehand.

The rule: the kind of the best mean accuracy; but of kinds that fall short of it by no more than one standard error,
the one that comes first in :data:`PREFERENCE`. A few dozen labels do not tell kinds apart that are a point from one
another, and then what did best elsewhere is the better guess.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from leadline.data import Roles, row_fingerprints, split_roles
from leadline.probing import TOLERANCE, Scaling, solve_probes
from leadline.randomness import numpy_generator

DRAWS = 5
"""How often the labels that a seed may choose by are parted anew."""

HELD_OUT = 0.25
"""Share of them that is held out each time."""

PREFERENCE = ("denoising", "masked", "vanilla")
"""Which kind to take where labels cannot tell: denoising did best, or as well as any, in ``docs/guide/choosing.md``."""


def choose(kinds: Sequence[str], accuracy: Float[np.ndarray, "kinds draws"]) -> str:
    """The kind that the rule of this module takes.

    The standard error of a mean difference over draws is ``s sqrt(1/n + h / (1 - h))``, h being the share that is held
    out: draws share their rows, and many of them tell no more than their rows do.

    Args:
        kinds: their names.
        accuracy: of each on held-out rows; the draws are the same for all kinds.

    >>> choose(["vanilla", "denoising"], np.array([[0.90, 0.92, 0.88], [0.89, 0.90, 0.90]]))
    'denoising'
    >>> choose(["vanilla", "denoising"], np.array([[0.90, 0.92, 0.88], [0.80, 0.83, 0.79]]))
    'vanilla'

    Reference: Nadeau & Bengio, *Inference for the generalization error*, 2003.
    """
    best = int(accuracy.mean(axis=1).argmax())
    short = accuracy[best] - accuracy
    n = accuracy.shape[1]
    error = short.std(axis=1, ddof=1) * (1 / n + HELD_OUT / (1 - HELD_OUT)) ** 0.5
    tied = [
        kind for kind, gap, one in zip(kinds, short.mean(axis=1), error, strict=True) if gap <= one
    ]
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
    """Accuracies of probes on labels that were held out, of those that a seed does not report on.

    Args:
        encoders: kind -> one encoder for each seed.
        X: labelled rows.
        y: their classes.
        neighbours: pretraining rows, which put codes on one scale.
        roles: who reports, for each seed; the other rows are parted here.
        strengths: C of the probes.
        groups: equal for rows that stay together; by default for equal rows.
    """
    groups = row_fingerprints(X) if groups is None else groups
    draws = [_draws(y, groups, role, seed) for seed, role in enumerate(roles)]
    accuracy = np.empty((len(encoders), len(roles), DRAWS))
    for k, per_seed in enumerate(encoders.values()):
        for i, encoder in enumerate(per_seed):
            scaled = Scaling.fit(encoder.encode(neighbours))(encoder.encode(X))
            accuracy[k, i] = _accuracies(scaled, y, draws[i], float(strengths[k, i]))
    return accuracy


def _draws(
    y: np.ndarray, groups: np.ndarray, role: Roles, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on, as many in each draw, and rows that are held out; equal rows stay together."""
    open_ = np.union1d(role.probe_pool, role.probe_validation)
    shares = (0, 0, 1 - HELD_OUT, HELD_OUT, 0)
    parts = [
        split_roles(y[open_], seed=DRAWS * seed + d, fractions=shares, groups=groups[open_])
        for d in range(DRAWS)
    ]
    most = min(len(part.probe_pool) for part in parts)
    rng = numpy_generator(seed, "representation.choice")
    return [
        (open_[rng.permutation(part.probe_pool)[:most]], open_[part.probe_validation])
        for part in parts
    ]


def _accuracies(
    Z: np.ndarray, y: np.ndarray, draws: list[tuple[np.ndarray, np.ndarray]], strength: float
) -> list[Any]:
    codes, classes = torch.from_numpy(Z), torch.from_numpy(y)
    rows = torch.from_numpy(np.stack([fitted for fitted, _ in draws]))
    fits = solve_probes(codes[rows], classes[rows], int(y.max()) + 1, [strength], TOLERANCE).fits
    found = []
    for (_, held_out), W, b in zip(
        draws, fits.coefficients[:, 0], fits.intercepts[:, 0], strict=True
    ):
        found.append(
            float(((codes[held_out] @ W.T + b).argmax(1) == classes[held_out]).double().mean())
        )
    return found
