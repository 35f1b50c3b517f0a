"""Lyapunov exponents: the rates at which a recurrent network stretches or shrinks each direction.

With ``J_t = ds_t/ds_{t-1}`` for the whole state s (h for RNN and GRU, h and c for the LSTM),

    lambda_i = lim 1/T ln (i-th singular value of J_T ... J_1).

The product is never formed. Orthonormal tangent vectors are pushed forward,
``Q_t R_t = J_t Q_{t-1}``, and the logarithms of the diagonals of R are averaged.
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
"""Largest number of steps between two factorisations; fewer if tangent vectors nearly align."""

CONDITION = 1e8
"""Largest ratio of two stretches in one block; it leaves half of the 16 digits of float64."""

ROUNDING = 1e-14
"""A stretch below this share of the vector's length counts as zero, since rounding explains it."""

SEGMENTS = 10
"""Number of parts of a sequence whose exponents are compared for the standard error."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Lyapunov exponents in nats per timestep; the largest mean over the batch comes first."""

    exponents: Float[np.ndarray, "B K"]
    """The exponents by sample, in the order of the batch.

    ``-inf`` marks a direction that is lost, NaN a sample that ends before the transient does.
    """
    error: Float[np.ndarray, " K"]
    """Finite-size error of the mean over the samples that keep the direction.

    It is infinite if only one step was counted.
    """
    steps: Float[np.ndarray, " B"]
    """Number of timesteps in the average of each sample."""


def lyapunov(
    record: Record, vectors: int, transient: int, lengths: Tensor | None = None, *, seed: int = 0
) -> Spectrum:
    """Return the Lyapunov exponents along a recorded pass, in float64.

    All samples and tangent vectors of a timestep share one matrix product with ``W_h``. The vectors
    are made orthonormal every few steps, or at every step if they stretch very unequally. A stretch
    that is as small as a rounding error of its vector counts as zero, so that a dead direction has
    the exponent ``-inf`` and not the logarithm of a rounding error.

    The finite-size error is the larger of two numbers: the standard error over samples and parts of
    the sequence, and half of the difference between the two halves of the sequence.

    Args:
        record: one layer in one direction.
        vectors: number K of the largest exponents, from 1 to the size of the state.
        transient: number of first steps that are not counted, while the vectors turn into the
            directions of the largest exponents.
        lengths: number of steps of each sample, shape (B,); by default all samples are complete.
        seed: seed of the first tangent vectors.

    Reference: Benettin et al., *Lyapunov characteristic exponents for smooth dynamical systems*,
    1980.
    """
    record = record.double()
    time, batch = record.h.shape[:2]
    draw = torch_generator(seed, "recurrent.lyapunov")
    q = torch.randn(batch, record.state_size, vectors, generator=draw, dtype=torch.float64).to(
        record.h.device
    )
    q = torch.linalg.qr(q)[0].mT
    ends = torch.full((batch,), time) if lengths is None else lengths.cpu()
    # Counting starts after the transient, and the end of a sample also ends a part.
    stops = {
        0,
        transient,
        *np.linspace(transient, time, SEGMENTS + 1).round().astype(int).tolist(),
        *ends.tolist(),
    }
    grown = []
    steps = []
    for first, last in pairwise(sorted(stops)):
        q, logs = _stretch(record, q, first, last)
        if first >= transient:
            present = (ends >= last).unsqueeze(1)
            grown.append(torch.where(present, logs, 0))
            steps.append((last - first) * present[:, 0])
    return _summary(torch.stack(grown).numpy(), torch.stack(steps).double().numpy())


def _stretch(record: Record, q: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Push vectors from ``first`` to ``last``.

    Returns:
        The orthonormal vectors, shape (B, K, S), and the logarithms of their growth, shape (B, K).
    """
    logs = q.new_zeros(q.shape[:2])
    t = first
    size = BLOCK
    while t < last:
        size = min(size, last - t)
        pushed = q
        for step in range(t, t + size):
            pushed = record.push_forward(step, pushed)
        new, r = torch.linalg.qr(pushed.mT)
        stretch = r.diagonal(dim1=-2, dim2=-1).abs()
        # A block is unusable if its vectors nearly align, or after an overflow, which leaves NaN.
        is_usable = bool((stretch.amax(-1) <= CONDITION * stretch.amin(-1)).all())
        if size > 1 and not is_usable:
            size //= 2
            continue
        length = torch.linalg.vector_norm(pushed, dim=-1)
        stretch = torch.where(stretch > ROUNDING * length, stretch, 0)
        q = new.mT
        logs = logs + stretch.log()
        t += size
        size = min(2 * size, BLOCK)
    return q, logs.cpu()


def mean_of_kept(exponents: Float[np.ndarray, "B K"]) -> Float[np.ndarray, " K"]:
    """Return the mean over the samples that keep a direction; ``-inf`` if more than half lose it.

    >>> mean_of_kept(np.array([[0.1, -1.0], [0.3, -np.inf], [-np.inf, -np.inf]]))
    array([ 0.2, -inf])
    """
    samples = (~np.isnan(exponents[:, 0])).sum()
    is_kept = np.isfinite(exponents)
    kept = is_kept.sum(axis=0)
    means = np.where(is_kept, exponents, 0).sum(axis=0) / np.maximum(kept, 1)
    return np.where((kept > 0) & (2 * kept >= samples), means, -np.inf)


def _summary(grown: Float[np.ndarray, "N B K"], steps: Float[np.ndarray, "N B"]) -> Spectrum:
    """Return the exponents of every sample and the error of their mean.

    In a finite sequence the first vector need not grow most, so the directions are sorted by their
    mean over the batch. Sorting each sample alone would raise the mean of exponents that are close
    to one another. A sample that loses a direction does not count in that direction's error.

    Args:
        grown: logarithms of the growth in each of the N parts of the sequence.
        steps: number of steps of each sample in each part.
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
