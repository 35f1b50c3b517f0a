"""Checks of arguments. Each check returns the plain value that the caller should use from then on.

A check accepts what NumPy, torch and pandas users pass for a plain value (``numpy.int64(3)``, a tensor with one
element) and returns Python's own ``int``, ``float``, ``bool``, ``str``, ``tuple`` or a NumPy array. Everything else is
refused with an :class:`~leadline.errors.InputError` that names the argument and its value.

This package is not public: it serves the other packages of Leadline.
"""

from leadline.checks._arrays import array as array
from leadline.checks._numbers import LARGEST_SEED as LARGEST_SEED
from leadline.checks._numbers import flag as flag
from leadline.checks._numbers import number as number
from leadline.checks._numbers import optional_seed as optional_seed
from leadline.checks._numbers import optional_whole_number as optional_whole_number
from leadline.checks._numbers import seed as seed
from leadline.checks._numbers import seeds as seeds
from leadline.checks._numbers import whole_number as whole_number
from leadline.checks._numbers import whole_numbers as whole_numbers
from leadline.checks._objects import choice as choice
from leadline.checks._objects import device as device
from leadline.checks._objects import function as function
from leadline.checks._objects import instance as instance
from leadline.checks._objects import items as items
from leadline.checks._objects import mapping as mapping
from leadline.checks._objects import path as path
from leadline.checks._objects import text as text
from leadline.checks._short_repr import ShortRepr as ShortRepr
from leadline.checks._short_repr import cut as cut
from leadline.checks._short_repr import fields_in_short as fields_in_short
from leadline.checks._shown import shown as shown
