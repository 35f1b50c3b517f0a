"""The arithmetic of a scan through time: NumPy on the CPU, PyTorch elsewhere.

One step of a recurrence is a few operations on a few rows, so the calls themselves cost the most.
A call of NumPy costs a third of a call of PyTorch. The equations are written once, with operators
that arrays and tensors share and with the functions below.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Arithmetic(NamedTuple):
    """The operations whose names differ between NumPy and PyTorch."""

    array: Callable[[Tensor], Any]
    """Return the numbers of a tensor, in the same memory."""
    tensor: Callable[[Any], Tensor]
    """Return an array as a tensor, in the same memory."""
    multiply: Callable[..., Any]
    """``multiply(a, b, out=c)``: write ``a * b`` into ``c``."""
    multiply_add: Callable[[Any, Any, Any], Any]
    """``multiply_add(a, b, c)``: return ``a + b * c``."""
    product: Callable[[Any, Any, Any], None]
    """``product(rows, W, out)``: write ``rows @ W`` into ``out``."""
    add_product: Callable[[Any, Any, Any], None]
    """``add_product(rows, W, out)``: add ``rows @ W`` to ``out``."""


def _multiply_add_in_numpy(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return a + b * c


def _product_in_numpy(rows: np.ndarray, W: np.ndarray, out: np.ndarray) -> None:
    np.matmul(rows, W, out=out)


def _add_product_in_numpy(rows: np.ndarray, W: np.ndarray, out: np.ndarray) -> None:
    out += rows @ W


def _product_in_torch(rows: Tensor, W: Tensor, out: Tensor) -> None:
    torch.mm(rows.flatten(0, -2), W, out=out.view(-1, out.shape[-1]))


def _add_product_in_torch(rows: Tensor, W: Tensor, out: Tensor) -> None:
    out.view(-1, out.shape[-1]).addmm_(rows.flatten(0, -2), W)


IN_NUMPY = Arithmetic(
    Tensor.numpy,
    torch.from_numpy,
    np.multiply,
    _multiply_add_in_numpy,
    _product_in_numpy,
    _add_product_in_numpy,
)
IN_TORCH = Arithmetic(
    lambda tensor: tensor,
    lambda tensor: tensor,
    torch.mul,
    torch.addcmul,
    _product_in_torch,
    _add_product_in_torch,
)

PullBack = Callable[[int, Any, Any], None]
"""``(t, rows, out)``: write ``rows ds_t/ds_{t-1}`` into ``out``, both of shape (*batch, S)."""

Adjoint = Callable[[Arithmetic, Tensor], PullBack]
"""The adjoint of a recurrence, in an arithmetic, for rows that have the shape of a tensor."""


def arithmetic_for(values: Tensor) -> Arithmetic:
    """Return the faster arithmetic for the device of ``values``."""
    return IN_NUMPY if values.device.type == "cpu" else IN_TORCH
