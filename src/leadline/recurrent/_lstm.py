"""The LSTM cell and its network."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from leadline.recurrent._arithmetic import Arithmetic
from leadline.recurrent._cell import CellWithMemory, Gates, KeepingGate, Parts, total
from leadline.recurrent._network import Network


class LSTMSlopes(NamedTuple):
    """The elementwise derivatives of one step."""

    forget: Any
    """``f``, the derivative of c_t with respect to c_{t-1}."""
    to_c: Any
    """``o (1 - tanh² c_t)``, the derivative of h_t with respect to c_t."""
    to_i: Any
    """``g i (1 - i)``, the derivative of c_t with respect to the argument of i."""
    to_f: Any
    """``c_{t-1} f (1 - f)``, the derivative of c_t with respect to the argument of f."""
    to_g: Any
    """``i (1 - g²)``, the derivative of c_t with respect to the argument of g."""
    to_o: Any
    """``tanh(c_t) o (1 - o)``, the derivative of h_t with respect to the argument of o."""


class LSTMCell(CellWithMemory):
    """``c_t = f c_{t-1} + i g``, ``h_t = o tanh(c_t)``; the gates are stacked as i, f, g, o.

    The state is (h, c). With ``dc' = dc + dh o (1 - tanh² c_t)``, the arguments of the gates
    receive ``[dc' g i(1-i), dc' c_{t-1} f(1-f), dc' i (1-g²), dh tanh(c_t) o(1-o)]``, and c_{t-1}
    receives ``dc' f``.

    Reference: Hochreiter & Schmidhuber, *Long short-term memory*, 1997; Gers et al., 2000 (the
    forget gate).
    """

    names: ClassVar = ("lstm",)
    gate_names: ClassVar = ("i", "f", "g", "o")
    steepest_slopes: ClassVar = (0.25, 0.25, 1.0, 0.25)
    keeping_gate: ClassVar = KeepingGate(1, "the forget gate")
    torch_layers: ClassVar = (nn.LSTM,)
    torch_cells: ClassVar = (nn.LSTMCell,)

    def activate(self, from_x: Tensor, from_h: Tensor | None, axis: int) -> Gates:
        """Return i, f, g and o."""
        i, f, g, o = total(from_x, from_h).chunk(4, axis)
        return i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()

    def remember(self, gates: Gates, c: Tensor) -> Tensor:
        """Return ``f c_{t-1} + i g``."""
        i, f, g, _ = gates
        return torch.addcmul(i * g, f, c)

    def output(self, gates: Gates, c: Tensor) -> Tensor:
        """Return ``o tanh(c_t)``."""
        return gates[3] * c.tanh()

    def slopes(self, gates: Gates, before: Parts, after: Parts) -> LSTMSlopes:
        """Return the derivatives of h_t and c_t."""
        # Products that recur are formed once: i (1 - g²) = i - (i g) g, and so on.
        i, f, g, o = gates
        h, c = after
        ig = i * g
        fc = f * before[1]
        return LSTMSlopes(
            forget=f,
            to_c=torch.addcmul(o, h, c.tanh(), value=-1),
            to_i=torch.addcmul(ig, ig, i, value=-1),
            to_f=torch.addcmul(fc, fc, f, value=-1),
            to_g=torch.addcmul(i, ig, g, value=-1),
            to_o=torch.addcmul(h, h, o, value=-1),
        )

    def pull_back(
        self, slopes: tuple[Any, ...], rows: Parts, da: Gates, out: Parts, on: Arithmetic
    ) -> None:
        """``da = [dc' to_i, dc' to_f, dc' to_g, dh to_o]``, and ``dc' f`` past the gates."""
        forget, _, to_i, to_f, to_g, to_o = slopes
        dc = self.memory_rows(slopes, rows, on)
        on.multiply(dc, to_i, out=da[0])
        on.multiply(dc, to_f, out=da[1])
        on.multiply(dc, to_g, out=da[2])
        on.multiply(rows[0], to_o, out=da[3])
        on.multiply(dc, forget, out=out[1])

    def push_forward(self, slopes: tuple[Any, ...], tangents: Parts, du: Gates) -> Parts:
        """``dc = to_i du_i + to_f du_f + to_g du_g + f dc``, ``dh = to_c dc + to_o du_o``."""
        forget, to_c, to_i, to_f, to_g, to_o = slopes
        dc = du[0] * to_i + du[1] * to_f + du[2] * to_g + tangents[1] * forget
        return du[3] * to_o + dc * to_c, dc

    def memory_rows(self, slopes: tuple[Any, ...], rows: Parts, on: Arithmetic) -> Any:
        """Return ``dc' = dc + dh to_c``."""
        return on.multiply_add(rows[1], rows[0], slopes[1])

    def passing(self, slopes: tuple[Tensor, ...]) -> Tensor:
        """Return the forget gate."""
        return slopes[0]

    def kernel(self) -> Callable[..., Any]:
        """Return ``torch.lstm``."""
        return torch.lstm


class LSTM(Network):
    """A stack of LSTM layers with one bias per gate.

        i, f, o = sigmoid(W_h h_{t-1} + W_x x_t + b),  g = tanh(...)
        c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)

    Args:
        input_size: number of input features, at least 1.
        hidden_size: number of hidden units of every layer, at least 1.
        num_layers: number of layers, at least 1; each reads the states of the layer below.
        seed: seed of the initial weights. Without it, torch's global generator draws them.

    The gates' rows are stacked as i, f, g, o in ``layers[l].W_x``, ``.W_h`` and ``.b``.

    Raises:
        InputError: a size is below 1.

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
        super().__init__(LSTMCell(), input_size, hidden_size, num_layers, seed=seed)
