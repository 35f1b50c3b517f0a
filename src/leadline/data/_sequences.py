"""Sequences for recurrent networks."""

from typing import Any

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.data._dataset import float_type
from leadline.data._memory import refuse_too_large


def running_average(
    batch: int, time: int, *, seed: int, dtype: Any = np.float32
) -> tuple[Float[np.ndarray, "batch time 1"], Float[np.ndarray, "batch time 1"]]:
    """Generate the running-average task: the target is the mean of the inputs so far.

    ``x_t ~ N(0, 1)``, ``y_t = (x_1 + ... + x_t) / t``.

    Args:
        batch: B, number of sequences, at least 1.
        time: T, number of timesteps, at least 1.
        seed: seed of the inputs.
        dtype: ``float32``, or ``float64`` for tests (the same numbers before rounding).

    Returns:
        Inputs x and targets y, each of shape (B, T, 1). The target of the last timestep is ``y[:,
        -1]``.

    >>> x, y = running_average(2, 5, seed=0)
    >>> x.shape, bool(np.allclose(y[:, -1], x.mean(axis=1)))
    ((2, 5, 1), True)
    """
    batch = checks.whole_number(batch, "batch", least=1)
    time = checks.whole_number(time, "time", least=1)
    kind = float_type(dtype, "dtype")
    what = f"running_average() of {batch} sequences of {time} timesteps"
    refuse_too_large(32 * batch * time, what, cure="ask for fewer or shorter sequences")
    x = np.random.default_rng(checks.seed(seed)).standard_normal((batch, time, 1))
    y = x.cumsum(axis=1) / np.arange(1, time + 1)[:, None]
    return x.astype(kind), y.astype(kind)
