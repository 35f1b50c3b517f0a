"""The course's task: a linear head on every hidden state, its error, and the running average that it learns."""

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
        network: :class:`RNN`, :class:`LSTM` or :class:`GRU`.
        output_size: number of outputs.
        seed: draws the head's weights from a generator of its own.

    ``W_f`` has the shape (O, H), ``b_f`` (O,); both start uniform in ±1/sqrt(H).

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

    Formula: ``1/(B T O) sum_{b,t,o} (y_bto - target_bto)²``, or ``1/(B O) sum_{b,o}`` of the last timestep.

    Args:
        predictions: shape (B, T, O).
        targets: shape (B, T, O).
        last_only: count the last timestep alone: predict once, at the end.
        per_step: return the terms of each timestep, shape (T,), which sum to the scalar.

    Raises:
        InputError: no tensors of that shape, or shapes that differ.

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
                f"{name} must be a tensor of shape (batch, time, outputs), not empty",
                got=f"{name} = {checks.shown(values)}",
            )
    if predictions.shape != targets.shape:
        raise InputError(
            "predictions and targets have one shape",
            got=f"predictions {tuple(predictions.shape)}, targets {tuple(targets.shape)}",
            cause="a missing last axis would broadcast silently",
            cure="give targets the shape (B, T, O)",
        )
    squared = (predictions - targets).square().mean((0, 2))
    if not last_only:
        squared = squared / len(squared)
        return squared if per_step else squared.sum()
    return torch.cat([torch.zeros_like(squared[:-1]), squared[-1:]]) if per_step else squared[-1]


def running_average(
    batch: int, time: int, *, seed: int
) -> tuple[Float[Tensor, "B T 1"], Float[Tensor, "B T 1"]]:
    """Standard normal inputs and the mean of the inputs so far: :func:`leadline.data.running_average` as tensors.

    Formula: ``y_t = 1/t sum_{s <= t} x_s``.

    Args:
        batch: B, sequences, at least 1.
        time: T, timesteps, at least 1.
        seed: draws the inputs.

    >>> x, y = running_average(4, 10, seed=0)
    >>> x.shape, bool((y[:, 1] - (x[:, 0] + x[:, 1]) / 2).abs().max() < 1e-6)
    (torch.Size([4, 10, 1]), True)
    """
    batch = checks.whole_number(batch, "batch", least=1, most=LONGEST)
    time = checks.whole_number(time, "time", least=1, most=LONGEST // batch)
    x, y = data.running_average(batch, time, seed=checks.seed(seed))
    return torch.from_numpy(x), torch.from_numpy(y)
