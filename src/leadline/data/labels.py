"""Labels as a file has them: of any kind, some of them missing, found under a name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from leadline.data.dataset import Dataset, missing_labels
from leadline.errors import InputError, nearest


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels as a file has them, of any kind; some may be missing."""

    values: np.ndarray
    """Shape (n,); an empty cell is ``None`` or NaN."""
    name: str
    """Of the column or of the array."""

    @property
    def known(self) -> Bool[np.ndarray, " n"]:
        """Which rows have a label; see :func:`missing_labels`."""
        return ~missing_labels(self.values)


Read = tuple[Dataset, Labels | None]
"""Rows without labels, and the labels, if the file has any."""


def refuse_unknown(labels: str | None, known: list[str], kind: str) -> None:
    """The name of the labels must be one of those that the file has."""
    if labels is not None and labels not in known:
        raise InputError(
            f"labels names the {kind} that holds the labels",
            got=f"labels = {labels!r}, which is not there",
            cure=f"one of {listed(nearest(labels, known))}",
        )


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names as messages give them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
