"""The arithmetic of a scan through time: NumPy's on the CPU, PyTorch's elsewhere.

One step of a recurrence is a few operations on a few rows. What it costs is the calls, and a call of NumPy's costs a
third of one of PyTorch's. Equations are written once, with the operators that arrays and tensors share.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Arithmetic(NamedTuple):
    """What arrays and tensors do not share."""

    of: Callable[[Tensor], Any]
    """A tensor's numbers, in the same memory."""
    tensor: Callable[[Any], Tensor]
    """And back."""
    stack: Callable[[list[Any]], Any]
    """Along a new first axis."""
    concatenate: Callable[[tuple[Any, ...], int], Any]
    """Along an axis."""
    zeros_like: Callable[[Any], Any]


IN_NUMPY = Arithmetic(Tensor.numpy, torch.from_numpy, np.array, np.concatenate, np.zeros_like)
IN_TORCH = Arithmetic(
    lambda tensor: tensor, lambda tensor: tensor, torch.stack, torch.cat, torch.zeros_like
)

PullBack = Callable[[int, Any], Any]
"""``(t, rows (*batch, S)) -> rows J_t``: from the state at t to the state at t - 1."""

Adjoint = Callable[[Arithmetic], PullBack]
"""The adjoint of a recurrence, in an arithmetic."""


def arithmetic_for(values: Tensor) -> Arithmetic:
    """The faster one, where these numbers are."""
    return IN_NUMPY if values.device.type == "cpu" else IN_TORCH
