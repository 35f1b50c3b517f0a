"""Streams of random numbers that do not meet.

A seed names an experiment; a purpose names what is drawn in it. Two purposes under one seed, and one purpose under two
seeds, are independent streams, so that ``seed=3`` for the network and ``seed=3`` for its head share no number.
"""

import hashlib
from typing import TYPE_CHECKING, overload

import numpy as np

from leadline import checks

if TYPE_CHECKING:
    import torch


@overload
def torch_generator(
    seed: int, purpose: str, device: "torch.device | str" = "cpu"
) -> "torch.Generator": ...
@overload
def torch_generator(
    seed: int | None, purpose: str, device: "torch.device | str" = "cpu"
) -> "torch.Generator | None": ...
def torch_generator(
    seed: int | None, purpose: str, device: "torch.device | str" = "cpu"
) -> "torch.Generator | None":
    """Torch's generator for one purpose under a seed; ``None``, for the global generator, without a seed.

    >>> import torch
    >>> a, b = torch_generator(0, "weights"), torch_generator(0, "data")
    >>> bool((torch.rand(3, generator=a) != torch.rand(3, generator=b)).all())
    True
    """
    import torch

    return None if seed is None else torch.Generator(device).manual_seed(_stream(seed, purpose))


def numpy_generator(seed: int, purpose: str) -> np.random.Generator:
    """NumPy's generator for one purpose under a seed.

    >>> bool((numpy_generator(0, "roles").random(3) != numpy_generator(0, "labels").random(3)).all())
    True
    """
    return np.random.default_rng(_stream(seed, purpose))


def _stream(seed: int, purpose: str) -> int:
    seed = checks.seed(seed)
    digest = hashlib.sha256(f"{purpose}\0{seed}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
