"""Regressions of one architecture that are computed and trained as one.

Their parameters are stacked, and their gradients come from the closed forms of the cells. Each step
is a few operations on contiguous memory: timestep first, then gate, then model. The G gates of S
models are a batch of G S small matrices.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import InputError
from leadline.recurrent._arithmetic import IN_TORCH
from leadline.recurrent._cell import Cell, Parts
from leadline.recurrent._network import Layer
from leadline.recurrent._regression import Regression
from leadline.torch_internals import adam_step


class Population:
    """S regressions of one architecture.

    Args:
        models: models of one architecture. They are copied; see :meth:`write_to`.

    Raises:
        InputError: the models differ in architecture.

    >>> from leadline.recurrent import RNN
    >>> population = Population([Regression(RNN(1, 8, seed=seed), seed=seed) for seed in range(3)])
    >>> population.predict(torch.zeros(5, 3, 2, 1)).shape
    torch.Size([5, 3, 2, 1])
    """

    def __init__(self, models: Sequence[Regression]):
        shapes = [_architecture(model) for model in models]
        if any(shape != shapes[0] for shape in shapes):
            odd = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
            raise InputError(
                "train() needs models of one architecture",
                got=f"models[{odd}] with {shapes[odd]}, models[0] with {shapes[0]}",
                cure="train each architecture in a call of its own",
            )
        self.size = len(models)
        self.layers: Sequence[Layer] = copy.deepcopy(models[0].network).layers
        gates = _gates(models[0])
        states = [model.state_dict() for model in models]
        self.parameters = {
            name: torch.stack([state[name].unflatten(0, (gate, -1)) for state in states], 1)
            .flatten(0, 1)
            .requires_grad_()
            for name, gate in gates.items()
        }
        """The stacked parameters by name, shape (G S, rows, ...), first gates first."""
        self.first, self.second = (
            [torch.zeros_like(values) for values in self.parameters.values()] for _ in range(2)
        )
        self.steps = torch.zeros(())

    def predict(self, x: Float[Tensor, "T S B I"]) -> Float[Tensor, "T S B O"]:
        """Return the predictions of each model on its own sequences at every timestep."""
        for index, layer in enumerate(self.layers):
            W_x, W_h, b = (
                self.parameters[f"network.layers.{index}.{name}"] for name in ("W_x", "W_h", "b")
            )
            x = _states(layer, x, W_x, W_h, b)
        W_f = self.parameters["W_f"]
        b_f = self.parameters["b_f"]
        by_model = x.transpose(0, 1).flatten(1, 2)
        predictions = torch.baddbmm(b_f.unsqueeze(1), by_model, W_f.mT)
        return predictions.unflatten(1, (len(x), -1)).transpose(0, 1)

    def write_to(self, models: Sequence[Regression]) -> None:
        """Copy the parameters into ``models``."""
        with torch.no_grad():
            for name, stacked in self.parameters.items():
                by_model = stacked.unflatten(0, (-1, self.size)).unbind(1)
                for model, values in zip(models, by_model, strict=True):
                    model.get_parameter(name).copy_(values.flatten(0, 1))

    def step(self, loss: Float[Tensor, " S"], learning_rate: float) -> None:
        """Take one step of Adam on the loss of each model, with its gradient clipped to norm 1.

        Reference: Kingma & Ba, *Adam: a method for stochastic optimization*, 2015.
        """
        parameters = list(self.parameters.values())
        gradients = list(torch.autograd.grad(loss.sum(), parameters))
        # The fused kernel reads memory in order, whatever the strides are.
        gradients = [gradient.contiguous() for gradient in gradients]
        by_model = [gradient.unflatten(0, (-1, self.size)) for gradient in gradients]
        squares = sum(
            torch.linalg.vector_norm(g, dim=(0, *range(2, g.dim()))).square() for g in by_model
        )
        factor = torch.as_tensor(squares).sqrt().clamp(min=1).reciprocal()
        for gradient in by_model:
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 2)))
        self.steps += 1
        with torch.no_grad():
            adam_step(
                parameters,
                gradients,
                self.first,
                self.second,
                self.steps,
                learning_rate=learning_rate,
                betas=(0.9, 0.99),
            )


def _architecture(model: Regression) -> str:
    layers = ", ".join(
        f"{layer.cell.name} {tuple(layer.W_x.shape)}" for layer in model.network.layers
    )
    return f"{layers}, head {tuple(model.W_f.shape)}, {model.W_f.dtype}"


def _gates(model: Regression) -> dict[str, int]:
    """Return the number of gates in the rows of each parameter."""
    layers = {
        f"network.layers.{i}": layer.cell.num_gates for i, layer in enumerate(model.network.layers)
    }
    return {name: layers.get(name.rpartition(".")[0], 1) for name, _ in model.named_parameters()}


def _states(
    layer: Layer, x: Tensor, W_x: Tensor, W_h: Tensor, b: Tensor
) -> Float[Tensor, "T S B H"]:
    """Return all hidden states of one layer of all models."""
    return _Scan.apply(x, W_x, W_h, b, layer.cell)  # pyright: ignore[reportReturnType]


def _per_gate(values: Float[Tensor, "S B N"], gates: int) -> Float[Tensor, "GS B N"]:
    """Repeat what every gate reads."""
    return values if gates == 1 else torch.cat([values] * gates)


def _over_gates(rows: Float[Tensor, "GS B N"], gates: int) -> Float[Tensor, "S B N"]:
    """Add up what comes back through the gates; ``rows`` is used up."""
    if gates == 1:
        return rows
    first, *others = rows.chunk(gates)
    for other in others:
        first += other
    return first


class _Scan(torch.autograd.Function):
    """The equations of a cell through time, with the gates of all models as one batch."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W_x: Tensor, W_h: Tensor, b: Tensor, cell: Cell
    ) -> Float[Tensor, "T S B H"]:
        from_h = W_h.mT.contiguous()
        state: Parts = (x.new_zeros(*x.shape[1:3], W_h.shape[-1]),) * cell.parts
        gates = []
        states = [state]
        for driven in _driven(x, W_x, b, cell.num_gates).unbind():
            h_by_gate = _per_gate(state[0], cell.num_gates)
            if cell.reads_sum:
                gates.append(cell.activate(driven.baddbmm_(h_by_gate, from_h), None, 0))
            else:
                gates.append(cell.activate(driven, torch.bmm(h_by_gate, from_h), 0))
            state = cell.advance(gates[-1], state)
            states.append(state)
        ctx.cell = cell
        ctx.gates = gates
        ctx.states = states
        ctx.save_for_backward(x, W_x, W_h)
        return torch.stack([state[0] for state in states[1:]])

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, W_x, W_h = ctx.saved_tensors
        cell: Cell = ctx.cell
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dW_x = torch.zeros_like(W_x)
        dW_h = torch.zeros_like(W_h)
        db = W_x.new_zeros(W_x.shape[:2])
        da = x.new_empty(len(W_x), x.shape[2], W_h.shape[-1])
        da_by_gate = da.chunk(cell.num_gates)
        rows = tuple(torch.zeros_like(part) for part in ctx.states[0])
        for t in range(len(x) - 1, -1, -1):
            before = ctx.states[t]
            rows[0].add_(dh[t])
            slopes = cell.slopes(ctx.gates[t], before, ctx.states[t + 1])
            cell.pull_back(slopes, rows, da_by_gate, rows, IN_TORCH)
            db += da.sum(1)
            dW_x.baddbmm_(da.mT, _per_gate(x[t], cell.num_gates))
            if dx is not None:
                dx[t] = _over_gates(torch.bmm(da, W_x), cell.num_gates)
            if t == 0:
                break
            cell.turn_to_recurrent(slopes, da_by_gate, IN_TORCH)
            dW_h.baddbmm_(da.mT, _per_gate(before[0], cell.num_gates))
            to_h = _over_gates(torch.bmm(da, W_h), cell.num_gates)
            rows = (to_h.add_(rows[0]) if cell.is_h_kept else to_h, *rows[1:])
        return dx, dW_x, dW_h, db, None


def _driven(
    x: Float[Tensor, "T S B I"], W_x: Tensor, b: Tensor, gates: int
) -> Float[Tensor, "T GS B H"]:
    """Return ``W_x x_t + b`` for all timesteps."""
    bias = b.unsqueeze(1)
    W = W_x.mT.contiguous()
    driven = x.new_empty(len(x), len(W), x.shape[2], W.shape[-1])
    for x_t, driven_t in zip(x, driven, strict=True):
        torch.baddbmm(bias, _per_gate(x_t, gates), W, out=driven_t)
    return driven
