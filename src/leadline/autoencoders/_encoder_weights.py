"""Checks of an encoder's weights, and of the fingerprints of the rows of pretraining."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt64

from leadline import checks
from leadline.autoencoders.models._architecture import Architecture
from leadline.errors import InputError

OFFSET = "offset"
"""Name of the weight that is subtracted from rows in float64, before they become float32."""


def check_weights(weights: Mapping[str, np.ndarray], architecture: Architecture) -> None:
    """Refuse weights of other names, shapes or types, before any layer is allocated."""
    rule = "weights must match the architecture"
    types = {array.dtype for name, array in weights.items() if name != OFFSET}
    if len(types) != 1 or not types <= {np.dtype(np.float32), np.dtype(np.float64)}:
        listed = ", ".join(sorted(map(str, types))) or "none"
        raise InputError(
            "weights must be all float32 or all float64", got=f"weights of dtype {listed}"
        )
    num_checked = 0
    if OFFSET in weights:
        offset = weights[OFFSET]
        if offset.dtype != np.float64 or offset.shape != (architecture.input_size,):
            wanted = f"expected ({architecture.input_size},), float64"
            raise InputError(
                rule, got=f"{OFFSET!r} of shape {offset.shape}, {offset.dtype}; {wanted}"
            )
        num_checked = 1
    for name, shape in architecture.encoder_shapes():
        if name not in weights:
            raise InputError(rule, got=f"weights without {name!r}")
        if weights[name].shape != shape:
            raise InputError(rule, got=f"{name!r} of shape {weights[name].shape}; expected {shape}")
        num_checked += 1
    if num_checked < len(weights):
        raise InputError(rule, got=f"{len(weights)} weights; expected {num_checked}")


def check_fingerprints(rows_seen: Any) -> UInt64[np.ndarray, " n"]:
    """Return fingerprints of rows as an array of uint64.

    Raises:
        InputError: The values are no fingerprints.
    """
    array = checks.array(rows_seen, "rows_seen", wanted="fingerprints of rows")
    if array.ndim != 1 or (array.size and array.dtype != np.uint64):
        raise InputError(
            "rows_seen must be the result of leadline.data.row_fingerprints",
            got=f"rows_seen = {checks.shown(array)}",
        )
    return array.astype(np.uint64)
