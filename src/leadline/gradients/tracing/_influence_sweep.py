"""The sweep that computes all rows of an influence matrix at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.gradients.tracing._sweep import Rows
from leadline.recurrent import Record


def summarise(log: Float[np.ndarray, "K T B"], per_sample: bool) -> dict[str, Any]:
    """Return the fields of a :class:`LayerInfluence` from the logarithms of each sample's norms."""
    present = np.where(np.isnan(log), -np.inf, log)
    with np.errstate(divide="ignore"):
        return {
            "log_norms": np.logaddexp.reduce(2 * present, axis=-1) / 2,
            "log_norms_per_sample": np.moveaxis(log, -1, 0).copy() if per_sample else None,
        }


CACHE = 8 * 1024**2
"""Bytes of rows that are swept together: they fit into a cache and keep the products large."""

LEAST_ROWS = 1024
"""Smallest number of rows of an efficient matrix product."""

RANGE = 1e6
"""Rows are normalised before their norm leaves [1 / RANGE, RANGE].

In float32, one more step can then shrink a row about 1e13 times before it becomes zero.
"""

BLOCK = 16
"""Number of timesteps whose norms are converted into logarithms together."""


def influence_sweep(
    records: Sequence[Record],
    masks: Sequence[Tensor | None],
    seeds: Float[Tensor, "T B S"],
    per_sample: bool,
) -> list[dict[str, Any]]:
    """Sweep all loss terms at once through a stack of forward layers, with seeds in the top layer.

    At timestep t the rows of the terms k >= t are stacked, so that each step is one elementwise
    stage and one matrix product. A layer of G gates takes G T (T - 1) B H² floating-point
    operations, the fewest of any method that forms these vectors. Terms are swept in chunks that
    fit into the cache. Besides the matrix, one row for each term of a chunk is kept.

    Args:
        records: the layers' forward passes, bottom first.
        masks: the dropout factors of each layer's input, shape (T, B, I), or ``None``.
        seeds: dL_k/dh_k in the top layer, shape (T, B, S).
        per_sample: as in :class:`LayerInfluence`.

    Returns:
        The summary of each layer, bottom first.
    """
    time, batch = seeds.shape[:2]
    matrices = [_Matrix.empty(time, batch, per_sample) for _ in records]
    start = Rows.of(seeds)
    log = torch.where(start.log.isneginf(), 0, start.log)
    size = (
        max(record.state_size + len(record.weights.W_x) for record in records)
        * seeds.element_size()
    )
    chunk = max(CACHE // (size * batch), LEAST_ROWS // batch, 1) if batch else time
    for first in range(0, time, chunk):
        last = min(first + chunk, time)
        each = zip(records, masks, matrices, strict=True)
        layers = [_Rows(record, mask, first, last, into) for record, mask, into in each]
        layers[-1].seed(start.unit[first:last], log[first:last])
        for t in range(last - 1, -1, -1):
            above = None
            for rows in reversed(layers):
                rows.step_back(t)
                if above is not None:
                    rows.receive(t, above)
                rows.observe(t)
                above = rows
        for rows in layers:
            rows.note()
    return [matrix.summary() for matrix in matrices]


@dataclass(frozen=True, eq=False)
class _Matrix:
    """The influence matrix of one layer."""

    log_norms: Float[np.ndarray, "K T"]
    per_sample: Float[np.ndarray, "B K T"] | None

    @classmethod
    def empty(cls, time: int, batch: int, per_sample: bool) -> "_Matrix":
        alone = np.full((batch, time, time), -np.inf, dtype=np.float32) if per_sample else None
        return cls(np.full((time, time), -np.inf), alone)

    def summary(self) -> dict[str, Any]:
        """Return the fields of a :class:`LayerInfluence`."""
        return {"log_norms": self.log_norms, "log_norms_per_sample": self.per_sample}


class _Rows:
    """The rows dL_k/ds_t of one layer at the current t, for the terms k of a chunk.

    Row k is on the scale ``exp(log[k])``.

    Scales follow the rows before they leave [1 / RANGE, RANGE].
    """

    def __init__(self, record: Record, mask: Tensor | None, first: int, last: int, into: _Matrix):
        terms = last - first
        batch = record.h.shape[1]
        self.record = record
        self.mask = mask
        self.first = first
        self.last = last
        self.into = into
        self.unit = record.h.new_zeros(terms, batch, record.state_size)
        self.log = torch.zeros(terms, batch, dtype=torch.float64, device=record.h.device)
        self.da = record.scratch(self.unit)
        self.seen = record.h.new_zeros(BLOCK, terms, batch)
        self.noted = last
        """The lowest timestep whose norms are in the matrix; ``seen`` holds those below."""
        self.t = last
        self.is_far = False
        """True if a norm has left the range whose squares float64 can hold."""

    def _from(self, t: int) -> int:
        """Return the first term of the chunk that is not before t."""
        return max(t - self.first, 0)

    def step_back(self, t: int) -> None:
        """Step from t + 1 to t, for the terms after t."""
        if t + 1 < self.last:
            beyond = self._from(t + 1)
            self.record.back(t + 1, self.unit[beyond:], self.da[beyond:])

    def seed(self, unit: Tensor, log: Tensor) -> None:
        """Set the first row of each term, which is used from the timestep of the term on."""
        self.unit.copy_(unit)
        self.log.copy_(log)

    def receive(self, t: int, above: "_Rows") -> None:
        """Add the gradient of the layer above's inputs at t, for all terms from t on."""
        k = self._from(t)
        size = self.record.h.shape[-1]
        if t >= self.first:
            self.log[k] = above.log[k]
        handed = above.da[k:] @ above.record.weights.W_x
        if above.mask is not None:
            handed *= above.mask[t]
        factor = (above.log[k:] - self.log[k:]).exp().to(handed.dtype).unsqueeze(-1)
        # If the gradient from the layer above is much larger, its scale is used.
        if bool((factor > RANGE).any()):
            self.note()
            top = torch.maximum(above.log[k:], self.log[k:])
            self.unit[k:] *= (self.log[k:] - top).exp().to(handed.dtype).unsqueeze(-1)
            factor = (above.log[k:] - top).exp().to(handed.dtype).unsqueeze(-1)
            self.log[k:] = top
        self.unit[k:, :, :size].add_(handed.mul_(factor))

    def observe(self, t: int) -> None:
        """Measure the norms at t, correct the scales, and prepare the next step back."""
        k = self._from(t)
        size = self.record.h.shape[-1]
        rows = self.unit
        da = self.da
        seen = self.seen[self.noted - t - 1]
        self.t = t
        # The norms of terms before t stay zero.
        if k:
            rows = rows[k:]
            da = da[k:]
            seen = seen[k:]
        if size == rows.shape[-1]:
            whole = torch.linalg.vector_norm(rows, dim=-1, out=seen)
        else:
            torch.linalg.vector_norm(rows[..., :size], dim=-1, out=seen)
            whole = torch.linalg.vector_norm(rows, dim=-1)
        low, high = (float(bound) for bound in torch.aminmax(whole))
        if not (low >= 1 / RANGE and high <= RANGE):
            self._mend(k, whole)
        if self.noted - self.t == BLOCK:
            self.note()
        self.record.arguments(t, rows, da)

    def _mend(self, k: int, whole: Tensor) -> None:
        """Normalise the rows from k on, unless only zeros are outside the range."""
        present = torch.where(whole > 0, whole, 1)
        low, high = (float(bound) for bound in torch.aminmax(present))
        if low < 1 / RANGE or high > RANGE:
            self.is_far |= low < 1e-100 or high > 1e100
            self.note()
            self.unit[k:].div_(present.unsqueeze(-1))
            self.log[k:].add_(present.double().log_())

    def note(self) -> None:
        """Write the measured norms into the matrix, on the scale on which they were measured."""
        count = self.noted - self.t
        if not count:
            return
        seen = self.seen[:count].flip(0).double()
        top = self.log.amax(-1)
        terms = slice(self.first, self.last)
        steps = slice(self.t, self.noted)
        if self.into.per_sample is not None or self.is_far:
            alone = seen.log().add_(self.log)
            whole = torch.logsumexp(2 * alone, -1)
            if self.into.per_sample is not None:
                self.into.per_sample[:, terms, steps] = alone.permute(2, 1, 0).cpu().numpy()
        else:
            weights = (2 * (self.log - top.unsqueeze(-1))).exp_()
            whole = seen.square_().mul_(weights).sum(-1).log_().add_(2 * top)
        self.into.log_norms[terms, steps] = (whole / 2).T.cpu().numpy()
        self.noted = self.t
