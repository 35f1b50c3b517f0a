"""Labels of a file, and checks of columns and their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NoReturn

import numpy as np
from jaxtyping import Bool

from leadline import checks
from leadline.data._classes import label_values, missing_labels
from leadline.data._dataset import Dataset
from leadline.errors import InputError

MOST_NAMES = 20
"""Largest number of names of columns or arrays in a message."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a file, of any kind. Some may be missing."""

    values: np.ndarray
    """Labels of shape (n,). An empty cell is ``None`` or NaN."""
    name: str
    """Name of the column or array."""

    def __post_init__(self):
        object.__setattr__(self, "name", checks.text(self.name, "name"))
        object.__setattr__(self, "values", label_values(self.values, self.name))

    @property
    def known(self) -> Bool[np.ndarray, " n"]:
        """True for each row that has a label; see :func:`missing_labels`."""
        return ~missing_labels(self.values)


Read = tuple[Dataset, Labels | None]
"""Rows without labels, and the labels, if the file has any."""


def refuse_unknown(
    labels: str | None, known: list[str], kind: Literal["column", "array"], file: str
) -> None:
    """Check that a file has a column or array with the name of the labels.

    Args:
        labels: name of the labels.
        known: names of the columns or arrays, in the order of the file.
        kind: the kind of thing that the names denote.
        file: name of the file, for messages.
    """
    if labels is not None and labels not in known:
        near = get_close_matches(labels, known, cutoff=0.6)
        others = [name for name in known if name not in near]
        raise InputError(
            f"labels must name {'a column' if kind == 'column' else 'an array'} of the file",
            got=f"{file} has no {kind} {labels!r}",
            cure=f"one of {listed(near + others, MOST_NAMES)}",
        )


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return a list of names for messages."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def label_column(names: list[str], labels: str | None, file: str) -> str | None:
    """Return the name of the column of labels: the given name, or ``y`` if it exists.

    Args:
        names: names of all columns.
        labels: the given name, if any.
        file: name of the file, for messages.
    """
    refuse_unknown(labels, names, "column", file)
    return labels or ("y" if "y" in names else None)


def refuse_repeated_names(names: Sequence[str]) -> None:
    """Check that the names of the columns are unique."""
    if len(set(names)) < len(names):
        repeated = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(
            "columns must have different names",
            got=f"{names.count(repeated)} columns are named {repeated!r}",
            cause="two tables were joined, or a column was written twice",
            cure="rename or remove one of them",
        )


def refuse_text(value: str, name: str) -> NoReturn:
    """Raise an error for a feature that is not a number.

    Args:
        value: the offending cell, or the type of the column.
        name: name of the column.
    """
    raise InputError(
        "columns of features must hold real numbers",
        got=value,
        cause="a column of labels or text",
        cure=f"labels={name!r} if this column holds the labels; otherwise remove it or make it "
        "numbers",
    )
