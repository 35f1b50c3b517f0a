"""Hashes that identify data: one for each row, to find rows that were seen before, and one for whole arrays."""

import hashlib
import math
from typing import Any

import numpy as np
from jaxtyping import UInt64

from leadline import checks
from leadline.errors import InputError


def row_fingerprints(X: Any) -> UInt64[np.ndarray, " n"]:
    """A 64-bit hash of each row: rows that are equal as float32 have equal hashes, others (almost surely) do not.

    BLAKE2b over the row's float32 values. Memory layout and number type make no difference, and 0 equals -0. Among n
    different rows a pair collides with probability about ``n^2 / 2^65``: 3e-8 for a million rows.

    Args:
        X: numbers of shape (n, ...); what follows the first axis belongs to the row.

    Returns:
        Hashes of shape (n,). ``np.isin(row_fingerprints(new), row_fingerprints(old))`` tells which rows were seen
        before, and the hashes serve as ``groups`` in :func:`split_roles`.

    Raises:
        InputError: not an array of numbers with at least one axis.

    >>> row_fingerprints([[1, 2], [3, 4], [1.0, 2.0]]).tolist().index(row_fingerprints([[1, 2]])[0])
    0

    Reference: Aumasson et al., *BLAKE2: simpler, smaller, fast as MD5*, 2013.
    """
    array = checks.array(X, "X")
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise InputError(
            "rows are numbers of shape (n, ...)",
            got=f"X of shape {array.shape}, dtype {array.dtype}",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.ascontiguousarray(
            array.reshape(len(array), math.prod(array.shape[1:])), dtype="<f4"
        ) + np.float32(0)  # -0 becomes 0
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def fingerprint(*arrays: Any) -> str:
    """A short name for the contents of arrays, for protocols: 16 hexadecimal digits.

    Values, shapes, number types and order count; memory layout does not.

    Args:
        arrays: arrays of numbers or strings; ``None`` stands for an array that is not there (no labels).

    Raises:
        InputError: an object array, whose contents have no bytes of their own.

    >>> fingerprint(np.arange(3.0)) == fingerprint(np.arange(6.0)[::2] / 2)
    True
    >>> fingerprint(np.arange(3.0)) == fingerprint(np.arange(3))
    False
    """
    state = hashlib.blake2b(digest_size=8)
    for i, value in enumerate(arrays):
        array = np.zeros(0, "V1") if value is None else checks.array(value, f"arrays[{i}]")
        if array.dtype.hasobject:
            raise InputError(
                "a fingerprint needs plain arrays", got=f"arrays[{i}] of dtype {array.dtype}"
            )
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()
