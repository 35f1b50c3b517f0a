"""The record of a forward pass through one recurrent layer, and its derivatives in closed form.

A record holds the states of one layer in one direction, in the order in which they were computed. A
row of the adjoint is dL/ds_t for the whole state s: h, or h and c side by side. With ``da`` for the
gradient with respect to the arguments of the gates, every step back is one elementwise stage, which
the cell defines, and one product with the weights,

    dL/dh_{t-1} = da W_h (+ what passes the gates by),    dL/dx_t = da W_x.

PyTorch's two biases are kept apart, because they act apart in the GRU.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.recurrent._arithmetic import IN_TORCH, Arithmetic, PullBack
from leadline.recurrent._cell import Cell, Parts


@dataclass(frozen=True, eq=False)
class Weights:
    """The parameters of one layer in one direction; the cell defines the order of gates."""

    cell: Cell
    W_x: Float[Tensor, "GH I"]
    W_h: Float[Tensor, "GH P"]
    b_x: Float[Tensor, " GH"] | float = 0.0
    b_h: Float[Tensor, " GH"] | float = 0.0
    W_p: Float[Tensor, "P H"] | None = None
    """The projection of an LSTM's output; ``None`` if there is none."""

    @property
    def num_gates(self) -> int:
        """Number of gates."""
        return self.cell.num_gates

    @property
    def hidden_size(self) -> int:
        """Number of hidden units H, before any projection."""
        return len(self.W_h) // self.num_gates

    def from_x(self, x: Float[Tensor, "T B I"]) -> Float[Tensor, "T B GH"]:
        """Return ``W_x x + b_x``."""
        return _affine(x, self.W_x, self.b_x)

    def from_h(self, h: Float[Tensor, "T B P"]) -> Float[Tensor, "T B GH"]:
        """Return ``W_h h + b_h``."""
        return _affine(h, self.W_h, self.b_h)

    def project(self, m: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows P"]:
        """Return h from the output of the cell."""
        return m if self.W_p is None else m @ self.W_p.T

    def double(self) -> "Weights":
        """Return the same weights in float64."""
        tensors = {
            field.name: value.double()
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **tensors)


@dataclass(frozen=True, eq=False)
class Record:
    """One pass through one layer in one direction."""

    weights: Weights
    h: Float[Tensor, "T B P"]
    """Hidden states h_1 … h_T."""
    h_before: Float[Tensor, "T B P"]
    """Hidden states h_0 … h_{T-1}."""
    slopes: tuple[Tensor, ...]
    """The elementwise derivatives of the cell, each of shape (T, B, H)."""

    @property
    def cell(self) -> Cell:
        """The equations of the layer."""
        return self.weights.cell

    @property
    def state_size(self) -> int:
        """Length of a row of the adjoint."""
        return self.h.shape[-1] + (self.cell.parts - 1) * self.weights.hidden_size

    def arguments(
        self, t: int | slice, rows: Float[Tensor, "*rows S"], da: Float[Tensor, "*rows GH"]
    ) -> None:
        """Write into ``da`` the gradient of the gates' arguments at ``t``, and prepare ``back``.

        Args:
            t: a timestep; or a slice, for rows of these timesteps.
            rows: the gradient of the state at ``t``. It is used up: :meth:`back` completes it.
            da: receives the gradient.
        """
        parts = self._parts(rows)
        gates = da.chunk(self.cell.num_gates, -1)
        self.cell.pull_back(self._slopes(t), self._unprojected(parts), gates, parts, IN_TORCH)

    def back(self, t: int, rows: Float[Tensor, "*rows S"], da: Float[Tensor, "*rows GH"]) -> None:
        """Turn ``rows`` into the gradient of the state at t - 1, in place.

        Args:
            t: a timestep.
            rows: as :meth:`arguments` left them.
            da: the result of :meth:`arguments`; it is used up.
        """
        if not self.cell.reads_sum:
            gates = da.chunk(self.cell.num_gates, -1)
            self.cell.turn_to_recurrent(self._slopes(t), gates, IN_TORCH)
        add = IN_TORCH.add_product if self.cell.is_h_kept else IN_TORCH.product
        add(da, self.weights.W_h, self._parts(rows)[0])

    def pull_back(self, t: int, rows: Float[Tensor, "*rows S"]) -> Float[Tensor, "*rows S"]:
        """Return ``rows ds_t/ds_{t-1}``; the last axis but one of ``rows`` is the batch."""
        rows = rows.clone(memory_format=torch.contiguous_format)
        da = self.scratch(rows)
        self.arguments(t, rows, da)
        self.back(t, rows, da)
        return rows

    def adjoint(self, on: Arithmetic, like: Float[Tensor, "*rows S"]) -> PullBack:
        """Return the step ``rows ds_t/ds_{t-1}`` of a scan, for rows of the shape of ``like``."""
        cell = self.cell
        P = self.h.shape[-1]
        W_h = on.array(self.weights.W_h)
        W_p = None if self.weights.W_p is None else on.array(self.weights.W_p)
        slopes_by_time = list(zip(*(on.array(part) for part in self.slopes), strict=True))
        scratch = self.scratch(like)
        da = on.array(scratch)
        gates = tuple(on.array(gate) for gate in scratch.chunk(cell.num_gates, -1))
        add_product = on.add_product if cell.is_h_kept else on.product

        def pull_back(t: int, rows: Any, out: Any) -> None:
            slopes = slopes_by_time[t]
            if cell.parts == 1:
                cell.pull_back(slopes, (rows,), gates, (out,), on)
                out_h = out
            else:
                out_h = out[..., :P]
                dh = rows[..., :P] if W_p is None else rows[..., :P] @ W_p
                cell.pull_back(slopes, (dh, rows[..., P:]), gates, (out_h, out[..., P:]), on)
            if not cell.reads_sum:
                cell.turn_to_recurrent(slopes, gates, on)
            add_product(da, W_h, out_h)

        return pull_back

    def push_forward(self, t: int, tangents: Float[Tensor, "B K S"]) -> Float[Tensor, "B K S"]:
        """Return ``ds_t/ds_{t-1} v`` for K tangent vectors v of each sample."""
        slopes = tuple(part[t].unsqueeze(1) for part in self.slopes)
        parts = self._parts(tangents)
        du = (parts[0] @ self.weights.W_h.T).chunk(self.cell.num_gates, -1)
        dm, *dc = self.cell.push_forward(slopes, parts, du)
        return torch.cat([self.weights.project(dm), *dc], -1)

    def to_recurrent(self, da: Float[Tensor, "*more T B GH"]) -> Float[Tensor, "*more T B GH"]:
        """Return the gradient of ``W_h h_{t-1}`` from that of the gates' arguments, for all t."""
        da = da.clone()
        self.cell.turn_to_recurrent(self.slopes, da.chunk(self.cell.num_gates, -1), IN_TORCH)
        return da

    def to_input(self, rows: Float[Tensor, "*more T B S"]) -> Float[Tensor, "*more T B I"]:
        """Return ``rows ds_t/dx_t``, for all timesteps at once."""
        rows = rows.clone(memory_format=torch.contiguous_format)
        da = self.scratch(rows)
        self.arguments(slice(None), rows, da)
        return da @ self.weights.W_x

    def to_cells(self, rows: Float[Tensor, "*more T B S"]) -> Float[Tensor, "*more T B C"]:
        """Return ``rows ds_t/dc_t`` for all timesteps; its width is 0 for a cell without c."""
        return self.cell.memory_rows(self.slopes, self._unprojected(self._parts(rows)), IN_TORCH)

    def passing(self) -> Float[Tensor, "T B H"]:
        """Return the factors by which every step passes its state on, element by element."""
        return self.cell.passing(self.slopes)

    def double(self) -> "Record":
        """Return the same record in float64."""
        return dataclasses.replace(
            self,
            weights=self.weights.double(),
            h=self.h.double(),
            h_before=self.h_before.double(),
            slopes=_like(self.slopes, [part.double() for part in self.slopes]),
        )

    def scratch(self, rows: Float[Tensor, "*rows S"]) -> Float[Tensor, "*rows GH"]:
        """Return an empty tensor for the gradient of the gates' arguments."""
        return rows.new_empty(*rows.shape[:-1], len(self.weights.W_x))

    @cached_property
    def _slopes_by_time(self) -> list[tuple[Tensor, ...]]:
        """The slopes of each timestep; a step of a sweep must not make these views again."""
        return list(zip(*(part.unbind() for part in self.slopes), strict=True))

    def _slopes(self, t: int | slice) -> tuple[Tensor, ...]:
        if isinstance(t, slice):
            return tuple(part[t] for part in self.slopes)
        return self._slopes_by_time[t]

    def _parts(self, rows: Tensor) -> Parts:
        """Return views of the parts of the state: h, and c."""
        if self.cell.parts == 1:
            return (rows,)
        P = self.h.shape[-1]
        return rows.split_with_sizes((P, rows.shape[-1] - P), -1)

    def _unprojected(self, rows: Parts) -> Parts:
        """Return the gradients before the projection."""
        if self.weights.W_p is None:
            return rows
        return rows[0] @ self.weights.W_p, *rows[1:]


def record_cell(
    weights: Weights,
    x: Float[Tensor, "T B I"],
    h: Float[Tensor, "T B P"],
    h_0: Float[Tensor, "B P"],
    c_0: Float[Tensor, "B H"] | None = None,
) -> Record:
    """Return the record of a forward pass, recovered from its inputs and hidden states.

    All gates of all timesteps come from one product, because h_0 … h_{T-1} are known. Only a cell
    state c is scanned. The ``h`` of the record is computed from the gates; a caller compares it
    with the recorded states to check the recovery.

    Args:
        weights: the parameters of the layer.
        x: its inputs.
        h: the hidden states that it computed.
        h_0: its first hidden state.
        c_0: its first cell state, of a cell that has one.
    """
    cell = weights.cell
    h_before = torch.cat([h_0.unsqueeze(0), h[:-1]])
    gates = cell.activate(weights.from_x(x), weights.from_h(h_before), -1)
    before, after = cell.scan(gates, h_before, c_0)
    return Record(weights, weights.project(after[0]), h_before, cell.slopes(gates, before, after))


def _affine(x: Tensor, W: Tensor, b: Tensor | float) -> Tensor:
    return torch.nn.functional.linear(x, W, b) if isinstance(b, Tensor) else x @ W.T + b


def _like(slopes: tuple[Any, ...], parts: list[Tensor]) -> tuple[Any, ...]:
    """Return new slopes of the same kind: a named tuple stays a named tuple."""
    make = getattr(type(slopes), "_make", tuple)
    return make(parts)
