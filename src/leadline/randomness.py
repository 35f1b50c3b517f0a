"""Streams of random numbers that do not meet.

A seed names an experiment; a purpose names what is drawn in it. Two purposes under one seed, and one purpose under two
seeds, are independent streams, so that ``seed=3`` for the network and ``seed=3`` for its head share no number.
"""

import hashlib

import torch


def generator(seed: int | None, purpose: str) -> torch.Generator | None:
    """A generator for one purpose under a seed; ``None``, for torch's global generator, without a seed.

    >>> a, b = generator(0, "weights"), generator(0, "data")
    >>> bool((torch.rand(3, generator=a) != torch.rand(3, generator=b)).all())
    True
    """
    if seed is None:
        return None
    digest = hashlib.sha256(f"{purpose}\0{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
