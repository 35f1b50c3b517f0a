"""Labels of a file, and checks of columns and their names."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from jaxtyping import Bool

from leadline import checks
from leadline.data._classes import label_values, missing_labels
from leadline.data._dataset import Dataset
from leadline.errors import InputError, nearest


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


def refuse_unknown(labels: str | None, known: list[str], kind: str) -> None:
    """Check that the file has a column or array with the name of the labels."""
    if labels is not None and labels not in known:
        raise InputError(
            f"labels names the {kind} that holds the labels",
            got=f"labels = {labels!r}, which is not there",
            cure=f"one of {listed(nearest(labels, known))}",
        )


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return a list of names for messages."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def label_column(names: list[str], labels: str | None) -> str | None:
    """Return the name of the column of labels: the given name, or ``y`` if it exists."""
    refuse_unknown(labels, names, "column")
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
        cure=f"labels={name!r} (--labels {shlex.quote(name)}) if it is the labels, else remove it, "
        "or make it numbers",
    )
