"""What would count, written down before anything is measured.

A criterion is data: parts that name an effect or a fact and say what must hold of it, joined by all-of or any-of. The
outcome follows from it in three-valued logic: a part holds, fails, or is left open by its interval. The intervals are
the simultaneous ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from leadline import checks
from leadline.errors import InputError
from leadline.sounding import Outcome
from leadline.statistics import Effect
from leadline.storage import record

Kind = TypeVar("Kind")

MORE_SEEDS = "only with more seeds"
"""The answer of a design with too few seeds for an interval."""


@record("worksheet.Fact")
@dataclass(frozen=True)
class Fact:
    """Something that is exact: it holds or it does not, and needs no interval."""

    label: str
    holds: bool
    measured: str
    expected: str

    def __post_init__(self):
        for name in ("label", "measured", "expected"):
            object.__setattr__(self, name, checks.text(getattr(self, name), name))
        object.__setattr__(self, "holds", checks.flag(self.holds, "holds"))


@dataclass(frozen=True)
class Above:
    """The effect is larger than a threshold.

    >>> str(Above("gain"))
    'gain > 0'
    """

    effect: str
    threshold: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "effect", checks.text(self.effect, "effect", least=1))
        object.__setattr__(self, "threshold", checks.number(self.threshold, "threshold"))

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """True if the part holds, False if it fails; ``None`` where the interval leaves it open."""
        return _named(effects, self.effect, Effect).simultaneous.above(self.threshold)

    def detectable(self, effect: Effect) -> str:
        """The value from which on the design would have seen that the part holds."""
        value = self.threshold + checks.instance(effect, "effect", Effect).detectable
        return (
            f"from {value:z.2g} {effect.unit}".rstrip() + " on"
            if math.isfinite(value)
            else MORE_SEEDS
        )

    def __str__(self) -> str:
        return f"{self.effect} > {self.threshold:zg}"


@dataclass(frozen=True)
class Below:
    """The effect is smaller than a threshold."""

    effect: str
    threshold: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "effect", checks.text(self.effect, "effect", least=1))
        object.__setattr__(self, "threshold", checks.number(self.threshold, "threshold"))

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """True if the part holds, False if it fails; ``None`` where the interval leaves it open."""
        return _named(effects, self.effect, Effect).simultaneous.below(self.threshold)

    def detectable(self, effect: Effect) -> str:
        """The value from which on, downwards, the design would have seen that the part holds."""
        value = self.threshold - checks.instance(effect, "effect", Effect).detectable
        return (
            f"from {value:z.2g} {effect.unit}".rstrip() + " down"
            if math.isfinite(value)
            else MORE_SEEDS
        )

    def __str__(self) -> str:
        return f"{self.effect} < {self.threshold:zg}"


@dataclass(frozen=True)
class Within:
    """The effect lies between two bounds; with bounds around zero, equivalence."""

    effect: str
    low: float
    high: float

    def __post_init__(self):
        object.__setattr__(self, "effect", checks.text(self.effect, "effect", least=1))
        object.__setattr__(self, "low", checks.number(self.low, "low"))
        object.__setattr__(self, "high", checks.number(self.high, "high"))
        if self.low > self.high:
            raise InputError(
                "low must be at most high", got=f"low = {self.low:zg}, high = {self.high:zg}"
            )

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """True if the part holds, False if it fails; ``None`` where the interval leaves it open."""
        return _named(effects, self.effect, Effect).simultaneous.within(self.low, self.high)

    def detectable(self, effect: Effect) -> str:
        """The narrowest interval that the design allows, beside the width that the bounds ask for."""
        simultaneous = checks.instance(effect, "effect", Effect).simultaneous
        half = (simultaneous.high - simultaneous.low) / 2
        allowed = (self.high - self.low) / 2
        if not math.isfinite(half):
            return MORE_SEEDS
        return (
            f"inside its bounds only with an interval of ±{allowed:z.2g}, where it has ±{half:z.2g}"
        )

    def __str__(self) -> str:
        return f"{self.low:zg} ≤ {self.effect} ≤ {self.high:zg}"


@dataclass(frozen=True)
class Holds:
    """The fact holds."""

    fact: str

    def __post_init__(self):
        object.__setattr__(self, "fact", checks.text(self.fact, "fact", least=1))

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """True if the fact holds, False if not; facts are never left open."""
        return _named(facts, self.fact, Fact).holds

    def __str__(self) -> str:
        return self.fact


@dataclass(frozen=True, init=False)
class AllOf:
    """Every part holds: true if all are, false if one fails, open otherwise.

    Args:
        several: the parts, as single arguments.
        parts: the parts as one tuple, in place of single arguments; storage passes them so.
    """

    parts: tuple["Part", ...]

    def __init__(self, *several: "Part", parts: "tuple[Part, ...]" = ()):
        object.__setattr__(self, "parts", _checked_parts("AllOf", several, parts))

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Kleene's conjunction."""
        values = [part.judge(effects, facts) for part in self.parts]
        return False if False in values else None if None in values else True

    def __str__(self) -> str:
        if not self.parts:
            return "always"
        return " and ".join(_in_brackets(part, AnyOf) for part in self.parts)


@dataclass(frozen=True, init=False)
class AnyOf:
    """Some part holds: true if one does, false if all fail, open otherwise.

    Args:
        several: the parts, as single arguments.
        parts: the parts as one tuple, in place of single arguments; storage passes them so.
    """

    parts: tuple["Part", ...]

    def __init__(self, *several: "Part", parts: "tuple[Part, ...]" = ()):
        object.__setattr__(self, "parts", _checked_parts("AnyOf", several, parts))

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
    """The outcome where the rule holds."""
    against: Part | None = None
    """The rule for the opposite outcome; ``None`` for the failing of ``rule``. Whatever is neither is undecided."""

    def __post_init__(self):
        _check_part(self.rule, "rule")
        if not self.leaves():
            raise InputError("rule must name an effect or a fact", got=f"rule = {self.rule}")
        met = checks.choice(self.met, "met", ("supported", "refuted"))
        object.__setattr__(self, "met", met)
        if self.against is not None:
            _check_part(self.against, "against")

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> Outcome:
        """The outcome for what was measured."""
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
        """How many effects the outcome rests on; the statement's share of error is divided among them."""
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
    """The text of a part; in brackets where it is of this kind and has parts of its own."""
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
    checks.instance(part, name, Part, wanted=kinds)  # pyright: ignore[reportArgumentType]  a union of classes


def _named(measured: Any, name: str, kind: type[Kind]) -> Kind:
    """The effect or fact of this name.

    Raises:
        InputError: it was not measured.
    """
    called = kind.__name__.lower()
    found = checks.mapping(measured, f"{called}s")
    if name not in found:
        cause = "the measurement left it out, or the criterion misspells it"
        raise InputError(
            f"{called}s must hold {name!r}, which the criterion names",
            got=f"{sorted(map(str, found))}",
            cause=cause,
        )
    return checks.instance(found[name], f"{called}s[{name!r}]", kind)


NEVER = AnyOf()
"""A rule that never holds: none of no parts. Any copy of it is equal to it."""
