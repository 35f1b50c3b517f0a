"""Independent streams of random numbers.

A stream is identified by a seed and a purpose. Two different purposes with the same seed give
independent streams, and so do two different seeds with the same purpose. For example, ``seed=3``
for a network and ``seed=3`` for its head share no random numbers.
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
    """Return the torch generator for a seed and a purpose.

    Without a seed, return ``None``, which makes torch use its global generator.

    >>> import torch
    >>> a, b = torch_generator(0, "weights"), torch_generator(0, "data")
    >>> bool((torch.rand(3, generator=a) != torch.rand(3, generator=b)).all())
    True
    """
    import torch

    return None if seed is None else torch.Generator(device).manual_seed(_stream(seed, purpose))


def numpy_generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the NumPy generator for a seed and a purpose.

    >>> roles = numpy_generator(0, "roles").random(3)
    >>> labels = numpy_generator(0, "labels").random(3)
    >>> bool((roles != labels).all())
    True
    """
    return np.random.default_rng(_stream(seed, purpose))


def _stream(seed: int, purpose: str) -> int:
    seed = checks.seed(seed)
    digest = hashlib.sha256(f"{purpose}\0{seed}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
