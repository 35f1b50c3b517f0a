"""Each recurrent cell's equations and their adjoints, in closed form, on the numbers of a recorded forward pass."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.recurrent.layers import RNNLayer

# Derivative of the nonlinearity, from its value: h = sigma(a) -> sigma'(a).
SLOPE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda h: 1 - h.square(),
    "relu": lambda h: (h > 0).to(h.dtype),
    "identity": torch.ones_like,
}


@dataclass(frozen=True, eq=False)
class RNNRecord:
    """One forward pass through ``h_t = sigma(W_h h_{t-1} + W_x x_t + b)``.

    Its Jacobians are ``J_t = dh_t/dh_{t-1} = D(sigma'(a_t)) W_h`` and ``dh_t/dx_t = D(sigma'(a_t)) W_x``, D(.) being
    a diagonal matrix.
    """

    states: Float[Tensor, "T B H"]
    slopes: Float[Tensor, "T B H"]
    W_h: Float[Tensor, "H H"]
    W_x: Float[Tensor, "H I"]

    @classmethod
    def of(cls, layer: RNNLayer, states: Float[Tensor, "B T H"]) -> "RNNRecord":
        """From the states that the layer returned."""
        by_time = states.detach().transpose(0, 1)
        return cls(by_time, SLOPE[layer.nonlinearity](by_time), layer.W_h.detach(), layer.W_x.detach())

    def pull_back(self, t: int, rows: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
        """``rows J_t``: from the state at t to the state at t - 1."""
        return (rows * self.slopes[t]) @ self.W_h

    def to_input(self, rows: Float[Tensor, "T B H"]) -> Float[Tensor, "T B I"]:
        """``rows dh_t/dx_t``, for all timesteps at once."""
        return (rows * self.slopes) @ self.W_x
