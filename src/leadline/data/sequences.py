"""Sequences for recurrent networks."""

import numpy as np
from jaxtyping import Float

from leadline.data.dataset import check_count


def running_average(
    batch: int, time: int, *, seed: int, dtype: type[np.floating] = np.float32
) -> tuple[Float[np.ndarray, "batch time 1"], Float[np.ndarray, "batch time 1"]]:
    """The running average: inputs are standard normal, the target is the mean of the inputs so far.

    ``x_t ~ N(0, 1)``, ``y_t = (x_1 + ... + x_t) / t``.

    Args:
        batch: B, sequences, at least 1.
        time: T, timesteps, at least 1.
        seed: decides the inputs.
        dtype: ``float32``, or ``float64`` for oracles (the same numbers, before rounding).

    Returns:
        Inputs x and targets y, each of shape (B, T, 1). The target of the last timestep is ``y[:, -1]``.

    >>> x, y = running_average(2, 5, seed=0)
    >>> x.shape, bool(np.allclose(y[:, -1], x.mean(axis=1)))
    ((2, 5, 1), True)
    """
    shape = (check_count(batch, "batch"), check_count(time, "time"), 1)
    x = np.random.default_rng(seed).standard_normal(shape)
    y = x.cumsum(axis=1) / np.arange(1, time + 1)[:, None]
    return x.astype(dtype), y.astype(dtype)
