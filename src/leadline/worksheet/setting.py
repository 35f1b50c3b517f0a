"""Under which conditions a worksheet is measured: how much time it may take, and on whose data."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

from leadline.data import Dataset, fingerprint
from leadline.errors import InputError
from leadline.sounding import Protocol
from leadline.worksheet.statement import Statement

Budget = Literal["quick", "full"]
Choice = TypeVar("Choice")


@dataclass(frozen=True, eq=False)
class Setting:
    """What a measurement is given.

    >>> setting = Setting("quick")
    >>> setting.pick(quick=10, full=100), len(setting.seeds)
    (10, 12)
    """

    budget: Budget = "quick"
    """``quick``: all statements in three minutes on two cores; ``full``: more seeds, larger models, half an hour."""
    data: Dataset | None = None
    """The user's own rows for section 1, in place of the digits."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Where the data came from, for the protocol: ``{"path": …, "labels": …}``."""

    def __post_init__(self):
        if self.budget not in get_args(Budget):
            raise InputError(
                "the budget is one of " + ", ".join(get_args(Budget)), got=f"budget = {self.budget!r}", cure="quick"
            )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the replicates."""
        return tuple(range(self.pick(quick=12, full=24)))

    def pick(self, *, quick: Choice, full: Choice) -> Choice:
        """The value that belongs to the budget."""
        return quick if self.budget == "quick" else full

    def describe(self, statement: Statement) -> dict[str, str]:
        """What a protocol says of the setting."""
        data = self._data_of(statement)
        return {"budget": self.budget, **({"data": data.name, **self.source} if data is not None else {})}

    def key(self, statement: Statement) -> str:
        """Identifies a measurement: equal keys give equal answers, so that a finished one need not run again.

        It covers the statement, the budget, the data where they matter, the versions of what computes and draws, and
        Leadline's own source.
        """
        data = self._data_of(statement)
        parts = [statement.id, str(statement.measure), self.budget, source_digest()]
        parts += [f"{name} {version}" for name, version in sorted(Protocol().versions.items())]
        if data is not None:
            parts += [data.name, repr(data.image_size), repr(data.channels), repr(data.class_names)]
            parts.append(fingerprint(data.X, data.y))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _data_of(self, statement: Statement) -> Dataset | None:
        return self.data if statement.section == "ae" else None


@cache
def source_digest() -> str:
    """Identifies Leadline's own source."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
