"""Recurrent layers and stacks of them, for any cell."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError
from leadline.randomness import torch_generator
from leadline.recurrent._cell import Cell, Parts

LARGEST_SIZE = 2**16
"""The largest number of layers, inputs or units; more would fill any memory."""

LONGEST = 10**6
"""The largest number of timesteps or sequences; more would fill any memory."""


class Layer(nn.Module):
    """One recurrent layer: ``W_x`` (G H, I), ``W_h`` (G H, H) and ``b`` (G H) of its G gates.

    Args:
        cell: the equations.
        input_size: number of input features.
        hidden_size: number of hidden units.
        generator: draws the initial weights, uniformly from ±1/sqrt(hidden_size).
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.cell = cell
        bound = 1 / math.sqrt(hidden_size)

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))

        self.W_x = uniform(cell.num_gates * hidden_size, input_size)
        self.W_h = uniform(cell.num_gates * hidden_size, hidden_size)
        self.b = uniform(cell.num_gates * hidden_size)

    @property
    def hidden_size(self) -> int:
        """Number of hidden units."""
        return self.W_h.shape[1]

    def start(self, x: Float[Tensor, "B T I"]) -> Parts:
        """Return the state before the first timestep: zeros."""
        return (x.new_zeros(len(x), self.hidden_size),) * self.cell.parts

    def step(self, from_x: Float[Tensor, "B GH"], state: Parts) -> Parts:
        """Return the state after one timestep, h first.

        Args:
            from_x: ``W_x x_t + b``.
            state: the state before the timestep.
        """
        gates = self.cell.activate(from_x, state[0] @ self.W_h.T, -1)
        return self.cell.advance(gates, state)

    def forward(self, x: Float[Tensor, "B T I"]) -> tuple[Float[Tensor, "B T H"], Parts]:
        """Return all hidden states, and the last state: (h,), or (h, c) for the LSTM."""
        state = self.start(x)
        states = []
        for from_x in (x @ self.W_x.T + self.b).unbind(1):
            state = self.step(from_x, state)
            states.append(state[0])
        return torch.stack(states, 1), state


class Network(nn.Module):
    """A stack of layers of one cell, batch first; every state starts at zero.

    Args:
        cell: the equations.
        input_size: number of input features, at least 1.
        hidden_size: number of hidden units of every layer, at least 1.
        num_layers: number of layers, at least 1; each reads the states of the layer below.
        seed: seed of the initial weights. Without it, torch's global generator draws them.

    Raises:
        InputError: a size is below 1.
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        seed: int | None = None,
    ):
        super().__init__()
        self.input_size = checks.whole_number(input_size, "input_size", least=1, most=LARGEST_SIZE)
        self.hidden_size = checks.whole_number(
            hidden_size, "hidden_size", least=1, most=LARGEST_SIZE
        )
        num_layers = checks.whole_number(num_layers, "num_layers", least=1, most=LARGEST_SIZE)
        generator = torch_generator(checks.optional_seed(seed), "recurrent.weights")
        sizes = [self.input_size] + [self.hidden_size] * (num_layers - 1)
        layers = [Layer(cell, size, self.hidden_size, generator) for size in sizes]
        self.layers: Sequence[Layer] = cast("Sequence[Layer]", nn.ModuleList(layers))

    def forward(
        self, x: Float[Tensor, "B T I"], hx: None = None
    ) -> tuple[
        Float[Tensor, "B T H"],
        Float[Tensor, "L B H"] | tuple[Float[Tensor, "L B H"], Float[Tensor, "L B H"]],
    ]:
        """Return the states of the top layer, and the last state of every layer.

        Args:
            x: inputs, shape (B, T, I).
            hx: must be ``None``, because these layers start at zero.

        Returns:
            The states of the top layer, shape (B, T, H), and the last h of every layer, shape
            (L, B, H), or the pair of the last h and c for the LSTM.

        Raises:
            InputError: ``x`` has another shape or dtype, or an initial state is given.
        """
        self._check(x, hx)
        last = []
        for layer in self.layers:
            x, state = layer(x)
            last.append(state)
        h, *c = (torch.stack(parts) for parts in zip(*last, strict=True))
        return x, (h, c[0]) if c else h

    def _casts(self, x: Tensor) -> bool:
        return x.is_floating_point() and not x.is_meta and torch.is_autocast_enabled(x.device.type)

    def _check(self, x: Any, hx: Any) -> None:
        """Refuse inputs of another shape or dtype; torch's own error would not name them."""
        weight = self.layers[0].W_x
        is_dense = isinstance(x, Tensor) and x.layout is torch.strided
        has_shape = is_dense and x.dim() == 3 and x.shape[2] == self.input_size and x.shape[1] > 0
        has_dtype = is_dense and (x.dtype == weight.dtype or self._casts(x))
        if has_shape and has_dtype and hx is None:
            return
        name = type(self).__name__
        if hx is not None:
            raise InputError(
                f"{name} of leadline.recurrent takes no initial state; it starts at zero",
                got=f"hx = {checks.shown(hx)}",
                cure=f"use torch.nn.{name}, which takes initial states",
            )
        is_array = hasattr(x, "__array__") and not is_dense
        dtype = str(weight.dtype).removeprefix("torch.")
        raise InputError(
            f"{name} needs inputs x of shape (batch, time, {self.input_size}) and dtype {dtype}",
            got=f"x = {checks.shown(x)}",
            cure="torch.from_numpy(x)" if is_array else None,
        )
