"""A linear head on a recurrent network, its error, and the running-average task."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leadline import checks, data
from leadline.errors import InputError
from leadline.randomness import torch_generator
from leadline.recurrent._network import LARGEST_SIZE, LONGEST, Network


class Regression(nn.Module):
    """A linear head on every hidden state, ``y_t = W_f h_t + b_f``.

    Args:
        network: an :class:`RNN`, :class:`LSTM` or :class:`GRU`.
        output_size: number of outputs O, at least 1.
        seed: seed of the head's initial weights. Without it, torch's global generator draws them.

    ``W_f`` has the shape (O, H) and ``b_f`` (O,); both are drawn uniformly from ±1/sqrt(H).

    Raises:
        InputError: ``network`` is not a network of this package, or ``output_size`` is below 1.

    >>> from leadline.recurrent import RNN
    >>> model = Regression(RNN(2, 3, seed=0), 4, seed=1)
    >>> sum(p.numel() for p in model.parameters())
    34
    >>> predictions, states = model(torch.zeros(5, 7, 2))
    >>> predictions.shape, states.shape
    (torch.Size([5, 7, 4]), torch.Size([5, 7, 3]))
    """

    def __init__(self, network: Network, output_size: int = 1, *, seed: int | None = None):
        super().__init__()
        self.network = checks.instance(
            network, "network", Network, wanted="recurrent.RNN, LSTM or GRU"
        )
        output_size = checks.whole_number(output_size, "output_size", least=1, most=LARGEST_SIZE)
        draw = torch_generator(checks.optional_seed(seed), "recurrent.head")
        bound = 1 / math.sqrt(network.hidden_size)
        self.W_f = nn.Parameter(
            torch.empty(output_size, network.hidden_size).uniform_(-bound, bound, generator=draw)
        )
        self.b_f = nn.Parameter(torch.empty(output_size).uniform_(-bound, bound, generator=draw))

    def forward(
        self, x: Float[Tensor, "B T I"]
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B T H"]]:
        """Return predictions and hidden states at every timestep."""
        states = self.network(x)[0]
        return states @ self.W_f.T + self.b_f, states


def mse(
    predictions: Float[Tensor, "B T O"],
    targets: Float[Tensor, "_ _ _"],
    last_only: bool = False,
    per_step: bool = False,
) -> Tensor:
    """Return the mean squared error over all timesteps, or at the last timestep only.

    Formula: ``1/(B T O) sum_{b,t,o} (y_bto - target_bto)²``, or ``1/(B O) sum_{b,o}`` of the
    last timestep.

    Args:
        predictions: shape (B, T, O).
        targets: shape (B, T, O).
        last_only: compute the error at the last timestep only.
        per_step: return the term of each timestep, shape (T,); they sum to the scalar.

    Raises:
        InputError: an argument is not such a tensor, or the shapes differ.

    >>> y = torch.zeros(2, 3, 1)
    >>> mse(y + 1, y), mse(y + 1, y, per_step=True).sum()
    (tensor(1.), tensor(1.))
    """
    last_only = checks.flag(last_only, "last_only")
    per_step = checks.flag(per_step, "per_step")
    for name, values in {"predictions": predictions, "targets": targets}.items():
        is_dense = (
            isinstance(values, Tensor)
            and values.layout is torch.strided
            and not values.is_complex()
        )
        if not is_dense or values.dim() != 3 or not values.numel() or values.is_meta:
            raise InputError(
                f"mse() needs {name} as a tensor of shape (batch, time, outputs) that is not empty",
                got=f"{name} = {checks.shown(values)}",
            )
    if predictions.shape != targets.shape:
        raise InputError(
            "mse() needs predictions and targets of one shape",
            got=f"predictions {tuple(predictions.shape)}, targets {tuple(targets.shape)}",
            cure="give targets the shape of the predictions",
        )
    squared = (predictions - targets).square().mean((0, 2))
    if not last_only:
        squared = squared / len(squared)
        return squared if per_step else squared.sum()
    return torch.cat([torch.zeros_like(squared[:-1]), squared[-1:]]) if per_step else squared[-1]


def running_average(
    batch: int, time: int, *, seed: int
) -> tuple[Float[Tensor, "B T 1"], Float[Tensor, "B T 1"]]:
    """Return standard normal inputs and the mean of the inputs so far, as tensors.

    Formula: ``y_t = 1/t sum_{s <= t} x_s``.

    Args:
        batch: number of sequences B, at least 1.
        time: number of timesteps T, at least 1.
        seed: seed of the inputs.

    See Also:
        :func:`leadline.data.running_average`: the same as NumPy arrays.

    >>> x, y = running_average(4, 10, seed=0)
    >>> x.shape, bool((y[:, 1] - (x[:, 0] + x[:, 1]) / 2).abs().max() < 1e-6)
    (torch.Size([4, 10, 1]), True)
    """
    batch = checks.whole_number(batch, "batch", least=1, most=LONGEST)
    time = checks.whole_number(time, "time", least=1, most=LONGEST // batch)
    x, y = data.running_average(batch, time, seed=checks.seed(seed))
    return torch.from_numpy(x), torch.from_numpy(y)
