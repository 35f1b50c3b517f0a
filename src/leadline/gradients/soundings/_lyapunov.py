"""Lyapunov exponents: how fast the step Jacobians of a recurrent network stretch and shrink, direction by direction.

With ``J_t = ds_t/ds_{t-1}`` for the whole state s (h for RNN and GRU, h and c for the LSTM),

    lambda_i = lim 1/T ln (i-th singular value of J_T ... J_1).

The product is never formed. Orthonormal tangent vectors are pushed forward, ``Q_t R_t = J_t Q_{t-1}``, and the
logarithms of the diagonals of R are averaged.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.randomness import torch_generator
from leadline.recurrent import Record

BLOCK = 16
"""Steps between two factorisations; fewer where the tangent vectors would turn too close to one another."""

CONDITION = 1e8
"""How far apart the stretches of one block may lie in float64, of whose 16 digits half are then left."""

ROUNDING = 1e-14
"""A stretch below this share of a vector's length is what rounding leaves of zero."""

SEGMENTS = 10
"""Parts of a sequence whose exponents are compared for the standard error."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Lyapunov exponents in nats per timestep, those with the largest mean over the batch first."""

    exponents: Float[np.ndarray, "B K"]
    """By sample, in the order of the batch; ``-inf`` for a direction that is lost altogether, NaN for a sample that
    ends before the transient.
    """
    error: Float[np.ndarray, " K"]
    """Finite-size error of the mean over the samples that keep the direction; infinite where one step was all there
    was.
    """
    steps: Float[np.ndarray, " B"]
    """Timesteps that were averaged over."""


def lyapunov(
    record: Record, vectors: int, transient: int, lengths: Tensor | None = None, *, seed: int = 0
) -> Spectrum:
    """Lyapunov exponents along a recorded pass, in float64.

    All samples and tangent vectors of a timestep share one matrix product with ``W_h``. Vectors are made orthonormal
    every few steps, at every step where they stretch very unequally. A stretch that cannot be told from zero beside the
    length of its vector is zero, so that dead directions read ``-inf`` and no rounding error.

    The finite-size error is the larger of two: the standard error over samples and parts of the sequence, and half of
    what the second half of the sequence differs from the first.

    Args:
        record: one layer in one direction.
        vectors: K, how many of the largest exponents, 1 to the size of the state.
        transient: steps at the beginning during which the vectors turn into place and nothing is counted.
        lengths: steps of each sample, shape (B,), where they differ.
        seed: draws the first tangent vectors.

    Reference: Benettin et al., *Lyapunov characteristic exponents for smooth dynamical systems*, 1980.
    """
    record = record.double()
    time, batch = record.h.shape[:2]
    draw = torch_generator(seed, "recurrent.lyapunov")
    q = torch.randn(batch, record.state_size, vectors, generator=draw, dtype=torch.float64).to(
        record.h.device
    )
    q = torch.linalg.qr(q)[0].mT
    ends = torch.full((batch,), time) if lengths is None else lengths.cpu()
    # Counting starts after the transient, and a part ends where a sample does.
    stops = {
        0,
        transient,
        *np.linspace(transient, time, SEGMENTS + 1).round().astype(int).tolist(),
        *ends.tolist(),
    }
    grown, steps = [], []
    for first, last in pairwise(sorted(stops)):
        q, logs = _stretch(record, q, first, last)
        if first >= transient:
            present = (ends >= last).unsqueeze(1)
            grown.append(torch.where(present, logs, 0))
            steps.append((last - first) * present[:, 0])
    return _summary(torch.stack(grown).numpy(), torch.stack(steps).double().numpy())


def _stretch(record: Record, q: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Push vectors from ``first`` to ``last``: orthonormal vectors (B, K, S) and the logarithms of growth (B, K)."""
    logs = q.new_zeros(q.shape[:2])
    t, size = first, BLOCK
    while t < last:
        size = min(size, last - t)
        pushed = q
        for step in range(t, t + size):
            pushed = record.push_forward(step, pushed)
        new, r = torch.linalg.qr(pushed.mT)
        stretch = r.diagonal(dim1=-2, dim2=-1).abs()
        # Not where vectors turned too close to one another; nor after an overflow, which leaves NaN.
        is_usable = bool((stretch.amax(-1) <= CONDITION * stretch.amin(-1)).all())
        if size > 1 and not is_usable:
            size //= 2
            continue
        length = torch.linalg.vector_norm(pushed, dim=-1)
        stretch = torch.where(stretch > ROUNDING * length, stretch, 0)
        q, logs, t = new.mT, logs + stretch.log(), t + size
        size = min(2 * size, BLOCK)
    return q, logs.cpu()


def mean_of_kept(exponents: Float[np.ndarray, "B K"]) -> Float[np.ndarray, " K"]:
    """The mean over the samples that keep a direction; ``-inf`` where more than half of the samples lose it.

    >>> mean_of_kept(np.array([[0.1, -1.0], [0.3, -np.inf], [-np.inf, -np.inf]]))
    array([ 0.2, -inf])
    """
    samples = (~np.isnan(exponents[:, 0])).sum()
    is_kept = np.isfinite(exponents)
    kept = is_kept.sum(axis=0)
    means = np.where(is_kept, exponents, 0).sum(axis=0) / np.maximum(kept, 1)
    return np.where((kept > 0) & (2 * kept >= samples), means, -np.inf)


def _summary(grown: Float[np.ndarray, "N B K"], steps: Float[np.ndarray, "N B"]) -> Spectrum:
    """Exponents of every sample and the error of their mean, from the growth in every part of the sequence.

    The vectors of a finite sequence may have grown in another order than they were drawn, so they are sorted by what
    the batch shows. Sorting each sample alone would raise the mean of exponents that lie close to one another. A sample
    that loses a direction has no part in that direction's error.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        total = steps.sum(0)
        exponents = grown.sum(0) / total[:, None]
        order = np.argsort(-mean_of_kept(exponents), kind="stable")
        exponents = exponents[:, order]
        grown = grown[..., order]
        is_kept = np.isfinite(exponents)
        counted = steps[..., None] * is_kept
        growth = np.where(is_kept, grown, 0)
        all_steps = counted.sum((0, 1))
        rates = np.where(counted > 0, growth / counted, 0)
        mean = growth.sum((0, 1)) / all_steps
        parts = (counted > 0).sum((0, 1))
        weights = counted / all_steps
        spread = np.sqrt((weights * (rates - mean) ** 2).sum((0, 1)) / np.maximum(parts - 1, 1))
        half = len(grown) // 2
        early = growth[:half].sum((0, 1)) / counted[:half].sum((0, 1))
        late = growth[half:].sum((0, 1)) / counted[half:].sum((0, 1))
        drift = np.nan_to_num(np.abs(late - early) / 2)
        error = np.maximum(spread, drift) if half else np.full(grown.shape[-1], np.inf)
    return Spectrum(exponents, np.where(is_kept.any(0), error, 0.0), total)
