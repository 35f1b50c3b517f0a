"""The adjoint sweep: dL/dh_t at every timestep in one backward pass, of any magnitude.

With ``lambda_t = dL/dh_t`` as a row vector and ``e_t`` the part of it that does not go through
``h_{t+1}``,

    lambda_t = e_t + lambda_{t+1} J_{t+1},    J_t = dh_t/dh_{t-1}.

Every row is kept as a unit vector and the natural logarithm of its norm, so that a gradient of
1e-1000 is representable.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.recurrent import Adjoint, Arithmetic, PullBack, arithmetic_for

SQUARABLE = 0.375
"""A norm up to this power of the largest number is safe: its square has room to be added up."""

SAFE = 0.75
"""A number up to this power of the largest number has room for the steps of a block."""

BACKOFF = 4
"""Factor by which the number of blocks between two attempts at a longer block grows."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Row vectors as directions and logarithms of norms.

    A zero row has the direction 0 and the logarithm -inf. An infinite row has the direction of its
    infinite entries, and the logarithm inf.
    """

    unit: Float[Tensor, "*batch H"]
    log: Float[Tensor, "*batch"]

    @classmethod
    def of(
        cls, values: Float[Tensor, "*batch H"], log: Float[Tensor, "..."] | float = 0.0
    ) -> "Rows":
        """Return ``values exp(log)`` as rows; ``log`` may be broadcast over leading axes."""
        norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        scaled = values
        size = None
        limit = torch.finfo(values.dtype).max ** SQUARABLE
        is_outside = ~_is_inside(norm, limit).squeeze(-1)
        if bool(values[is_outside].any()):
            # Divide by the largest entry first, because the square of 1e-200 is not representable.
            size = values.abs().amax(-1, keepdim=True)
            scaled = values / torch.where(size > 0, size, 1)
            if bool(size.isinf().any()):
                scaled = torch.where(size.isinf(), values.isinf() * values.sign(), scaled)
            norm = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
        unit = scaled / torch.where(norm > 0, norm, 1)
        log_norm = norm.double().log()
        if size is not None:
            log_norm = log_norm + size.double().log()
        log_norm = log_norm.squeeze(-1)
        return cls(unit, torch.where(log_norm.isneginf(), log_norm, log_norm + log))

    def __add__(self, other: "Rows") -> "Rows":
        top = torch.maximum(self.log, other.log)
        base = torch.where(top.isneginf(), 0, top)
        parts = (rows.unit * _factor(rows.log, base, rows.unit) for rows in (self, other))
        return Rows.of(sum(parts, torch.zeros_like(self.unit)), base)

    @classmethod
    def cat(cls, rows: "list[Rows]") -> "Rows":
        """Concatenate rows along the first axis."""
        return cls(torch.cat([row.unit for row in rows]), torch.cat([row.log for row in rows]))

    def part(self, first: int | None, last: int | None) -> "Rows":
        """Return the entries from ``first`` to ``last`` of every row."""
        if slice(first, last).indices(self.unit.shape[-1]) == (0, self.unit.shape[-1], 1):
            return self
        return Rows.of(self.unit[..., first:last], self.log)

    def __getitem__(self, index) -> "Rows":
        return Rows(self.unit[index], self.log[index])


@dataclass(frozen=True, eq=False)
class Swept:
    """The total gradient of each state, and its part that comes through later states."""

    total: Rows
    recurrent: Rows


FIRST = 16
"""Number of steps in the first block, between two normalisations."""

LARGEST = 256
"""Largest number of steps in a block.

A block is twice as long as the one before until a block exceeds the range of the numbers. After
each failure, longer blocks are tried less often.
"""


def adjoint_sweep(direct: Rows, adjoint: Adjoint) -> Swept:
    """Sweep backwards through time.

    Args:
        direct: the parts e_t, shape (T, B, H).
        adjoint: the adjoint of one step of the recurrence.

    Returns:
        Totals and recurrent parts, each of shape (T, B, H).

    Reference: Werbos, *Backpropagation through time: what it does and how to do it*, 1990.
    """
    on = arithmetic_for(direct.unit)
    last = len(direct.log) - 1
    pull_back = adjoint(on, direct.unit[last])
    carry = direct[last]
    size = FIRST
    num_fitting = 0
    patience = 1
    nothing = torch.zeros_like(carry.unit[None])
    blocks = [
        _Block(
            carry.unit[None], carry.log[None], nothing, torch.full_like(carry.log[None], -torch.inf)
        )
    ]
    while last > 0:
        first = max(0, last - size)
        if size > 1:
            block = _sweep_block(direct[first:last], pull_back, carry, last, on)
        else:
            block = _sweep_step(direct[last - 1], pull_back, carry, last, on)
        if block is None:
            size = size // 2
            num_fitting = 0
            patience = BACKOFF * patience
            continue
        blocks.append(block)
        carry = blocks[-1].earliest()
        last = last - len(blocks[-1].log_total)
        num_fitting += 1
        if num_fitting == patience:
            size = min(2 * size, LARGEST)
            num_fitting = 0
    total, log_total, recurrent, log_recurrent = (
        torch.cat(parts[::-1]) for parts in zip(*blocks, strict=True)
    )
    return Swept(Rows.of(total, log_total), Rows.of(recurrent, log_recurrent))


class _Block(NamedTuple):
    """Rows of some timesteps, and the logarithms of their scales."""

    total: Float[Tensor, "T *batch H"]
    log_total: Float[Tensor, "T *batch"]  # noqa: F821
    recurrent: Float[Tensor, "T *batch H"]
    log_recurrent: Float[Tensor, "T *batch"]  # noqa: F821

    def earliest(self) -> Rows:
        """Return the total at the first timestep of the block."""
        return Rows.of(self.total[0], self.log_total[0])


def _sweep_block(
    window: Rows, pull_back: PullBack, carry: Rows, last: int, on: Arithmetic
) -> _Block | None:
    """Sweep through a window on one scale; return ``None`` if the range is too small."""
    limit = torch.finfo(carry.unit.dtype).max ** SAFE
    first = last - len(window.log)
    rows = Rows.cat([window, carry[None]])
    base = rows.log.amax(0)
    factor = _factor(rows.log, base, rows.unit)
    total = rows.unit * factor
    recurrent = torch.empty_like(window.unit)
    totals = on.array(total)
    recurrents = on.array(recurrent)
    row = totals[-1]
    with np.errstate(all="ignore"):
        for t in range(last - 1, first - 1, -1):
            arrived = recurrents[t - first]
            pull_back(t + 1, row, arrived)
            row = totals[t - first]
            row += arrived
    arrived = recurrent.abs().amax(-1)
    # Inputs and results must lie well inside the range. A zero must come from a zero, not from an
    # underflow.
    is_safe = ((factor.squeeze(-1) > 1 / limit) | rows.log.isneginf()).all()
    is_safe &= (_is_inside(arrived, limit) | ((arrived == 0) & (total[1:] == 0).all(-1))).all()
    if not bool(is_safe):
        return None
    log = base.expand(window.log.shape)
    return _Block(total[:-1], log, recurrent, log)


def _is_inside(sizes: Tensor, limit: float) -> Tensor:
    return (sizes > 1 / limit) & (sizes < limit)


def _sweep_step(
    direct: Rows, pull_back: PullBack, carry: Rows, last: int, on: Arithmetic
) -> _Block:
    """Sweep through the single step before ``last``, for any scales."""
    arrived = torch.empty_like(carry.unit)
    with np.errstate(all="ignore"):
        pull_back(last, on.array(carry.unit), on.array(arrived))
    recurrent = Rows.of(arrived, carry.log)
    total = direct + recurrent
    return _Block(total.unit[None], total.log[None], recurrent.unit[None], recurrent.log[None])


def _factor(log: Tensor, base: Tensor, like: Tensor) -> Tensor:
    """Return the factor from ``exp(log)`` to ``exp(base)``; 0 if only ``base`` is infinite."""
    return torch.where(log == base, 0, log - base).exp().to(like.dtype).unsqueeze(-1)
