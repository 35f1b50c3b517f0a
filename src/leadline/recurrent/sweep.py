"""The adjoint sweep: dL/dh_t at every timestep, in one pass backwards, beyond the range of floating point.

With ``lambda_t = dL/dh_t`` as a row vector and ``e_t`` the part of it that does not go through ``h_{t+1}``,

    lambda_t = e_t + lambda_{t+1} J_{t+1},    J_t = dh_t/dh_{t-1}.

Every row is carried as a unit vector and the natural logarithm of its norm, so that a gradient of 1e-1000 is a number.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """Row vectors as directions and the logarithms of their norms; a zero row has direction 0 and logarithm -inf."""

    unit: Float[Tensor, "*batch H"]
    log: Float[Tensor, "*batch"]

    @classmethod
    def of(cls, values: Float[Tensor, "*batch H"], log: Float[Tensor, "..."] | float = 0.0) -> "Rows":
        """Normalise ``values exp(log)``; the logarithms may be shared by leading axes."""
        # By the largest entry first: the square of 1e-200 is not representable.
        size = values.abs().amax(-1, keepdim=True)
        scaled = values / torch.where(size > 0, size, 1)
        if bool(size.isinf().any()):
            scaled = torch.where(size.isinf(), values.isinf() * values.sign(), scaled)
        norm = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
        unit = scaled / torch.where(norm > 0, norm, 1)
        return cls(unit, (norm.double().log() + size.double().log()).squeeze(-1) + log)

    def __add__(self, other: "Rows") -> "Rows":
        top = torch.maximum(self.log, other.log)
        base = torch.where(top.isneginf(), 0, top)
        parts = (rows.unit * _factor(rows.log - base, rows.unit) for rows in (self, other))
        return Rows.of(sum(parts, torch.zeros_like(self.unit)), base)

    @classmethod
    def cat(cls, rows: "list[Rows]") -> "Rows":
        """Along the first axis."""
        return cls(torch.cat([r.unit for r in rows]), torch.cat([r.log for r in rows]))

    def part(self, first: int | None, last: int | None) -> "Rows":
        """The entries from ``first`` to ``last`` of every row, as rows of their own."""
        return Rows.of(self.unit[..., first:last], self.log)

    def __getitem__(self, index) -> "Rows":
        return Rows(self.unit[index], self.log[index])


@dataclass(frozen=True, eq=False)
class Swept:
    """What arrives at each hidden state: in total, and by way of the later states alone."""

    total: Rows
    recurrent: Rows


PullBack = Callable[[int, Tensor], Tensor]
"""``(t, rows (B, H)) -> rows J_t (B, H)``: from the state at t to the state at t - 1."""

BLOCK = 16
"""Steps between two normalisations; fewer where the range of the numbers asks for it."""


def adjoint_sweep(direct: Rows, pull_back: PullBack) -> Swept:
    """Sweep backwards through time.

    Args:
        direct: the parts e_t, shape (T, B, H).
        pull_back: the adjoint of one step of the recurrence.

    Returns:
        Totals and recurrent parts, each of shape (T, B, H).

    Reference: Werbos, *Backpropagation through time: what it does and how to do it*, 1990.
    """
    time = len(direct.log)
    carry = direct[time - 1]
    totals = [Rows(carry.unit[None], carry.log[None])]
    recurrents = [Rows(torch.zeros_like(carry.unit[None]), torch.full_like(carry.log[None], -torch.inf))]
    t, size = time - 1, BLOCK
    while t > 0:
        block = _block(direct, pull_back, carry, t, max(0, t - size)) if size > 1 else None
        size = min(2 * size, BLOCK) if block else max(size // 2, 1)
        if block is None and size > 1:
            continue
        total, recurrent = block or _step(direct, pull_back, carry, t)
        totals.append(total)
        recurrents.append(recurrent)
        t -= len(recurrent.log)
        carry = total[0]
    return Swept(Rows.cat(totals[::-1]), Rows.cat(recurrents[::-1]))


def _block(direct: Rows, pull_back: PullBack, carry: Rows, last: int, first: int) -> tuple[Rows, Rows] | None:
    """The states ``first`` to ``last - 1`` in plain arithmetic on one scale; ``None`` where its range is too small."""
    window = direct[first:last]
    base = torch.maximum(carry.log, window.log.amax(0))
    base = torch.where(base.isneginf(), 0, base)
    entering = window.unit * _factor(window.log - base, window.unit)
    row = carry.unit * _factor(carry.log - base, carry.unit)
    rows, recurrents = [row], []
    for t in range(last, first, -1):
        arriving = pull_back(t, rows[-1])
        recurrents.append(arriving)
        rows.append(entering[t - 1 - first] + arriving)
    total, recurrent = torch.stack(rows[::-1]), torch.stack(recurrents[::-1])
    limit = torch.finfo(total.dtype).max ** 0.75
    sizes, arrived = total.abs().amax(-1), recurrent.abs().amax(-1)
    # What entered, and what came of it, lies well inside the range; a zero comes of a zero and not of an underflow.
    is_safe = (_inside(sizes[-1], limit) | carry.log.isneginf()).all()
    is_safe &= (_inside(entering.abs().amax(-1), limit) | window.log.isneginf()).all()
    is_safe &= (_inside(arrived, limit) | ((arrived == 0) & (sizes[1:] == 0))).all()
    if not bool(is_safe):
        return None
    return Rows.of(total[:-1], base), Rows.of(recurrent, base)


def _inside(sizes: Tensor, limit: float) -> Tensor:
    return (sizes > 1 / limit) & (sizes < limit)


def _step(direct: Rows, pull_back: PullBack, carry: Rows, t: int) -> tuple[Rows, Rows]:
    """The state ``t - 1`` alone, whatever the scales."""
    recurrent = Rows.of(pull_back(t, carry.unit), carry.log)
    total = direct[t - 1] + recurrent
    return Rows(total.unit[None], total.log[None]), Rows(recurrent.unit[None], recurrent.log[None])


def _factor(log: Tensor, like: Tensor) -> Tensor:
    return log.exp().to(like.dtype).unsqueeze(-1)
