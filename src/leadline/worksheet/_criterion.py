"""Criteria that decide a statement; each is fixed before the measurement.

A criterion is data: parts that name an effect or a fact and state a condition for it, joined by
:class:`AllOf` or :class:`AnyOf`. The outcome follows in three-valued logic: a part holds, fails,
or is undecided because its interval includes the threshold. The intervals are simultaneous ones.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from leadline import checks
from leadline.errors import InputError
from leadline.sounding import Interval, Outcome
from leadline.statistics import Effect
from leadline.storage import record

Kind = TypeVar("Kind")

MORE_SEEDS = "only with more seeds"
"""Detectable value if the design has too few seeds for an interval."""


@record("worksheet.Fact")
@dataclass(frozen=True)
class Fact:
    """An exact result that holds or fails; it needs no interval."""

    label: str
    holds: bool
    measured: str
    expected: str

    def __post_init__(self):
        for name in ("label", "measured", "expected"):
            object.__setattr__(self, name, checks.text(getattr(self, name), name))
        object.__setattr__(self, "holds", checks.flag(self.holds, "holds"))


@dataclass(frozen=True)
class EffectPart(ABC):
    """A condition for the interval of an effect: a range in which the effect must lie."""

    effect: str
    """Name of the effect."""

    def __post_init__(self):
        object.__setattr__(self, "effect", checks.text(self.effect, "effect", least=1))

    @property
    @abstractmethod
    def bounds(self) -> tuple[float | None, float | None]:
        """Lower and upper end of the required range; ``None`` if it has no such end."""

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Return True if the part holds, False if it fails, None if the interval is undecided."""
        return self._compare(_named(effects, self.effect, Effect).simultaneous)

    @abstractmethod
    def detectable_value(self, effect: Effect) -> float:
        """Return the nearest value beyond the threshold that this design could have detected.

        The result is NaN for a part with two bounds.
        """

    @abstractmethod
    def detectable(self, effect: Effect) -> str:
        """Return the effects that this design could have detected, in words."""

    @abstractmethod
    def _compare(self, interval: Interval) -> bool | None:
        """Return True or False if this holds for the whole interval, otherwise None."""


@dataclass(frozen=True)
class _Threshold(EffectPart):
    """A condition with a single threshold."""

    threshold: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "threshold", checks.number(self.threshold, "threshold"))


@record("worksheet.Above")
@dataclass(frozen=True)
class Above(_Threshold):
    """The effect is larger than a threshold.

    >>> str(Above("gain"))
    'gain > 0'
    """

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The threshold, and no upper end."""
        return self.threshold, None

    def detectable_value(self, effect: Effect) -> float:
        """Return the smallest effect that this design could have detected."""
        return self.threshold + checks.instance(effect, "effect", Effect).detectable

    def detectable(self, effect: Effect) -> str:
        """Return the smallest effect that this design could have detected, in words."""
        return _limit_in_words(self.detectable_value(effect), effect.unit, "on")

    def _compare(self, interval: Interval) -> bool | None:
        return interval.above(self.threshold)

    def __str__(self) -> str:
        return f"{self.effect} > {self.threshold:zg}"


@record("worksheet.Below")
@dataclass(frozen=True)
class Below(_Threshold):
    """The effect is smaller than a threshold."""

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """No lower end, and the threshold."""
        return None, self.threshold

    def detectable_value(self, effect: Effect) -> float:
        """Return the largest effect below the threshold that this design could have detected."""
        return self.threshold - checks.instance(effect, "effect", Effect).detectable

    def detectable(self, effect: Effect) -> str:
        """Return the largest effect below the threshold that was detectable, in words."""
        return _limit_in_words(self.detectable_value(effect), effect.unit, "down")

    def _compare(self, interval: Interval) -> bool | None:
        return interval.below(self.threshold)

    def __str__(self) -> str:
        return f"{self.effect} < {self.threshold:zg}"


def _limit_in_words(value: float, unit: str, direction: str) -> str:
    """Return a detectable effect as text, such as ``"from 2.1 points on"``."""
    if not math.isfinite(value):
        return MORE_SEEDS
    return f"from {value:z.2g} {unit}".rstrip() + f" {direction}"


@record("worksheet.Within")
@dataclass(frozen=True)
class Within(EffectPart):
    """The effect lies between two bounds. Bounds around zero test for equivalence."""

    low: float
    high: float

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "low", checks.number(self.low, "low"))
        object.__setattr__(self, "high", checks.number(self.high, "high"))
        if self.low > self.high:
            raise InputError(
                "low must be at most high", got=f"low = {self.low:zg}, high = {self.high:zg}"
            )

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Both ends of the range."""
        return self.low, self.high

    def detectable_value(self, effect: Effect) -> float:
        """Return NaN, because there are two bounds."""
        return math.nan

    def detectable(self, effect: Effect) -> str:
        """Return the half-width of the interval, and the half-width that the bounds allow."""
        simultaneous = checks.instance(effect, "effect", Effect).simultaneous
        half = (simultaneous.high - simultaneous.low) / 2
        allowed = (self.high - self.low) / 2
        if not math.isfinite(half):
            return MORE_SEEDS
        return (
            f"inside its bounds only with an interval of ±{allowed:z.2g}, where it has ±{half:z.2g}"
        )

    def _compare(self, interval: Interval) -> bool | None:
        return interval.within(self.low, self.high)

    def __str__(self) -> str:
        return f"{self.low:zg} ≤ {self.effect} ≤ {self.high:zg}"


@record("worksheet.Holds")
@dataclass(frozen=True)
class Holds:
    """The fact holds."""

    fact: str

    def __post_init__(self):
        object.__setattr__(self, "fact", checks.text(self.fact, "fact", least=1))

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Return True if the fact holds, False if it fails; facts are never undecided."""
        return _named(facts, self.fact, Fact).holds

    def __str__(self) -> str:
        return self.fact


@dataclass(frozen=True, init=False)
class _Several:
    """Parts that are judged together.

    Args:
        several: the parts, as single arguments.
        parts: the parts as one tuple, in place of single arguments; storage passes them so.
    """

    parts: tuple["Part", ...]

    def __init__(self, *several: "Part", parts: "tuple[Part, ...]" = ()):
        object.__setattr__(self, "parts", _checked_parts(type(self).__name__, several, parts))


@record("worksheet.AllOf")
@dataclass(frozen=True, init=False)
class AllOf(_Several):
    """All parts hold. Fails if one part fails; undecided otherwise."""

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Kleene's conjunction."""
        values = [part.judge(effects, facts) for part in self.parts]
        return False if False in values else None if None in values else True

    def __str__(self) -> str:
        if not self.parts:
            return "always"
        return " and ".join(_in_brackets(part, AnyOf) for part in self.parts)


@record("worksheet.AnyOf")
@dataclass(frozen=True, init=False)
class AnyOf(_Several):
    """At least one part holds. Fails if all parts fail; undecided otherwise."""

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Kleene's disjunction."""
        values = [part.judge(effects, facts) for part in self.parts]
        return True if True in values else None if None in values else False

    def __str__(self) -> str:
        if not self.parts:
            return "never"
        return " or ".join(_in_brackets(part, AllOf) for part in self.parts)


Part = Above | Below | Within | Holds | AllOf | AnyOf
Leaf = Above | Below | Within | Holds


@record("worksheet.Criterion")
@dataclass(frozen=True)
class Criterion:
    """A rule, and the outcomes that it leads to.

    >>> print(Criterion(AllOf(Above("gain"), Holds("no_leak")), met="supported"))
    supported if gain > 0 and no_leak; refuted if one of them fails
    >>> print(Criterion(Above("gain"), met="supported", against=Below("gain", -1)))
    supported if gain > 0; refuted if gain < -1
    """

    rule: Part
    met: Outcome
    """The outcome if the rule holds."""
    against: Part | None = None
    """The rule for the opposite outcome; by default the failure of ``rule``.

    If neither rule holds, the statement is undecided.
    """

    def __post_init__(self):
        _check_part(self.rule, "rule")
        if not self.leaves():
            raise InputError("rule must name an effect or a fact", got=f"rule = {self.rule}")
        met = checks.choice(self.met, "met", ("supported", "refuted"))
        object.__setattr__(self, "met", met)
        if self.against is not None:
            _check_part(self.against, "against")

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> Outcome:
        """Return the outcome for measured effects and facts."""
        holds = self.rule.judge(effects, facts)
        if holds:
            return self.met
        is_against = holds is False if self.against is None else self.against.judge(effects, facts)
        return self._opposite if is_against else "undecided"

    def leaves(self) -> tuple[Leaf, ...]:
        """The parts that name an effect or a fact, in reading order."""
        return _leaves(self.rule)

    @property
    def comparisons(self) -> int:
        """The number of effects in the criterion, which share the statement's error rate."""
        return max(1, len({leaf.effect for leaf in self.leaves() if not isinstance(leaf, Holds)}))

    @property
    def _opposite(self) -> Outcome:
        return "refuted" if self.met == "supported" else "supported"

    def __str__(self) -> str:
        if self.against == NEVER:
            return f"{self.met} if {self.rule}; undecided otherwise"
        fails = "all alternatives fail" if isinstance(self.rule, AnyOf) else "one of them fails"
        if len(self.leaves()) == 1:
            fails = "it fails"
        against = fails if self.against is None else str(self.against)
        return f"{self.met} if {self.rule}; {self._opposite} if {against}"


def _leaves(part: Part) -> tuple[Leaf, ...]:
    if isinstance(part, AllOf | AnyOf):
        return tuple(leaf for inner in part.parts for leaf in _leaves(inner))
    return (part,)


def _in_brackets(part: Part, kind: type) -> str:
    """Return the text of a part, in brackets if it is a compound part of this kind."""
    text = str(part)
    return f"({text})" if isinstance(part, kind) and len(_leaves(part)) > 1 else text


def _checked_parts(kind: str, several: Sequence[Any], parts: Any) -> tuple[Part, ...]:
    listed = checks.items(parts, "parts", of="parts of a criterion")
    if several and listed:
        raise InputError(
            f"{kind} takes its parts as single arguments or as parts=, not both",
            got=f"parts = {parts}",
        )
    found = tuple(several) or listed
    for i, part in enumerate(found):
        _check_part(part, f"parts[{i}]")
    return found


def _check_part(part: Any, name: str) -> None:
    kinds = "a part of a criterion: Above, Below, Within, Holds, AllOf or AnyOf"
    # Part is a union of classes, which pyright does not accept here.
    checks.instance(part, name, Part, wanted=kinds)  # pyright: ignore[reportArgumentType]


def _named(measured: Any, name: str, kind: type[Kind]) -> Kind:
    """Return the effect or fact of this name.

    Raises:
        InputError: the effect or fact was not measured.
    """
    kind_name = kind.__name__.lower()
    found = checks.mapping(measured, f"{kind_name}s")
    if name not in found:
        cause = "the measurement left it out, or the criterion misspells it"
        raise InputError(
            f"{kind_name}s must hold {name!r}, which the criterion names",
            got=f"{sorted(map(str, found))}",
            cause=cause,
        )
    return checks.instance(found[name], f"{kind_name}s[{name!r}]", kind)


NEVER = AnyOf()
"""A rule that never holds, because it has no parts. All copies of it are equal."""
