"""The course's recurrent layers, written as the equations read."""

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError
from leadline.randomness import torch_generator

Nonlinearity = Literal["tanh", "relu", "identity"]

LARGEST_SIZE = 2**16
"""More layers, inputs or units than these would fill any memory."""

LONGEST = 10**6
"""Sequences with more timesteps, and batches with more sequences, would fill any memory."""

SIGMA = {"tanh": torch.tanh, "relu": torch.relu, "identity": lambda a: a}
"""The nonlinearity by its name."""


class Layer(nn.Module):
    """The parameters of one layer: ``W_x`` (G H, I), ``W_h`` (G H, H) and ``b`` (G H) of its G gates, stacked."""

    gates = 1
    parts = 1
    """Vectors in the state: h, and c for the LSTM."""

    def __init__(self, input_size: int, hidden_size: int, generator: torch.Generator | None = None):
        super().__init__()
        bound = 1 / math.sqrt(hidden_size)

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))

        self.W_x = uniform(self.gates * hidden_size, input_size)
        self.W_h = uniform(self.gates * hidden_size, hidden_size)
        self.b = uniform(self.gates * hidden_size)

    @property
    def hidden_size(self) -> int:
        """Number of hidden units."""
        return self.W_h.shape[1]

    def start(self, x: Float[Tensor, "B T I"]) -> tuple[Tensor, ...]:
        """The state before the first step: zeros."""
        return (x.new_zeros(len(x), self.hidden_size),) * self.parts

    def step(self, driven: Float[Tensor, "B GH"], state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One timestep, from ``W_x x_t + b`` and the state before it; the new state, h first."""
        raise AssertionError("every layer has a step of its own")

    def forward(
        self, x: Float[Tensor, "B T I"]
    ) -> tuple[Float[Tensor, "B T H"], tuple[Tensor, ...]]:
        """All hidden states, and the last state."""
        state, states = self.start(x), []
        for driven in (x @ self.W_x.T + self.b).unbind(1):
            state = self.step(driven, state)
            states.append(state[0])
        return torch.stack(states, 1), state


class RNNLayer(Layer):
    """``h_t = sigma(W_h h_{t-1} + W_x x_t + b)``."""

    def __init__(
        self, nonlinearity: Nonlinearity, *sizes: int, generator: torch.Generator | None = None
    ):
        super().__init__(*sizes, generator=generator)
        self.nonlinearity: Nonlinearity = nonlinearity

    def step(self, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The equation."""
        return (SIGMA[self.nonlinearity](state[0] @ self.W_h.T + driven),)


class LSTMLayer(Layer):
    """``c_t = f c_{t-1} + i g``, ``h_t = o tanh(c_t)``; the gates stand in the order i, f, g, o."""

    gates = 4
    parts = 2

    def step(self, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The equations."""
        h, c = state
        i, f, g, o = (h @ self.W_h.T + driven).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class GRULayer(Layer):
    """``h_t = (1 - z) n + z h_{t-1}``, ``n = tanh(W_xn x_t + b_n + r (W_hn h_{t-1}))``; gates in the order r, z, n."""

    gates = 3

    def step(self, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The equations, with the reset gate behind the product, as in PyTorch."""
        (h,) = state
        (x_r, x_z, x_n), (h_r, h_z, u) = driven.chunk(3, -1), (h @ self.W_h.T).chunk(3, -1)
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        n = (x_n + r * u).tanh()
        return ((1 - z) * n + z * h,)


class Network(nn.Module):
    """A stack of recurrent layers, each reading the states of the one below; batch first, starting from zero."""

    def __init__(self, layers: Sequence[Layer]):
        super().__init__()
        self.input_size, self.hidden_size = layers[0].W_x.shape[1], layers[0].hidden_size
        self.layers: Sequence[Layer] = cast("Sequence[Layer]", nn.ModuleList(layers))

    def forward(
        self, x: Float[Tensor, "B T I"], hx: None = None
    ) -> tuple[
        Float[Tensor, "B T H"],
        Float[Tensor, "L B H"] | tuple[Float[Tensor, "L B H"], Float[Tensor, "L B H"]],
    ]:
        """All states of the top layer, and the last state of every layer: h, or (h, c) for the LSTM.

        Args:
            x: inputs, batch first.
            hx: must be ``None``, as these layers start from zero.

        Raises:
            InputError: inputs of another shape or dtype, or an initial state.
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
        """Refuse inputs that do not fit, before torch does, which does not know their names."""
        weight = self.layers[0].W_x
        is_dense = isinstance(x, Tensor) and x.layout is torch.strided
        has_shape = is_dense and x.dim() == 3 and x.shape[2] == self.input_size and x.shape[1] > 0
        has_dtype = is_dense and (x.dtype == weight.dtype or self._casts(x))
        if has_shape and has_dtype and hx is None:
            return
        kind = type(self).__name__
        if hx is not None:
            raise InputError(
                "the layers of leadline.recurrent start from zero",
                got=f"hx = {checks.shown(hx)}",
                cure=f"torch.nn.{kind} takes initial states",
            )
        raise InputError(
            f"{kind} needs inputs x of shape (batch, time, {self.input_size}), {weight.dtype}".replace(
                "torch.", ""
            ),
            got=f"x = {checks.shown(x)}",
            cause="torch.from_numpy(x) makes a tensor"
            if hasattr(x, "__array__") and not is_dense
            else None,
        )


class RNN(Network):
    """A stack of recurrent layers, ``h_t = sigma(W_h h_{t-1} + W_x x_t + b)``.

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
        kind = cast("Nonlinearity", checks.choice(nonlinearity, "nonlinearity", SIGMA))
        sizes = _sizes(input_size, hidden_size, num_layers)
        draw = torch_generator(checks.optional_seed(seed), "recurrent.weights")
        super().__init__([RNNLayer(kind, *size, generator=draw) for size in sizes])


class LSTM(Network):
    """A stack of LSTM layers with one bias per gate.

        i, f, o = sigmoid(W_h h_{t-1} + W_x x_t + b),  g = tanh(...),  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)

    Args:
        input_size: number of input features.
        hidden_size: number of hidden units of every layer.
        num_layers: layers; each reads the states of the one below.
        seed: as for :class:`RNN`.

    The gates' rows stand in the order i, f, g, o in ``layers[l].W_x``, ``.W_h`` and ``.b``.

    Raises:
        InputError: a size below 1.

    >>> network = LSTM(2, 3, seed=0)
    >>> sum(p.numel() for p in network.parameters())
    72
    >>> all_h, (last_h, last_c) = network(torch.zeros(5, 7, 2))
    >>> last_c.shape
    torch.Size([1, 5, 3])

    Reference: Hochreiter & Schmidhuber, *Long short-term memory*, 1997.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, seed: int | None = None
    ):
        sizes = _sizes(input_size, hidden_size, num_layers)
        draw = torch_generator(checks.optional_seed(seed), "recurrent.weights")
        super().__init__([LSTMLayer(*size, generator=draw) for size in sizes])


class GRU(Network):
    """A stack of GRU layers with one bias per gate, the reset gate behind the product, as in PyTorch.

        r, z = sigmoid(W_h h_{t-1} + W_x x_t + b),  n = tanh(W_xn x_t + b_n + r (W_hn h_{t-1})),
        h_t = (1 - z) n + z h_{t-1}

    Args:
        input_size: number of input features.
        hidden_size: number of hidden units of every layer.
        num_layers: layers; each reads the states of the one below.
        seed: as for :class:`RNN`.

    The gates' rows stand in the order r, z, n in ``layers[l].W_x``, ``.W_h`` and ``.b``.

    Raises:
        InputError: a size below 1.

    >>> sum(p.numel() for p in GRU(2, 3, seed=0).parameters())
    54

    Reference: Cho et al., *Learning phrase representations using RNN encoder-decoder*, 2014.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, seed: int | None = None
    ):
        sizes = _sizes(input_size, hidden_size, num_layers)
        draw = torch_generator(checks.optional_seed(seed), "recurrent.weights")
        super().__init__([GRULayer(*size, generator=draw) for size in sizes])


def _sizes(input_size: int, hidden_size: int, num_layers: int) -> list[tuple[int, int]]:
    input_size = checks.whole_number(input_size, "input_size", least=1, most=LARGEST_SIZE)
    hidden_size = checks.whole_number(hidden_size, "hidden_size", least=1, most=LARGEST_SIZE)
    num_layers = checks.whole_number(num_layers, "num_layers", least=1, most=LARGEST_SIZE)
    return [(input_size if layer == 0 else hidden_size, hidden_size) for layer in range(num_layers)]
