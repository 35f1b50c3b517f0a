"""Where does the gradient die? dL/dh_t through every timestep of a recurrent network."""

import torch
from torch import Tensor

from leadline import data
from leadline.recurrent.flow import GradientFlow, LayerFlow
from leadline.recurrent.layers import RNN, Regression, RNNLayer, mse
from leadline.recurrent.tracing import Tape, trace

__all__ = [
    "RNN",
    "GradientFlow",
    "LayerFlow",
    "RNNLayer",
    "Regression",
    "Tape",
    "mse",
    "running_average",
    "trace",
]


def running_average(batch: int, time: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """The course's task as tensors: see :func:`leadline.data.running_average`.

    >>> x, y = running_average(4, 10, seed=0)
    >>> x.shape, bool((y[:, 1] - (x[:, 0] + x[:, 1]) / 2).abs().max() < 1e-6)
    (torch.Size([4, 10, 1]), True)
    """
    x, y = data.running_average(batch, time, seed=seed)
    return torch.from_numpy(x), torch.from_numpy(y)
