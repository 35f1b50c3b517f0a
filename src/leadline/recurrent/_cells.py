"""Each recurrent cell's equations and their adjoints, in closed form, on the numbers of a recorded forward pass.

A record holds one pass through one layer in one direction, its states by the order in which they were made. A row
of the adjoint is dL/ds_t for the whole state s: h for RNN and GRU, h and c side by side for the LSTM. With ``da`` for
the gradient with respect to the gates' arguments, every cell's step back is one elementwise stage and one product,

    dL/dh_{t-1} = da W_h (+ what bypasses the gates),    dL/dx_t = da W_x.

All were checked against finite differences. Biases: PyTorch's two are kept apart where they act apart, in the GRU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.recurrent._arithmetic import IN_TORCH, Arithmetic, PullBack

Kind = Literal["tanh", "relu", "identity", "lstm", "gru"]

# Derivative of the nonlinearity, from its value: h = sigma(a) -> sigma'(a).
SLOPE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda h: h.square().neg_().add_(1),
    "relu": lambda h: (h > 0).to(h.dtype),
    "identity": torch.ones_like,
}


@dataclass(frozen=True, eq=False)
class Weights:
    """The parameters of one layer in one direction; gates are stacked: i, f, g, o for the LSTM, r, z, n for the GRU."""

    kind: Kind
    W_x: Float[Tensor, "GH I"]
    W_h: Float[Tensor, "GH P"]
    b_x: Float[Tensor, " GH"] | float = 0.0
    b_h: Float[Tensor, " GH"] | float = 0.0
    W_p: Float[Tensor, "P H"] | None = None
    """The LSTM's projection of its output; ``None`` for none."""

    @property
    def gates(self) -> int:
        """How many gates share a row of ``W_x``."""
        return {"lstm": 4, "gru": 3}.get(self.kind, 1)

    @property
    def hidden_size(self) -> int:
        """Number of hidden units H, before any projection."""
        return len(self.W_h) // self.gates


@dataclass(frozen=True, eq=False)
class Record:
    """One pass through one layer in one direction."""

    weights: Weights
    h: Float[Tensor, "T B P"]
    """Hidden states h_1 … h_T."""
    h_before: Float[Tensor, "T B P"]
    """Hidden states h_0 … h_{T-1}."""

    @property
    def state_size(self) -> int:
        """Length of a row of the adjoint."""
        return self.h.shape[-1]

    def arguments(
        self, t: int | slice, rows: Float[Tensor, "*rows S"], da: Float[Tensor, "*rows GH"]
    ) -> None:
        """Write into ``da`` what the gates' arguments at ``t`` receive; an LSTM's rows take in what c_t receives."""
        raise AssertionError("every cell has an adjoint of its own")

    def back(self, t: int, rows: Float[Tensor, "*rows S"], da: Float[Tensor, "*rows GH"]) -> None:
        """Turn ``rows``, in place, into those of the state at t - 1; ``da`` is used up."""
        raise AssertionError("every cell has an adjoint of its own")

    def push_forward(self, t: int, tangents: Float[Tensor, "B K S"]) -> Float[Tensor, "B K S"]:
        """``ds_t/ds_{t-1} v`` for K tangent vectors v of each sample: from the state at t - 1 to the state at t."""
        raise AssertionError("every cell has a tangent of its own")

    def adjoint(self, on: Arithmetic) -> PullBack:
        """``arguments`` and ``back`` in the operations of a scan, which leaves its rows as they are."""
        raise AssertionError("every cell has an adjoint of its own")

    def pull_back(self, t: int, rows: Float[Tensor, "*rows S"]) -> Float[Tensor, "*rows S"]:
        """``rows ds_t/ds_{t-1}``: from the state at t to the state at t - 1; the last axis but one is the batch."""
        return self.adjoint(IN_TORCH)(t, rows)

    def to_recurrent(self, da: Float[Tensor, "*more T B GH"]) -> Float[Tensor, "*more T B GH"]:
        """What ``W_h h_{t-1}`` receives, from what the gates' arguments receive, for all timesteps at once."""
        return da

    def to_input(self, rows: Float[Tensor, "*more T B S"]) -> Float[Tensor, "*more T B I"]:
        """``rows ds_t/dx_t``, for all timesteps at once."""
        rows, da = rows.clone(memory_format=torch.contiguous_format), self.scratch(rows)
        self.arguments(slice(None), rows, da)
        return da @ self.weights.W_x

    def to_cells(self, rows: Float[Tensor, "*more T B S"]) -> Float[Tensor, "*more T B C"]:
        """``rows ds_t/dc_t``, what the cell states receive, for all timesteps at once; of no width without cells."""
        return rows[..., self.h.shape[-1] :]

    def scratch(self, rows: Float[Tensor, "*rows S"]) -> Float[Tensor, "*rows GH"]:
        """Room for ``da``."""
        return rows.new_empty(*rows.shape[:-1], len(self.weights.W_x))


@dataclass(frozen=True, eq=False)
class RNNRecord(Record):
    """``h_t = sigma(a_t)``, ``a_t = W_h h_{t-1} + W_x x_t + b``; ``J_t = D(sigma'(a_t)) W_h``."""

    slopes: Float[Tensor, "T B H"]

    def arguments(self, t: int | slice, rows: Tensor, da: Tensor) -> None:
        """``da = rows sigma'(a_t)``."""
        torch.mul(rows, self.slopes[t], out=da)

    def adjoint(self, on: Arithmetic) -> PullBack:
        """``rows sigma'(a_t) W_h``."""
        slopes, W_h = on.of(self.slopes), on.of(self.weights.W_h)
        return lambda t, rows: (rows * slopes[t]) @ W_h

    def push_forward(self, t: int, tangents: Tensor) -> Tensor:
        """``sigma'(a_t) W_h v``."""
        return tangents @ self.weights.W_h.T * self.slopes[t].unsqueeze(1)

    def back(self, t: int, rows: Tensor, da: Tensor) -> None:
        """``rows = da W_h``."""
        torch.mm(da.flatten(0, -2), self.weights.W_h, out=rows.view(-1, rows.shape[-1]))


@dataclass(frozen=True, eq=False)
class LSTMRecord(Record):
    """``c_t = f c_{t-1} + i g``, ``m_t = o tanh(c_t)``, ``h_t = m_t`` or, projected, ``W_p m_t``; the state is (h, c).

    With ``dm`` for dL/dm_t and ``dc' = dc + dm o (1 - tanh² c_t)``, the gates' arguments receive
    ``[dc' g i(1-i), dc' c_{t-1} f(1-f), dc' i (1-g²), dm tanh(c_t) o(1-o)]`` and c_{t-1} receives ``dc' f``.

    Reference: Hochreiter & Schmidhuber, *Long short-term memory*, 1997; Gers et al., 2000 (the forget gate).
    """

    c: Float[Tensor, "T B H"]
    f: Float[Tensor, "T B H"]
    to_cell: Float[Tensor, "T B H"]
    """``o (1 - tanh² c_t)``."""
    to_gates: Float[Tensor, "T B 3 H"]
    """What ``dc'`` is multiplied by on its way to the arguments of i, f and g."""
    to_output: Float[Tensor, "T B H"]
    """``tanh(c_t) o (1 - o)``."""

    @property
    def state_size(self) -> int:
        """h and c."""
        return self.h.shape[-1] + self.c.shape[-1]

    def arguments(self, t: int | slice, rows: Tensor, da: Tensor) -> None:
        """``da = [dc' …, dm …]``; the rows' second part becomes ``dc'``."""
        P, H = self.h.shape[-1], self.c.shape[-1]
        dm, dc = self._to_output(rows[..., :P]), rows[..., P:]
        dc.addcmul_(dm, self.to_cell[t])
        torch.mul(dc.unsqueeze(-2), self.to_gates[t], out=da[..., : 3 * H].unflatten(-1, (3, H)))
        torch.mul(dm, self.to_output[t], out=da[..., 3 * H :])

    def adjoint(self, on: Arithmetic) -> PullBack:
        """``[da W_h, dc' f]``."""
        P, weights = self.h.shape[-1], self.weights
        W_h, W_p = on.of(weights.W_h), None if weights.W_p is None else on.of(weights.W_p)
        # What dc' and dm are multiplied by, thrice and once.
        to_arguments = torch.cat((self.to_gates.flatten(-2), self.to_output), -1)
        to_arguments, to_cell, f = (on.of(part) for part in (to_arguments, self.to_cell, self.f))

        def pull_back(t: int, rows: Any) -> Any:
            dm = rows[..., :P] if W_p is None else rows[..., :P] @ W_p
            dc = rows[..., P:] + dm * to_cell[t]
            da = on.concatenate((dc, dc, dc, dm), -1) * to_arguments[t]
            return on.concatenate((da @ W_h, dc * f[t]), -1)

        return pull_back

    def push_forward(self, t: int, tangents: Tensor) -> Tensor:
        """``dc = [g i(1-i), c_{t-1} f(1-f), i(1-g²)] da + f dc``, ``dm = o(1-tanh²c_t) dc + tanh(c_t) o(1-o) da_o``."""
        P, H = self.h.shape[-1], self.c.shape[-1]
        da = (tangents[..., :P] @ self.weights.W_h.T).unflatten(-1, (4, H))
        dc = (da[..., :3, :] * self.to_gates[t].unsqueeze(1)).sum(-2) + tangents[..., P:] * self.f[
            t
        ].unsqueeze(1)
        dm = da[..., 3, :] * self.to_output[t].unsqueeze(1) + dc * self.to_cell[t].unsqueeze(1)
        return torch.cat([dm if self.weights.W_p is None else dm @ self.weights.W_p.T, dc], -1)

    def back(self, t: int, rows: Tensor, da: Tensor) -> None:
        """``rows = [da W_h, dc' f]``."""
        P = self.h.shape[-1]
        torch.mm(da.flatten(0, -2), self.weights.W_h, out=rows.view(-1, rows.shape[-1])[:, :P])
        rows[..., P:].mul_(self.f[t])

    def to_cells(self, rows: Tensor) -> Tensor:
        """``dc'``: what reaches c_t by c_{t+1}, and by h_t of the same step."""
        P = self.h.shape[-1]
        return rows[..., P:] + self._to_output(rows[..., :P]) * self.to_cell

    def _to_output(self, dh: Tensor) -> Tensor:
        """From dL/dh_t to dL/dm_t, before the projection."""
        return dh if self.weights.W_p is None else dh @ self.weights.W_p


@dataclass(frozen=True, eq=False)
class GRURecord(Record):
    """``h_t = (1 - z) n + z h_{t-1}``, ``n = tanh(W_xn x_t + b_xn + r u)``, ``u = W_hn h_{t-1} + b_hn``.

    The reset gate acts after the product, as in PyTorch. With ``dn = dh (1-z)(1-n²)``, the gates receive
    ``[dn u r(1-r), dh (h_{t-1} - n) z(1-z), dn]``; h_{t-1} receives the last of them times r, and ``dh z`` besides.

    Reference: Cho et al., *Learning phrase representations using RNN encoder-decoder*, 2014.
    """

    r: Float[Tensor, "T B H"]
    z: Float[Tensor, "T B H"]
    to_new: Float[Tensor, "T B H"]
    """``(1 - z)(1 - n²)``."""
    to_reset: Float[Tensor, "T B H"]
    """``u r (1 - r)``, from dn."""
    to_update: Float[Tensor, "T B H"]
    """``(h_{t-1} - n) z (1 - z)``."""

    def arguments(self, t: int | slice, rows: Tensor, da: Tensor) -> None:
        """``da = [dn u r(1-r), dh (h_{t-1} - n) z(1-z), dn]``."""
        da_r, da_z, dn = da.chunk(3, -1)
        torch.mul(rows, self.to_new[t], out=dn)
        torch.mul(dn, self.to_reset[t], out=da_r)
        torch.mul(rows, self.to_update[t], out=da_z)

    def adjoint(self, on: Arithmetic) -> PullBack:
        """``[dn u r(1-r), dh (h_{t-1} - n) z(1-z), dn r] W_h + dh z``."""
        gates = torch.cat((self.to_new * self.to_reset, self.to_update, self.to_new * self.r), -1)
        gates, z, W_h = (on.of(part) for part in (gates, self.z, self.weights.W_h))
        return lambda t, rows: (
            (on.concatenate((rows, rows, rows), -1) * gates[t]) @ W_h + rows * z[t]
        )

    def push_forward(self, t: int, tangents: Tensor) -> Tensor:
        """``(1-z)(1-n²) (u r(1-r) da_r + r du) + (h_{t-1} - n) z(1-z) da_z + z v``."""
        da_r, da_z, du = (tangents @ self.weights.W_h.T).chunk(3, -1)
        dn = da_r * self.to_reset[t].unsqueeze(1) + du * self.r[t].unsqueeze(1)
        new, update, z = (part[t].unsqueeze(1) for part in (self.to_new, self.to_update, self.z))
        return dn * new + da_z * update + tangents * z

    def to_recurrent(self, da: Tensor) -> Tensor:
        """``[da_r, da_z, dn r]``."""
        da_r, da_z, dn = da.chunk(3, -1)
        return torch.cat([da_r, da_z, dn * self.r], -1)

    def back(self, t: int, rows: Tensor, da: Tensor) -> None:
        """``rows = [da_r, da_z, dn r] W_h + rows z``."""
        da.chunk(3, -1)[2].mul_(self.r[t])
        rows.mul_(self.z[t]).view(-1, rows.shape[-1]).addmm_(da.flatten(0, -2), self.weights.W_h)


def record_cell(
    weights: Weights,
    x: Float[Tensor, "T B I"],
    h: Float[Tensor, "T B P"],
    h_0: Float[Tensor, "B P"],
    c_0: Float[Tensor, "B H"] | None = None,
) -> Record:
    """What the adjoint needs of a forward pass, recovered from its inputs and hidden states.

    All gates of all timesteps come from one product, since h_0 … h_{T-1} are known; only the LSTM's cell state is
    scanned. The record's ``h`` is computed anew from the gates: comparing it with what was given checks the recovery.
    """
    before = torch.cat([h_0.unsqueeze(0), h[:-1]])
    from_x, from_h = _affine(x, weights.W_x, weights.b_x), _affine(before, weights.W_h, weights.b_h)
    if weights.kind == "lstm":
        return _lstm(weights, before, from_x + from_h, c_0)
    if weights.kind == "gru":
        return _gru(weights, before, from_x, from_h)
    a = from_x.add_(from_h)
    again = {"tanh": torch.tanh_, "relu": torch.relu_, "identity": lambda a: a}[weights.kind](a)
    return RNNRecord(weights, again, before, SLOPE[weights.kind](again))


def _affine(x: Tensor, W: Tensor, b: Tensor | float) -> Tensor:
    return torch.nn.functional.linear(x, W, b) if isinstance(b, Tensor) else x @ W.T + b


def _lstm(weights: Weights, before: Tensor, a: Tensor, c_0: Tensor | None) -> LSTMRecord:
    i, f, g, o = a.chunk(4, -1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = torch.zeros_like(i[0]) if c_0 is None else c_0
    cells = [c]
    for keep, write in zip(f, i * g, strict=True):
        c = torch.addcmul(write, keep, c)
        cells.append(c)
    all_c = torch.stack(cells)
    tanh_c = all_c[1:].tanh()
    m = o * tanh_c
    return LSTMRecord(
        weights,
        m if weights.W_p is None else m @ weights.W_p.T,
        before,
        c=all_c[1:],
        f=f,
        to_cell=o * (1 - tanh_c.square()),
        to_gates=torch.stack([g * i * (1 - i), all_c[:-1] * f * (1 - f), i * (1 - g.square())], -2),
        to_output=tanh_c * o * (1 - o),
    )


def _gru(weights: Weights, before: Tensor, from_x: Tensor, from_h: Tensor) -> GRURecord:
    (x_r, x_z, x_n), (h_r, h_z, u) = from_x.chunk(3, -1), from_h.chunk(3, -1)
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    n = (x_n + r * u).tanh()
    return GRURecord(
        weights,
        (1 - z) * n + z * before,
        before,
        r=r,
        z=z,
        to_new=(1 - z) * (1 - n.square()),
        to_reset=u * r * (1 - r),
        to_update=(before - n) * z * (1 - z),
    )
