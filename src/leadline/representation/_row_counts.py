"""The number of rows in each part of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from leadline.data import Roles
from leadline.representation._material import Material
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


@record("representation.RowCounts")
@dataclass(frozen=True)
class RowCounts:
    """The number of rows in each part of a study.

    The numbers of training, validation and test rows have one entry for each seed. They can differ
    between seeds if rows repeat, because equal rows stay together.

    >>> counts = RowCounts(400, 310, 90, 0, training=(55, 55), validation=(13, 13), test=(22, 22))
    >>> print(counts)  # doctest: +NORMALIZE_WHITESPACE
    310 of 400 rows are for pretraining; of the 90 labelled rows, each seed uses 55 for
    training, 13 for validation and 22 for testing
    """

    total: int
    """Rows of ``X`` and ``X_unlabelled``."""
    pretraining: int
    """Rows for pretraining. A tenth of them, or of their patches, serves early stopping only."""
    labelled: int
    """Rows with a label."""
    set_aside: int
    """Labelled rows that lost their labels and are among the rows for pretraining."""
    training: tuple[int, ...]
    """Labelled rows from which probes learn: the largest label count is the smallest of these."""
    validation: tuple[int, ...]
    """Labelled rows that take part in the choice of a kind only."""
    test: tuple[int, ...]
    """Labelled rows on which accuracies are measured."""

    @classmethod
    def from_roles(cls, material: Material, roles: Sequence[Roles]) -> Self:
        """Return the numbers of a study.

        Args:
            material: all rows.
            roles: roles of the probed rows for each seed; empty without labels.
        """
        return cls(
            total=material.num_given,
            pretraining=len(material.unlabelled),
            labelled=len(material.labelled) + material.set_aside,
            set_aside=material.set_aside,
            training=tuple(len(role.probe_pool) for role in roles),
            validation=tuple(len(role.probe_validation) for role in roles),
            test=tuple(len(role.test) for role in roles),
        )

    @property
    def probed(self) -> int:
        """Labelled rows that each seed splits into training, validation and test rows."""
        if not self.training:
            return 0
        return self.training[0] + self.validation[0] + self.test[0]

    @property
    def unused(self) -> int:
        """Rows that are neither for pretraining nor probed."""
        return self.total - self.pretraining - self.probed

    def table(self) -> "pd.DataFrame":
        """Return a table with one row per part: its name, its number of rows, and their use.

        If a number differs between seeds, it is that of the first seed.
        """
        import pandas as pd

        parts = [
            ("all", self.total, "X and X_unlabelled"),
            ("pretraining", self.pretraining, "pretrain; a tenth for early stopping only"),
            ("labelled", self.labelled, "rows with a label"),
            ("set aside", self.set_aside, "labelled rows that are used for pretraining"),
        ]
        if self.training:
            parts += [
                ("training", self.training[0], "fit the probes and choose a kind"),
                ("validation", self.validation[0], "choose a kind"),
                ("test", self.test[0], "measure the accuracy"),
            ]
        parts.append(
            ("unused", self.unused, "rows that repeat a labelled row; labelled rows beyond 2,000")
        )
        return pd.DataFrame(parts, columns=["part", "rows", "use"])

    def __str__(self) -> str:
        aside = f" ({self.set_aside} of them lost their labels)" if self.set_aside else ""
        pretraining = f"{self.pretraining} of {self.total} rows are for pretraining{aside}"
        if not self.training:
            return f"{pretraining}; no row has a label"
        return (
            f"{pretraining}; of the {self.labelled} labelled rows, each seed uses "
            f"{_span(self.training)} for training, {_span(self.validation)} for validation and "
            f"{_span(self.test)} for testing"
        )


def _span(numbers: Sequence[int]) -> str:
    """Return equal numbers as one number, and others as their range."""
    lowest = min(numbers)
    highest = max(numbers)
    return str(lowest) if lowest == highest else f"{lowest} to {highest}"
