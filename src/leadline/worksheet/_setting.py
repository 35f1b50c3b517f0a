"""The conditions of a measurement: its time budget and its data."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

from leadline import checks
from leadline.data import Dataset, fingerprint
from leadline.errors import InputError
from leadline.sounding import Protocol
from leadline.worksheet._statement import Statement

Budget = Literal["quick", "full"]
Choice = TypeVar("Choice")

BUDGET = "budget"
"""Name of the budget in the protocol of an answer."""

DATA = "data of your own"
"""Name of the user's data in the protocol of an answer."""

KEY = "key"
"""Name of the measurement's key in the protocol of an answer."""

FILE_NAMES = {"path": "file of the data", "labels": "column of labels"}
"""Names in a protocol, by key of ``Setting.source``."""

SETTING_NAMES = (BUDGET, DATA, KEY, *FILE_NAMES.values())
"""Reserved names: a measurement must not use them for its own settings."""


@dataclass(frozen=True, eq=False)
class Setting:
    """The settings that every measurement receives.

    >>> setting = Setting("quick")
    >>> setting.pick(quick=10, full=100), len(setting.seeds)
    (10, 12)
    """

    budget: Budget = "quick"
    """``quick``: all statements in three minutes on two cores; ``full``: half an hour.

    The full budget uses more seeds and larger models.
    """
    data: Dataset | None = None
    """The user's own rows for section 1; by default the digits."""
    source: Mapping[str, str] = field(default_factory=dict)
    """The data file for the protocol: ``{"path": …, "labels": …}``, both optional."""

    def __post_init__(self):
        object.__setattr__(self, "budget", checks.choice(self.budget, "budget", get_args(Budget)))
        if self.data is not None:
            checks.instance(
                self.data, "data", Dataset, cure="use leadline.data.load(path) or Dataset(X, y)"
            )
        object.__setattr__(self, "source", _checked_source(self.source))
        if self.source and self.data is None:
            raise InputError(
                "source names the file of data", got=f"source = {self.source}, data = None"
            )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The random seeds of the replicates."""
        return tuple(range(self.pick(quick=12, full=24)))

    def pick(self, *, quick: Choice, full: Choice) -> Choice:
        """Return the value for the current budget."""
        return quick if self.budget == "quick" else full

    def describe(self, statement: Statement) -> dict[str, str]:
        """Return the setting as names and texts for a protocol.

        The names are reserved: no measurement uses them for its own settings. The command that
        repeats a measurement can therefore be read from its protocol.
        """
        settings = {BUDGET: self.budget}
        data = self._data_of(statement)
        if data is not None:
            settings[DATA] = data.name
            settings |= {FILE_NAMES[name]: value for name, value in self.source.items()}
        return settings

    def key(self, statement: Statement) -> str:
        """Return a key that identifies a measurement; equal keys give equal answers.

        A finished measurement with the same key need not run again. The key covers the statement,
        the budget, the data if the statement uses them, the versions of the libraries that compute
        and draw, Leadline's own source, and the file of the measurement if it is not Leadline's.
        """
        data = self._data_of(statement)
        parts = [statement.id, str(statement.measure), self.budget, source_digest()]
        parts += [f"{name} {version}" for name, version in sorted(Protocol().versions.items())]
        if statement.measure is not None:
            parts.append(foreign_source_digest(statement.measure))
        if data is not None:
            parts += [data.name, repr(data.image_size), repr(data.channels), repr(data.class_names)]
            parts.append(fingerprint(data.X, data.y))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _data_of(self, statement: Statement) -> Dataset | None:
        checks.instance(statement, "statement", Statement, cure="see leadline.worksheet.select()")
        return self.data if statement.section == "ae" else None


def _checked_source(source: Mapping[str, str]) -> dict[str, str]:
    found = checks.mapping(source, "source")
    for name in found:
        checks.choice(name, "a key of source", tuple(FILE_NAMES))
    if "labels" in found and "path" not in found:
        raise InputError(
            "source must name the path of the data beside its labels", got=f"source = {found}"
        )
    return {name: checks.text(value, f"source[{name!r}]", least=1) for name, value in found.items()}


@cache
def source_digest() -> str:
    """Return a digest of Leadline's source code."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def foreign_source_digest(measure: str) -> str:
    """Return a digest of the file of a measurement that is not part of Leadline.

    The digest is empty for Leadline's own measurements, which :func:`source_digest` covers, and for
    a module without a file, such as a notebook.

    Args:
        measure: the measurement, written as ``package.module:function``.
    """
    module = measure.partition(":")[0]
    if module.partition(".")[0] == "leadline":
        return ""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        # The package does not exist, or the module is a notebook, which has no specification.
        return ""
    if spec is None or not spec.has_location or spec.origin is None:
        return ""
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
