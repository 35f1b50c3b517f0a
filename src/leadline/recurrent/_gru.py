"""The GRU cell and its network."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from leadline.recurrent._arithmetic import Arithmetic
from leadline.recurrent._cell import Cell, Gates, KeepingGate, Parts
from leadline.recurrent._network import Network


class GRUSlopes(NamedTuple):
    """The elementwise derivatives of one step."""

    update: Any
    """``z``, the derivative of h_t with respect to h_{t-1} past the gates."""
    reset: Any
    """``r``, the derivative of the argument of n with respect to u."""
    to_n: Any
    """``(1 - z)(1 - n²)``, the derivative of h_t with respect to the argument of n."""
    to_z: Any
    """``(h_{t-1} - n) z (1 - z)``, the derivative of h_t with respect to the argument of z."""
    to_r: Any
    """``u r (1 - r)``, the derivative of n's argument with respect to the argument of r."""


class GRUCell(Cell):
    """``h_t = (1 - z) n + z h_{t-1}`` with a reset gate r and an update gate z.

    The candidate is ``n = tanh(W_xn x_t + b_xn + r u)`` with ``u = W_hn h_{t-1} + b_hn``.

    The gates are stacked as r, z, n. The reset gate multiplies the product, as in PyTorch. With
    ``dn = dh (1-z)(1-n²)``, ``from_x`` receives ``[dn u r(1-r), dh (h_{t-1} - n) z(1-z), dn]``;
    ``from_h`` receives the same with ``dn r`` in the last place; and h_{t-1} receives ``dh z``
    past the gates.

    Reference: Cho et al., *Learning phrase representations using RNN encoder-decoder*, 2014.
    """

    names: ClassVar = ("gru",)
    gate_names: ClassVar = ("r", "z", "n")
    steepest_slopes: ClassVar = (0.25, 0.25, 1.0)
    keeping_gate: ClassVar = KeepingGate(1, "the update gate")
    is_h_kept: ClassVar = True
    reads_sum: ClassVar = False
    torch_layers: ClassVar = (nn.GRU,)
    torch_cells: ClassVar = (nn.GRUCell,)

    def activate(self, from_x: Tensor, from_h: Tensor | None, axis: int) -> Gates:
        """Return r, z, n and u."""
        assert from_h is not None
        x_r, x_z, x_n = from_x.chunk(3, axis)
        h_r, h_z, u = from_h.chunk(3, axis)
        r = (x_r + h_r).sigmoid()
        z = (x_z + h_z).sigmoid()
        n = (x_n + r * u).tanh()
        return r, z, n, u

    def advance(self, gates: Gates, before: Parts) -> Parts:
        """Return h_t."""
        _, z, n, _ = gates
        return ((1 - z) * n + z * before[0],)

    def slopes(self, gates: Gates, before: Parts, after: Parts) -> GRUSlopes:
        """Return the derivatives of h_t."""
        r, z, n, u = gates
        new = 1 - z
        moved = (before[0] - n) * z
        ru = r * u
        return GRUSlopes(
            update=z,
            reset=r,
            to_n=torch.addcmul(new, new * n, n, value=-1),
            to_z=torch.addcmul(moved, moved, z, value=-1),
            to_r=torch.addcmul(ru, ru, r, value=-1),
        )

    def pull_back(
        self, slopes: tuple[Any, ...], rows: Parts, da: Gates, out: Parts, on: Arithmetic
    ) -> None:
        """``da = [dn to_r, dh to_z, dn]`` with ``dn = dh to_n``, and ``dh z`` past the gates."""
        update, _, to_n, to_z, to_r = slopes
        on.multiply(rows[0], to_n, out=da[2])
        on.multiply(da[2], to_r, out=da[0])
        on.multiply(rows[0], to_z, out=da[1])
        on.multiply(rows[0], update, out=out[0])

    def turn_to_recurrent(self, slopes: tuple[Any, ...], da: Gates, on: Arithmetic) -> None:
        """Multiply ``dn`` by the reset gate."""
        on.multiply(da[2], slopes[1], out=da[2])

    def push_forward(self, slopes: tuple[Any, ...], tangents: Parts, du: Gates) -> Parts:
        """``dh = to_n (to_r du_r + r du_n) + to_z du_z + z dh``."""
        update, reset, to_n, to_z, to_r = slopes
        dn = du[0] * to_r + du[2] * reset
        return (dn * to_n + du[1] * to_z + tangents[0] * update,)

    def passing(self, slopes: tuple[Tensor, ...]) -> Tensor:
        """Return the update gate."""
        return slopes[0]

    def kernel(self) -> Callable[..., Any]:
        """Return ``torch.gru``."""
        return torch.gru


class GRU(Network):
    """A stack of GRU layers with one bias per gate; the reset gate multiplies the product.

        r, z = sigmoid(W_h h_{t-1} + W_x x_t + b),  n = tanh(W_xn x_t + b_n + r (W_hn h_{t-1}))
        h_t = (1 - z) n + z h_{t-1}

    Args:
        input_size: number of input features, at least 1.
        hidden_size: number of hidden units of every layer, at least 1.
        num_layers: number of layers, at least 1; each reads the states of the layer below.
        seed: seed of the initial weights. Without it, torch's global generator draws them.

    The gates' rows are stacked as r, z, n in ``layers[l].W_x``, ``.W_h`` and ``.b``.

    Raises:
        InputError: a size is below 1.

    >>> sum(p.numel() for p in GRU(2, 3, seed=0).parameters())
    54

    Reference: Cho et al., *Learning phrase representations using RNN encoder-decoder*, 2014.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, seed: int | None = None
    ):
        super().__init__(GRUCell(), input_size, hidden_size, num_layers, seed=seed)
