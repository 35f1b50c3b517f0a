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
    def of(cls, values: Float[Tensor, "*batch H"], log: Float[Tensor, "*batch"] | float = 0.0) -> "Rows":
        """Normalise ``values exp(log)``."""
        # By the largest entry first: the square of 1e-200 is not representable.
        size = values.abs().amax(-1, keepdim=True)
        scaled = values / torch.where(size > 0, size, 1)
        norm = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
        unit = scaled / torch.where(norm > 0, norm, 1)
        return cls(unit, (norm.double().log() + size.double().log()).squeeze(-1) + log)

    def __add__(self, other: "Rows") -> "Rows":
        top = torch.maximum(self.log, other.log)
        base = torch.where(top.isneginf(), 0, top)
        parts = (rows.unit * (rows.log - base).exp().to(rows.unit.dtype).unsqueeze(-1) for rows in (self, other))
        return Rows.of(sum(parts, torch.zeros_like(self.unit)), base)

    def __getitem__(self, index) -> "Rows":
        return Rows(self.unit[index], self.log[index])

    @classmethod
    def stack(cls, rows: "list[Rows]") -> "Rows":
        """Along a new first axis."""
        return cls(torch.stack([r.unit for r in rows]), torch.stack([r.log for r in rows]))


@dataclass(frozen=True, eq=False)
class Swept:
    """What arrives at each hidden state: in total, and by way of the later states alone."""

    total: Rows
    recurrent: Rows


def adjoint_sweep(direct: Rows, pull_back: Callable[[int, Tensor], Tensor]) -> Swept:
    """Sweep backwards through time.

    Args:
        direct: the parts e_t, shape (T, B, H).
        pull_back: ``(t, rows (B, H)) -> rows J_t (B, H)``, from the state at t to the state at t - 1.

    Returns:
        Totals and recurrent parts, each of shape (T, B, H).

    Reference: Werbos, *Backpropagation through time: what it does and how to do it*, 1990.
    """
    time, *_ = direct.log.shape
    total = direct[time - 1]
    totals, recurrents = [total], [Rows(torch.zeros_like(total.unit), torch.full_like(total.log, -torch.inf))]
    for t in range(time - 1, 0, -1):
        recurrent = Rows.of(pull_back(t, total.unit), total.log)
        total = direct[t - 1] + recurrent
        totals.append(total)
        recurrents.append(recurrent)
    return Swept(Rows.stack(totals[::-1]), Rows.stack(recurrents[::-1]))
