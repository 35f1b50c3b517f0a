"""Networks whose gradients are known exactly, and are not what a rule of thumb says."""

import torch
from jaxtyping import Float
from torch import Tensor

from leadline import checks
from leadline.recurrent._network import LONGEST
from leadline.recurrent._rnn import RNN


def zero_radius_that_explodes(time: int = 30) -> tuple[RNN, Float[Tensor, "1 T 1"]]:
    """A ReLU network whose ``W_h`` has spectral radius 0 and whose gradient doubles at every step back.

    ``W_h = [[2, 2], [-2, -2]]`` is nilpotent, ``W_h W_h = 0``: every eigenvalue is 0. With ``b = (-1, 0)`` and
    ``h_1 = (1, 0)``, to which the first input leads, the second unit stays off and the first sees itself:

        h_t = (1, 0),    J_t = [[2, 2], [0, 0]],    dh_T/dh_t = [[2^n, 2^n], [0, 0]],    n = T - t.

    Multiplying by the nonlinearity's slopes turns a nilpotent matrix into one that is not: a spectral radius below 1 is
    no reason to vanish, since ``W_h`` is not normal.

    Args:
        time: T, the number of timesteps.

    Returns:
        The network, in float64, and its input, which is 2 at the first timestep and 0 from there on.

    Raises:
        InputError: a time below 1.

    >>> network, x = zero_radius_that_explodes(time=5)
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
