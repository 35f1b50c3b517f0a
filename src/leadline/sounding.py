"""Soundings: the results of all instruments.

A sounding holds its measurements (arrays) and its protocol (settings, seeds, fingerprints). It
renders itself as a verdict in words, a table, a figure, and a folder on disk. Instruments return
soundings; the command line, the report and the explorer show them.
"""

import math
import platform
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, final, get_args

import numpy as np

from leadline import checks, storage
from leadline.checks import ShortRepr, cut, fields_in_short
from leadline.errors import InputError
from leadline.figures import Drawing, Style, export, interactive, notebook_bundle, still
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

__all__ = ["Interval", "Outcome", "Protocol", "Sounding", "Verdict"]

Outcome = Literal["supported", "refuted", "undecided"]


LONGEST_VERDICT = 180
"""Limit of letters of the verdict in the ``repr`` of a sounding."""


def decimals(value: float, spec: str) -> str:
    """Return a number as text, without a sign if it rounds to zero.

    Verdicts, tables and figures print their numbers by this function or by :class:`Interval`.

    Args:
        value: the number.
        spec: a format such as ``".1f"`` or ``"+.1f"``.

    >>> decimals(-0.04, ".1f"), decimals(0.04, "+.1f"), decimals(-0.06, "+.1f"), decimals(-0.0, "g")
    ('0.0', '0.0', '-0.1', '0')
    """
    text = format(float(value), spec)
    is_zero = "0" in text and not any(digit in text for digit in "123456789")
    return text.strip().lstrip("+-") if is_zero else text


@record("sounding.Verdict")
@dataclass(frozen=True)
class Verdict:
    """A finding in one sentence with its numbers, and the outcome of a hypothesis if there is one.

    >>> print(Verdict("the denoising encoder gains 14.2 points", "supported"))
    supported: the denoising encoder gains 14.2 points
    """

    sentence: str
    outcome: Outcome | None = None
    """Outcome of the hypothesis; ``None`` for a finding without a hypothesis."""

    def __post_init__(self):
        object.__setattr__(self, "sentence", checks.text(self.sentence, "sentence"))
        if self.outcome is not None:
            object.__setattr__(
                self, "outcome", checks.choice(self.outcome, "outcome", get_args(Outcome))
            )

    def __str__(self) -> str:
        return f"{self.outcome}: {self.sentence}" if self.outcome else self.sentence


@record("sounding.Interval")
@dataclass(frozen=True)
class Interval:
    """A confidence interval around an estimate.

    A comparison returns ``True`` or ``False`` if it holds for the whole interval, and ``None`` if
    the interval is undecided.

    With too few replicates there is an estimate without an interval: ``low`` and ``high`` are NaN.
    Its comparisons return ``None``, and its text is the estimate alone.

    >>> interval = Interval(12.0, 8.0, 16.0)
    >>> interval.above(0), interval.above(10), interval.above(20)
    (True, None, False)
    >>> f"{interval:.0f}", str(interval)
    ('12 [8, 16]', '12.0 [8.0, 16.0]')
    >>> alone = Interval(12.0, math.nan, math.nan)
    >>> alone.above(0), alone.is_known, f"{alone:.0f}"
    (None, False, '12')
    """

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def __post_init__(self):
        for name in ("estimate", "low", "high"):
            object.__setattr__(self, name, _real(getattr(self, name), name))
        object.__setattr__(
            self,
            "level",
            checks.number(self.level, "level", above=0, below=1, cure="0.95 for 95 %"),
        )
        if self.low > self.high:
            raise InputError(
                "low must be at most high", got=f"low = {self.low}, high = {self.high}"
            )

    @property
    def is_known(self) -> bool:
        """True if there is an interval; False if there are too few replicates for one."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def above(self, threshold: float) -> bool | None:
        """True if the quantity is larger than ``threshold``; ``None`` if undecided."""
        threshold = _limit(threshold, "threshold")
        if self.low > threshold:
            return True
        return False if self.high <= threshold else None

    def below(self, threshold: float) -> bool | None:
        """True if the quantity is smaller than ``threshold``; ``None`` if undecided."""
        threshold = _limit(threshold, "threshold")
        if self.high < threshold:
            return True
        return False if self.low >= threshold else None

    def within(self, low: float, high: float) -> bool | None:
        """True if the quantity lies between ``low`` and ``high``; ``None`` if undecided.

        Bounds below and above zero test equivalence.
        """
        low = _limit(low, "low")
        high = _limit(high, "high")
        if low > high:
            raise InputError("low must be at most high", got=f"low = {low}, high = {high}")
        if low <= self.low and self.high <= high:
            return True
        return False if self.high < low or self.low > high else None

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if not self.is_known:
            return decimals(self.estimate, spec)
        low = decimals(self.low, spec)
        high = decimals(self.high, spec)
        return f"{decimals(self.estimate, spec)} [{low}, {high}]"

    def __str__(self) -> str:
        """Return the numbers, rounded to two digits of the interval's half-width."""
        half = (self.high - self.low) / 2
        if not 0 < half < math.inf:
            return f"{self:.4g}"
        places = 1 - math.floor(math.log10(half))
        return f"{self:.{places}f}" if 0 <= places <= 6 else f"{self:.3g}"


def _real(value: Any, name: str) -> float:
    """Return a real number; infinity and NaN (unknown) are allowed."""
    is_not_finite = isinstance(value, float | np.floating) and not math.isfinite(value)
    return float(value) if is_not_finite else checks.number(value, name)


def _limit(value: Any, name: str) -> float:
    """Return a number to compare with; infinity is allowed, NaN is not."""
    number = _real(value, name)
    if math.isnan(number):
        raise InputError(f"{name} must be a number", got=f"{name} = nan")
    return number


@cache
def _versions() -> dict[str, str]:
    packages = ("leadline", "torch", "numpy", "scipy", "scikit-learn", "pillow", "matplotlib")
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


@record("sounding.Protocol")
@dataclass(frozen=True)
class Protocol:
    """The settings of a measurement: everything that is needed to repeat it.

    It contains no date or time, so equal protocols give equal soundings.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Sizes and hyperparameters by name."""
    seeds: tuple[int | None, ...] = ()
    """Seeds of the replicates; ``None`` for a replicate without a seed."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Digests of the data and of its splits."""
    versions: Mapping[str, str] = field(default_factory=_versions)
    """Versions of Python and of the packages that compute."""

    def __post_init__(self):
        for name in ("settings", "fingerprints", "versions"):
            found = checks.mapping(getattr(self, name), name)
            for key in found:
                if not isinstance(key, str | int):
                    raise InputError(
                        f"names in {name} must be text or whole numbers", got=f"{checks.shown(key)}"
                    )
            object.__setattr__(self, name, found)
        seeds = checks.items(self.seeds, "seeds", of="seeds")
        plain = (checks.optional_seed(seed, f"seeds[{i}]") for i, seed in enumerate(seeds))
        object.__setattr__(self, "seeds", tuple(plain))


@dataclass(frozen=True, eq=False)
class Sounding(ShortRepr, ABC):
    """The result of a measurement: its numbers, its protocol, and the ways to show them.

    A subclass is a frozen dataclass with its measurements as fields. ``eq=False`` is needed, since
    arrays cannot be compared by ``==``. It defines ``verdict``, :meth:`table` and :meth:`drawing`.
    """

    protocol: Protocol
    """The settings of the measurement."""

    @property
    @abstractmethod
    def verdict(self) -> Verdict:
        """The finding in one sentence, with its numbers."""

    @abstractmethod
    def table(self) -> "pd.DataFrame":
        """Return a data frame with one row for each measurement."""

    @abstractmethod
    def drawing(self) -> Drawing:
        """Return the measurements as a drawing, in Plotly's JSON."""

    @final
    def figure(self, *args: Any, **options: Any) -> "go.Figure":
        """Return the drawing as a figure of Plotly.

        Args:
            args: arguments of this sounding's ``drawing()``, such as ``item`` or ``layer``.
            options: the same by name.
        """
        return interactive(self.drawing(*args, **options))

    @final
    def still(self, *args: Any, style: Style = "light", **options: Any) -> "Figure":
        """Return the drawing as a figure of matplotlib, for print and for pages without scripts.

        Args:
            args: arguments of this sounding's ``drawing()``, such as ``item`` or ``layer``.
            style: ``"light"``, ``"dark"``, or ``"neutral"``, which has no background.
            options: arguments of ``drawing()`` by name.
        """
        return still(self.drawing(*args, **options), style=style)

    @final
    def export(
        self, path: str | PathLike[str], *args: Any, style: Style = "light", **options: Any
    ) -> None:
        """Write the drawing as an SVG, PDF or PNG file; no browser is needed.

        Args:
            path: the file; its ending, ``.svg``, ``.pdf`` or ``.png``, is the format.
            args: arguments of this sounding's ``drawing()``, such as ``item`` or ``layer``.
            style: as in :meth:`still`.
            options: arguments of ``drawing()`` by name.

        Raises:
            InputError: the ending is another one.
            SaveError: the file cannot be written; an earlier file stays unchanged.
        """
        export(self.drawing(*args, **options), path, style=style)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write ``sounding.json`` and its arrays into ``folder``, which is created if missing.

        An earlier sounding in the folder is replaced only after the new one is complete.

        Raises:
            SaveError: the folder cannot be written; an earlier sounding stays unchanged.
        """
        storage.save(self, checks.path(folder, "folder"))

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Self:
        """Read a sounding that :meth:`save` wrote. Code in the folder is never executed.

        Raises:
            SaveError: the folder contains no sounding, a damaged one, or one of another class.
        """
        return storage.load(checks.path(folder, "folder"), cls)

    def __str__(self) -> str:
        return str(self.verdict)

    def __repr__(self) -> str:
        words = cut(str(self), LONGEST_VERDICT)
        parts = [repr(words), *fields_in_short(self, without=("protocol",))]
        return cut(f"{type(self).__name__}({', '.join(parts)})")

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Return what a notebook shows: the figure, a still picture and the verdict."""
        bundle = notebook_bundle(self.drawing(), str(self))
        return {"text/plain": repr(self), **bundle}

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()["text/html"]
