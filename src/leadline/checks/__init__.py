"""Checks of arguments. Each check returns the value as a plain Python or NumPy value.

A check accepts values of NumPy, torch and pandas that stand for a plain value, such as
``numpy.int64(3)`` or a tensor with one element. It returns an ``int``, ``float``, ``bool``,
``str``, ``tuple`` or NumPy array. All other values raise an :class:`~leadline.errors.InputError`
that names the argument and its value.

This package is private to Leadline.
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
