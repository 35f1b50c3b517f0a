"""Regressions of one architecture that compute as one: their parameters stacked, their gradients in closed form.

Everything is laid out so that each step is a few operations on contiguous memory: timestep first, then gate, then
model. G gates of S models are a batch of G S small matrices. The adjoints are those of :mod:`leadline.recurrent._cells`,
here with the gates apart.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.adam import adam_step
from leadline.errors import InputError
from leadline.recurrent._cells import SLOPE
from leadline.recurrent._layers import GRULayer, Layer, LSTMLayer, RNNLayer
from leadline.recurrent._regression import Regression

IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh_,
    "relu": torch.relu_,
    "identity": lambda a: a,
}
"""The nonlinearity by its name, written over its argument."""


class Population:
    """S regressions of one architecture.

    Args:
        models: of equal shape; they are copied, see :meth:`write_to`.

    Raises:
        InputError: models of different architectures.

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
                "models that are trained together have one architecture",
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
        """By the models' own names: shape (G S, rows, ...), all models' first gates first; G is 1 for the head."""
        self.first, self.second = (
            [torch.zeros_like(values) for values in self.parameters.values()] for _ in range(2)
        )
        self.steps = torch.zeros(())

    def predict(self, x: Float[Tensor, "T S B I"]) -> Float[Tensor, "T S B O"]:
        """Predictions at every timestep, each model's from its own sequences."""
        for index, layer in enumerate(self.layers):
            W_x, W_h, b = (
                self.parameters[f"network.layers.{index}.{name}"] for name in ("W_x", "W_h", "b")
            )
            x = _states(layer, x, W_x, W_h, b)
        W_f, b_f = self.parameters["W_f"], self.parameters["b_f"]
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

    def step(self, loss: Float[Tensor, " S"], lr: float) -> None:
        """One step of Adam down the loss of each model, its gradient clipped to norm 1.

        Reference: Kingma & Ba, *Adam: a method for stochastic optimization*, 2015.
        """
        parameters = list(self.parameters.values())
        gradients = list(torch.autograd.grad(loss.sum(), parameters))
        by_model = [gradient.unflatten(0, (-1, self.size)) for gradient in gradients]
        squares = sum(
            torch.linalg.vector_norm(g, dim=(0, *range(2, g.dim()))).square() for g in by_model
        )
        factor = torch.as_tensor(squares).sqrt().clamp(min=1).reciprocal()
        for gradient in by_model:
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 2)))
        self.steps += 1
        with torch.no_grad():
            steps = [self.steps] * len(parameters)
            adam_step(parameters, gradients, self.first, self.second, steps, lr)


def _architecture(model: Regression) -> str:
    layers = ", ".join(
        f"{type(layer).__name__}({getattr(layer, 'nonlinearity', '')}) {tuple(layer.W_x.shape)}"
        for layer in model.network.layers
    )
    return f"{layers}, head {tuple(model.W_f.shape)}, {model.W_f.dtype}"


def _gates(model: Regression) -> dict[str, int]:
    """How many gates share the rows of each parameter."""
    layers = {f"network.layers.{i}": layer.gates for i, layer in enumerate(model.network.layers)}
    return {name: layers.get(name.rpartition(".")[0], 1) for name, _ in model.named_parameters()}


def _states(
    layer: Layer, x: Tensor, W_x: Tensor, W_h: Tensor, b: Tensor
) -> Float[Tensor, "T S B H"]:
    """All hidden states of one layer of all models."""
    if isinstance(layer, RNNLayer):
        return _RNNScan.apply(x, W_x, W_h, b, layer.nonlinearity)  # pyright: ignore[reportReturnType]
    if isinstance(layer, LSTMLayer):
        return _LSTMScan.apply(x, W_x, W_h, b)  # pyright: ignore[reportReturnType]
    assert isinstance(layer, GRULayer)
    return _gru_states(x, W_x, W_h, b)


def _per_gate(values: Float[Tensor, "S B N"], gates: int) -> Float[Tensor, "GS B N"]:
    """What every gate reads."""
    return values if gates == 1 else torch.cat([values] * gates)


class _Products:
    """A layer's products with its weights, for all gates of all models: forwards, and back step by step."""

    def __init__(self, x: Float[Tensor, "T S B I"], W_x: Tensor, W_h: Tensor, b: Tensor):
        self.x, self.W_x, self.W_h, self.b = x, W_x, W_h, b
        self.gates = len(W_x) // x.shape[1]
        self.from_h = W_h.mT.contiguous()

    def arguments(self) -> Float[Tensor, "T GS B H"]:
        """``W_x x_t + b`` for all t; :meth:`add_recurrent` adds the rest."""
        bias, W = self.b.unsqueeze(1), self.W_x.mT.contiguous()
        a = self.x.new_empty(len(self.x), len(W), self.x.shape[2], W.shape[-1])
        for x_t, a_t in zip(self.x, a, strict=True):
            torch.baddbmm(bias, _per_gate(x_t, self.gates), W, out=a_t)
        return a

    def add_recurrent(self, a_t: Float[Tensor, "GS B H"], h_before: Float[Tensor, "S B H"]) -> None:
        """``a_t + W_h h_{t-1}``, in place."""
        a_t.baddbmm_(_per_gate(h_before, self.gates), self.from_h)

    def begin_back(self, to_x: bool) -> None:
        """Make room for the gradients: of x (if ``to_x``), W_x, W_h and b."""
        self.dx = torch.empty_like(self.x) if to_x else None
        self.dW_x, self.dW_h, self.db = (
            torch.zeros_like(values) for values in (self.W_x, self.W_h, self.b)
        )

    def back(
        self, t: int, da: Float[Tensor, "GS B H"], h_before: Tensor | None, dh_before: Tensor | None
    ) -> Float[Tensor, "S B H"] | None:
        """Take in what the gates' arguments at t receive; what h_{t-1} receives, ``dh_before`` included."""
        self.db += da.sum(1)
        self.dW_x.baddbmm_(da.mT, _per_gate(self.x[t], self.gates))
        if self.dx is not None:
            self.dx[t] = self._over_gates(torch.bmm(da, self.W_x))
        if h_before is None or dh_before is None:
            return None
        self.dW_h.baddbmm_(da.mT, _per_gate(h_before, self.gates))
        return self._over_gates(torch.bmm(da, self.W_h)).add_(dh_before)

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Of x, W_x, W_h and b."""
        return self.dx, self.dW_x, self.dW_h, self.db

    def _over_gates(self, rows: Float[Tensor, "GS B N"]) -> Float[Tensor, "S B N"]:
        if self.gates == 1:
            return rows
        first, *others = rows.chunk(self.gates)
        for other in others:
            first += other
        return first


def _timesteps_back(h: Tensor, dh: Tensor) -> Iterator[tuple[int, Tensor | None, Tensor | None]]:
    """``(t, h_{t-1}, dh_{t-1})`` from the last timestep to the first, before which there is nothing."""
    for t in range(len(h) - 1, 0, -1):
        yield t, h[t - 1], dh[t - 1]
    yield 0, None, None


class _RNNScan(torch.autograd.Function):
    """``h_t = sigma(a_t)``, ``da_t = dh_t sigma'(a_t)``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W_x: Tensor, W_h: Tensor, b: Tensor, nonlinearity: str
    ) -> Tensor:
        products, sigma = _Products(x, W_x, W_h, b), IN_PLACE[nonlinearity]
        h = products.arguments()
        for t, h_t in enumerate(h):
            if t:
                products.add_recurrent(h_t, h[t - 1])
            sigma(h_t)
        ctx.products, ctx.nonlinearity = products, nonlinearity
        ctx.save_for_backward(h)
        return h

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (h,), products, slope = ctx.saved_tensors, ctx.products, SLOPE[ctx.nonlinearity]
        products.begin_back(ctx.needs_input_grad[0])
        rows = dh[-1]
        for t, h_before, dh_before in _timesteps_back(h, dh):
            rows = products.back(t, slope(h[t]).mul_(rows), h_before, dh_before)
        return *products.gradients(), None


class _LSTMScan(torch.autograd.Function):
    """``c_t = f c_{t-1} + i g``, ``h_t = o tanh(c_t)``; see :class:`leadline.recurrent._cells.LSTMRecord`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W_x: Tensor, W_h: Tensor, b: Tensor) -> Tensor:
        products = _Products(x, W_x, W_h, b)
        gates = products.arguments()
        h, c, tanh_c = (x.new_empty(len(x), *x.shape[1:3], W_h.shape[-1]) for _ in range(3))
        for t, a_t in enumerate(gates):
            if t:
                products.add_recurrent(a_t, h[t - 1])
            i, f, g, o = a_t.chunk(4)
            a_t[: 2 * len(i)].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(i, g, out=c[t])
            if t:
                c[t].addcmul_(f, c[t - 1])
            torch.tanh(c[t], out=tanh_c[t])
            torch.mul(o, tanh_c[t], out=h[t])
        ctx.products = products
        ctx.save_for_backward(gates, h, c, tanh_c)
        return h

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gates, h, c, tanh_c), products = ctx.saved_tensors, ctx.products
        products.begin_back(ctx.needs_input_grad[0])
        rows, dc = dh[-1], torch.zeros_like(c[0])
        for t, h_before, dh_before in _timesteps_back(h, dh):
            i, f, g, o = gates[t].chunk(4)
            da = torch.addcmul(
                gates[t], gates[t], gates[t], value=-1
            )  # the sigmoid's slope; tanh's is put over it
            da_i, da_f, da_g, da_o = da.chunk(4)
            torch.addcmul(_one(g), g, g, value=-1, out=da_g)
            to_c = rows * o
            da_o.mul_(rows).mul_(tanh_c[t])
            dc.add_(to_c).addcmul_(to_c.mul_(tanh_c[t]), tanh_c[t], value=-1)
            da_i.mul_(dc).mul_(g)
            da_g.mul_(dc).mul_(i)
            if t:
                da_f.mul_(dc).mul_(c[t - 1])
                dc.mul_(f)
            else:
                da_f.zero_()
            rows = products.back(t, da, h_before, dh_before)
        return products.gradients()


def _one(like: Tensor) -> Tensor:
    return torch.ones((), dtype=like.dtype, device=like.device)


def _gru_states(x: Tensor, W_x: Tensor, W_h: Tensor, b: Tensor) -> Tensor:
    """The equations of :class:`leadline.recurrent._layers.GRULayer`; their gradient is left to autograd."""
    products = _Products(x, W_x, W_h, b)
    driven = torch.stack(
        [torch.baddbmm(b.unsqueeze(1), _per_gate(x_t, products.gates), W_x.mT) for x_t in x]
    )
    h, states = torch.zeros_like(driven[0, : x.shape[1]]), []
    for driven_t in driven:
        (x_r, x_z, x_n), (h_r, h_z, u) = (
            driven_t.chunk(3),
            torch.bmm(_per_gate(h, 3), W_h.mT).chunk(3),
        )
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        n = (x_n + r * u).tanh()
        h = (1 - z) * n + z * h
        states.append(h)
    return torch.stack(states)
