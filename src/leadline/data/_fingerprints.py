"""Hashes of rows, which find repeated rows, and hashes of whole arrays."""

import hashlib
import math
from typing import Any

import numpy as np
from jaxtyping import UInt64

from leadline import checks
from leadline.errors import InputError


def row_fingerprints(X: Any) -> UInt64[np.ndarray, " n"]:
    """Return a 64-bit hash of each row.

    Rows that are equal in float32 have equal hashes; different rows almost surely have different
    hashes. The hash is BLAKE2b of the float32 values. It does not depend on memory layout and
    dtype, and treats -0 as 0. Among n different rows, the probability of a collision is about ``n^2
    / 2^65``: 3e-8 for a million rows.

    Args:
        X: numbers of shape (n, ...). The first axis counts the rows.

    Returns:
        Hashes of shape (n,). ``np.isin(row_fingerprints(new), row_fingerprints(old))`` finds the
        new rows that also occur among the old rows. The hashes can be the ``groups`` of
        :func:`split_roles`.

    Raises:
        InputError: ``X`` is not an array of numbers with at least one axis.

    >>> row_fingerprints([[1, 2], [3, 4], [1.0, 2.0]]).tolist().index(row_fingerprints([[1, 2]])[0])
    0

    Reference: Aumasson et al., *BLAKE2: simpler, smaller, fast as MD5*, 2013.
    """
    array = checks.array(X, "X")
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise InputError(
            "X must hold numbers of shape (n, ...)",
            got=f"X of shape {array.shape}, dtype {array.dtype}",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        # Adding zero turns -0 into 0.
        rows = np.ascontiguousarray(
            array.reshape(len(array), math.prod(array.shape[1:])), dtype="<f4"
        ) + np.float32(0)
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def fingerprint(*arrays: Any) -> str:
    """Return a hash of the contents of arrays as 16 hexadecimal digits, for protocols.

    The hash depends on values, shapes, dtypes and the order of the arrays, but not on memory
    layout.

    Args:
        arrays: arrays of numbers or strings. ``None`` stands for a missing array, such as missing
            labels.

    Raises:
        InputError: an array has the dtype object.

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
