"""Short descriptions of values for error messages."""

import os
from numbers import Integral, Real
from typing import Any

import numpy as np

_SHORT = (
    str,
    bytes,
    Integral,
    Real,
    complex,
    list,
    tuple,
    dict,
    set,
    frozenset,
    range,
    type(None),
    np.generic,
    os.PathLike,
)
"""Types whose ``repr`` is readable in an error message."""


def shown(value: Any) -> str:
    """Describe a value on one short line. This function never raises an error.

    >>> shown("x" * 100)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"
    >>> shown(np.zeros((2, 3)))
    'an array of shape (2, 3), float64'
    """
    shape = getattr(value, "shape", None)
    dtype = getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None and not isinstance(value, (type, np.generic)):
        kind = "a tensor" if type(value).__module__.partition(".")[0] == "torch" else "an array"
        return f"{kind} of shape {tuple(shape)}, {str(dtype).removeprefix('torch.')}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if not isinstance(value, _SHORT):
        return f"a {type(value).__name__}"
    try:
        line = repr(value)
    except Exception:  # The error about a value must be readable even if its repr fails.
        return f"a {type(value).__name__}"
    line = " ".join(line.split())
    return line if len(line) <= 60 else line[:57] + "…"
