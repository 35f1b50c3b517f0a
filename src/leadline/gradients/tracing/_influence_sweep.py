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

SQUARABLE = 1e100
"""The squares of norms within [1 / SQUARABLE, SQUARABLE] can be added up in float64."""

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
        layers = [_LayerRows(record, mask, first, last, matrix) for record, mask, matrix in each]
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
            rows.write_norms()
    return [matrix.summary() for matrix in matrices]


@dataclass(frozen=True, eq=False)
class _Matrix:
    """The influence matrix of one layer."""

    log_norms: Float[np.ndarray, "K T"]
    per_sample: Float[np.ndarray, "B K T"] | None

    @classmethod
    def empty(cls, time: int, batch: int, per_sample: bool) -> "_Matrix":
        """Return a matrix without influence, shape (T, T), and one for each sample if wanted."""
        by_sample = None
        if per_sample:
            by_sample = np.full((batch, time, time), -np.inf, dtype=np.float32)
        return cls(np.full((time, time), -np.inf), by_sample)

    def summary(self) -> dict[str, Any]:
        """Return the fields of a :class:`LayerInfluence`."""
        return {"log_norms": self.log_norms, "log_norms_per_sample": self.per_sample}


class _LayerRows:
    """The rows dL_k/ds_t of one layer at the current t, for the terms k of a chunk.

    Row k is on the scale ``exp(log[k])``.

    Scales follow the rows before they leave [1 / RANGE, RANGE].
    """

    def __init__(self, record: Record, mask: Tensor | None, first: int, last: int, matrix: _Matrix):
        terms = last - first
        batch = record.h.shape[1]
        self.record = record
        self.mask = mask
        self.first = first
        self.last = last
        self.matrix = matrix
        self.unit = record.h.new_zeros(terms, batch, record.state_size)
        self.log = torch.zeros(terms, batch, dtype=torch.float64, device=record.h.device)
        self.da = record.scratch(self.unit)
        self.norms = record.h.new_zeros(BLOCK, terms, batch)
        """Norms that are not in the matrix yet, the latest timestep first."""
        self.written = last
        """The lowest timestep whose norms are in the matrix."""
        self.t = last
        self.has_extreme_scale = False
        """True if a norm has left [1 / SQUARABLE, SQUARABLE]."""

    def _first_term(self, t: int) -> int:
        """Return the first term of the chunk that is not before t."""
        return max(t - self.first, 0)

    def step_back(self, t: int) -> None:
        """Step from t + 1 to t, for the terms after t."""
        if t + 1 < self.last:
            beyond = self._first_term(t + 1)
            self.record.back(t + 1, self.unit[beyond:], self.da[beyond:])

    def seed(self, unit: Tensor, log: Tensor) -> None:
        """Set the first row of each term, which is used from the timestep of the term on."""
        self.unit.copy_(unit)
        self.log.copy_(log)

    def receive(self, t: int, above: "_LayerRows") -> None:
        """Add the gradient of the layer above's inputs at t, for all terms from t on."""
        k = self._first_term(t)
        size = self.record.h.shape[-1]
        if t >= self.first:
            self.log[k] = above.log[k]
        arriving = above.da[k:] @ above.record.weights.W_x
        if above.mask is not None:
            arriving *= above.mask[t]
        factor = (above.log[k:] - self.log[k:]).exp().to(arriving.dtype).unsqueeze(-1)
        # If the gradient from the layer above is much larger, its scale is used.
        if bool((factor > RANGE).any()):
            self.write_norms()
            top = torch.maximum(above.log[k:], self.log[k:])
            self.unit[k:] *= (self.log[k:] - top).exp().to(arriving.dtype).unsqueeze(-1)
            factor = (above.log[k:] - top).exp().to(arriving.dtype).unsqueeze(-1)
            self.log[k:] = top
        self.unit[k:, :, :size].add_(arriving.mul_(factor))

    def observe(self, t: int) -> None:
        """Measure the norms at t, correct the scales, and prepare the next step back."""
        k = self._first_term(t)
        size = self.record.h.shape[-1]
        rows = self.unit
        da = self.da
        norms = self.norms[self.written - t - 1]
        self.t = t
        # The norms of terms before t stay zero.
        if k:
            rows = rows[k:]
            da = da[k:]
            norms = norms[k:]
        if size == rows.shape[-1]:
            norms_of_rows = torch.linalg.vector_norm(rows, dim=-1, out=norms)
        else:
            torch.linalg.vector_norm(rows[..., :size], dim=-1, out=norms)
            norms_of_rows = torch.linalg.vector_norm(rows, dim=-1)
        low, high = (float(bound) for bound in torch.aminmax(norms_of_rows))
        if not (low >= 1 / RANGE and high <= RANGE):
            self._normalise(k, norms_of_rows)
        if self.written - self.t == BLOCK:
            self.write_norms()
        self.record.arguments(t, rows, da)

    def _normalise(self, k: int, norms_of_rows: Tensor) -> None:
        """Normalise the rows from k on, unless only zeros are outside the range."""
        present = torch.where(norms_of_rows > 0, norms_of_rows, 1)
        low, high = (float(bound) for bound in torch.aminmax(present))
        if low < 1 / RANGE or high > RANGE:
            self.has_extreme_scale |= low < 1 / SQUARABLE or high > SQUARABLE
            self.write_norms()
            self.unit[k:].div_(present.unsqueeze(-1))
            self.log[k:].add_(present.double().log_())

    def write_norms(self) -> None:
        """Write the measured norms into the matrix, on the scale on which they were measured."""
        count = self.written - self.t
        if not count:
            return
        norms = self.norms[:count].flip(0).double()
        top = self.log.amax(-1)
        terms = slice(self.first, self.last)
        steps = slice(self.t, self.written)
        if self.matrix.per_sample is not None or self.has_extreme_scale:
            log_by_sample = norms.log().add_(self.log)
            log_squares = torch.logsumexp(2 * log_by_sample, -1)
            if self.matrix.per_sample is not None:
                by_sample = log_by_sample.permute(2, 1, 0)
                self.matrix.per_sample[:, terms, steps] = by_sample.cpu().numpy()
        else:
            weights = (2 * (self.log - top.unsqueeze(-1))).exp_()
            log_squares = norms.square_().mul_(weights).sum(-1).log_().add_(2 * top)
        self.matrix.log_norms[terms, steps] = (log_squares / 2).T.cpu().numpy()
        self.written = self.t
