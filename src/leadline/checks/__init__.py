"""Checks of arguments. Each check returns the plain value that the caller should use from then on.

A check accepts what NumPy, torch and pandas users pass for a plain value (``numpy.int64(3)``, a tensor with one
element) and returns Python's own ``int``, ``float``, ``bool``, ``str``, ``tuple`` or a NumPy array. Everything else is
refused with an :class:`~leadline.errors.InputError` that names the argument and its value.
"""

from leadline.checks._arrays import array
from leadline.checks._numbers import (
    LARGEST_SEED,
    flag,
    number,
    optional_seed,
    optional_whole_number,
    seed,
    seeds,
    whole_number,
    whole_numbers,
)
from leadline.checks._objects import choice, device, function, instance, items, mapping, path, text
from leadline.checks._short_repr import ShortRepr as ShortRepr
from leadline.checks._short_repr import cut as cut
from leadline.checks._short_repr import fields_in_short as fields_in_short
from leadline.checks._shown import shown

__all__ = [
    "LARGEST_SEED",
    "array",
    "choice",
    "device",
    "flag",
    "function",
    "instance",
    "items",
    "mapping",
    "number",
    "optional_seed",
    "optional_whole_number",
    "path",
    "seed",
    "seeds",
    "shown",
    "text",
    "whole_number",
    "whole_numbers",
]
