"""The course's recurrent layers, written as the equations read."""

import math
from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leadline.errors import InputError

Nonlinearity = Literal["tanh", "relu", "identity"]

SIGMA = {"tanh": torch.tanh, "relu": torch.relu, "identity": lambda a: a}
"""The nonlinearity by its name."""


class RNNLayer(nn.Module):
    """One recurrent layer, ``h_t = sigma(W_h h_{t-1} + W_x x_t + b)`` with ``h_0 = 0``."""

    def __init__(
        self, input_size: int, hidden_size: int, nonlinearity: Nonlinearity, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.nonlinearity: Nonlinearity = nonlinearity
        bound = 1 / math.sqrt(hidden_size)

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))

        self.W_x = uniform(hidden_size, input_size)
        self.W_h = uniform(hidden_size, hidden_size)
        self.b = uniform(hidden_size)

    def forward(self, x: Float[Tensor, "B T I"]) -> Float[Tensor, "B T H"]:
        """All hidden states."""
        sigma = SIGMA[self.nonlinearity]
        driven = x @ self.W_x.T + self.b
        h = driven.new_zeros(len(x), len(self.b))
        states = []
        for a in driven.unbind(1):
            h = sigma(h @ self.W_h.T + a)
            states.append(h)
        return torch.stack(states, 1)


class RNN(nn.Module):
    """A stack of recurrent layers, ``h_t = sigma(W_h h_{t-1} + W_x x_t + b)``; batch first.

    Args:
        input_size: number of input features.
        hidden_size: number of hidden units of every layer.
        num_layers: layers; each reads the states of the one below.
        nonlinearity: ``"tanh"``, ``"relu"`` or ``"identity"``.
        seed: draws the weights from a generator of its own; without it they come from torch's global one, as usual.

    Weights and biases start uniform in ±1/sqrt(hidden_size). The parameters are ``layers[l].W_x``, ``.W_h`` and
    ``.b``.

    Raises:
        InputError: a size below 1 or an unknown nonlinearity.

    >>> network = RNN(2, 3, seed=0)
    >>> sum(p.numel() for p in network.parameters())
    18
    >>> all_h, last_h = network(torch.zeros(5, 7, 2))
    >>> all_h.shape, last_h.shape
    (torch.Size([5, 7, 3]), torch.Size([1, 5, 3]))

    Reference: Elman, *Finding structure in time*, 1990.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Nonlinearity = "tanh",
        *,
        seed: int | None = None,
    ):
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, size in sizes.items():
            if size < 1:
                raise InputError(f"{name} must be at least 1", got=f"{name} = {size}")
        if nonlinearity not in SIGMA:
            raise InputError(
                "the nonlinearity is one of " + ", ".join(get_args(Nonlinearity)),
                got=f"nonlinearity = {nonlinearity!r}",
            )
        self.hidden_size = hidden_size
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        layers = [RNNLayer(width, hidden_size, nonlinearity, generator) for width in widths]
        self.layers: Sequence[RNNLayer] = cast("Sequence[RNNLayer]", nn.ModuleList(layers))

    def forward(self, x: Float[Tensor, "B T I"]) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "L B H"]]:
        """All states of the top layer, and the last state of every layer."""
        last = []
        for layer in self.layers:
            x = layer(x)
            last.append(x[:, -1])
        return x, torch.stack(last)


class Regression(nn.Module):
    """A linear head on every hidden state, ``y_t = W_f h_t + b_f``.

    Args:
        network: returns ``(all_h, ...)`` with ``all_h`` of shape (B, T, H), and has a ``hidden_size``.
        output_size: number of outputs.

    >>> model = Regression(RNN(2, 3, seed=0), 4, seed=1)
    >>> sum(p.numel() for p in model.parameters())
    34
    """

    def __init__(self, network: RNN, output_size: int = 1, *, seed: int | None = None):
        super().__init__()
        self.network = network
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(network.hidden_size)
        self.W_f = nn.Parameter(
            torch.empty(output_size, network.hidden_size).uniform_(-bound, bound, generator=generator)
        )
        self.b_f = nn.Parameter(torch.empty(output_size).uniform_(-bound, bound, generator=generator))

    def forward(self, x: Float[Tensor, "B T I"]) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B T H"]]:
        """Predictions and hidden states at every timestep."""
        states = self.network(x)[0]
        return states @ self.W_f.T + self.b_f, states


def mse(
    predictions: Float[Tensor, "B T O"],
    targets: Float[Tensor, "_ _ _"],
    last_only: bool = False,
    per_step: bool = False,
) -> Tensor:
    """Mean squared error over everything, or over the last timestep.

    Args:
        predictions: shape (B, T, O).
        targets: shape (B, T, O).
        last_only: count the last timestep alone: predict once, at the end.
        per_step: return the terms of each timestep, shape (T,), which sum to the scalar.

    Raises:
        InputError: shapes differ.

    >>> y = torch.zeros(2, 3, 1)
    >>> mse(y + 1, y), mse(y + 1, y, per_step=True).sum()
    (tensor(1.), tensor(1.))
    """
    if predictions.shape != targets.shape:
        raise InputError(
            "predictions and targets have one shape",
            got=f"predictions {tuple(predictions.shape)}, targets {tuple(targets.shape)}",
            cause="a missing last axis would broadcast silently",
            cure="give targets the shape (B, T, O)",
        )
    squared = (predictions - targets).square().mean((0, 2))
    terms = squared * squared.new_tensor([0.0] * (len(squared) - 1) + [1.0]) if last_only else squared / len(squared)
    return terms if per_step else terms.sum()
