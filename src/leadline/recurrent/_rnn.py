"""The plain recurrent cell and its network."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leadline import checks
from leadline.recurrent._arithmetic import Arithmetic
from leadline.recurrent._cell import Cell, Gates, Parts, total
from leadline.recurrent._network import LONGEST, Network

Nonlinearity = Literal["tanh", "relu", "identity"]

SIGMA: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": lambda a: a,
}
"""The nonlinearity by its name."""

SLOPE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda h: h.square().neg_().add_(1),
    "relu": lambda h: (h > 0).to(h.dtype),
    "identity": torch.ones_like,
}
"""The derivative ``sigma'(a)``, computed from ``h = sigma(a)``."""


class RNNSlopes(NamedTuple):
    """The elementwise derivatives of one step."""

    sigma: Any
    """``sigma'(a_t)``."""


class RNNCell(Cell):
    """A plain recurrent cell: ``h_t = sigma(a_t)`` with ``a_t = W_h h_{t-1} + W_x x_t + b``.

    Its Jacobian is ``J_t = diag(sigma'(a_t)) W_h``.
    """

    names: ClassVar = tuple(SIGMA)
    torch_layers: ClassVar = (nn.RNN,)
    torch_cells: ClassVar = (nn.RNNCell,)

    def __init__(self, nonlinearity: Nonlinearity = "tanh"):
        self.nonlinearity: Nonlinearity = nonlinearity

    @property
    def name(self) -> str:
        """The name of the nonlinearity."""
        return self.nonlinearity

    def activate(self, from_x: Tensor, from_h: Tensor | None, axis: int) -> Gates:
        """Return ``sigma(a_t)``."""
        return (SIGMA[self.nonlinearity](total(from_x, from_h)),)

    def advance(self, gates: Gates, before: Parts) -> Parts:
        """Return h_t."""
        return gates

    def slopes(self, gates: Gates, before: Parts, after: Parts) -> RNNSlopes:
        """Return ``sigma'(a_t)``."""
        return RNNSlopes(SLOPE[self.nonlinearity](after[0]))

    def pull_back(
        self, slopes: tuple[Any, ...], rows: Parts, da: Gates, out: Parts, on: Arithmetic
    ) -> None:
        """``da = dh sigma'(a_t)``."""
        on.multiply(rows[0], slopes[0], out=da[0])

    def push_forward(self, slopes: tuple[Any, ...], tangents: Parts, du: Gates) -> Parts:
        """``sigma'(a_t) du``."""
        return (du[0] * slopes[0],)

    def passing(self, slopes: tuple[Tensor, ...]) -> Tensor:
        """Return ``sigma'(a_t)``."""
        return slopes[0]

    def kernel(self) -> Callable[..., Any] | None:
        """Return ``torch.rnn_tanh`` or ``torch.rnn_relu``."""
        return {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}.get(self.nonlinearity)

    @classmethod
    def of(cls, module: nn.Module) -> "RNNCell":
        """Return the cell with the module's nonlinearity."""
        return cls(cast("Nonlinearity", module.nonlinearity))


class RNN(Network):
    """A stack of recurrent layers, ``h_t = sigma(W_h h_{t-1} + W_x x_t + b)``.

    Args:
        input_size: number of input features, at least 1.
        hidden_size: number of hidden units of every layer, at least 1.
        num_layers: number of layers, at least 1; each reads the states of the layer below.
        nonlinearity: ``"tanh"``, ``"relu"`` or ``"identity"``.
        seed: seed of the initial weights. Without it, torch's global generator draws them.

    Weights and biases are drawn uniformly from ±1/sqrt(hidden_size). The parameters are
    ``layers[l].W_x``, ``.W_h`` and ``.b``.

    Raises:
        InputError: a size is below 1, or the nonlinearity is unknown.

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
        name = cast("Nonlinearity", checks.choice(nonlinearity, "nonlinearity", SIGMA))
        super().__init__(RNNCell(name), input_size, hidden_size, num_layers, seed=seed)

    @staticmethod
    def zero_radius_that_explodes(time: int = 30) -> tuple["RNN", Float[Tensor, "1 T 1"]]:
        """Return a ReLU network with spectral radius 0 whose gradient doubles at every step back.

        ``W_h = [[2, 2], [-2, -2]]`` is nilpotent, ``W_h W_h = 0``, so every eigenvalue is 0. With
        ``b = (-1, 0)`` and an input that sets ``h_1 = (1, 0)``, the second unit stays off, and

            h_t = (1, 0),  J_t = [[2, 2], [0, 0]],  dh_T/dh_t = [[2^n, 2^n], [0, 0]],  n = T - t.

        The slopes of the nonlinearity turn the nilpotent matrix into one that is not nilpotent. So
        a spectral radius below 1 does not make gradients vanish if ``W_h`` is not normal.

        Args:
            time: T, the number of timesteps, at least 1.

        Returns:
            The network, in float64, and its input, which is 2 at the first timestep and 0
            elsewhere.

        Raises:
            InputError: ``time`` is below 1.

        >>> network, x = RNN.zero_radius_that_explodes(time=5)
        >>> network(x)[0][0].unique(dim=0).tolist()
        [[1.0, 0.0]]
        """
        time = checks.whole_number(time, "time", least=1, most=LONGEST)
        network = RNN(1, 2, nonlinearity="relu", seed=0).double()
        (layer,) = network.layers
        with torch.no_grad():
            layer.W_h.copy_(torch.tensor([[2.0, 2.0], [-2.0, -2.0]]))
            layer.W_x.copy_(torch.tensor([[1.0], [0.0]]))
            layer.b.copy_(torch.tensor([-1.0, 0.0]))
        x = torch.zeros(1, time, 1, dtype=torch.float64)
        x[:, 0] = 2.0
        return network, x
