"""What would count, written down before anything is measured.

A criterion is data: parts that name an effect or a fact and say what must hold of it, joined by all-of or any-of. The
outcome follows from it in three-valued logic: a part holds, fails, or is left open by its interval. The intervals are
the simultaneous ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from leadline.sounding import Outcome
from leadline.statistics import Effect


@dataclass(frozen=True)
class Fact:
    """Something that is exact: it holds or it does not, and needs no interval."""

    label: str
    holds: bool
    measured: str
    expected: str


@dataclass(frozen=True)
class Above:
    """The effect is larger than a threshold.

    >>> str(Above("gain"))
    'gain > 0'
    """

    effect: str
    threshold: float = 0.0

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Whether the part holds; ``None`` where the interval leaves it open."""
        return effects[self.effect].simultaneous.above(self.threshold)

    def detectable(self, effect: Effect) -> str:
        """From which value on the design would have seen that the part holds."""
        return f"from {self.threshold + effect.detectable:.2g} {effect.unit}".rstrip() + " on"

    def __str__(self) -> str:
        return f"{self.effect} > {self.threshold:g}"


@dataclass(frozen=True)
class Below:
    """The effect is smaller than a threshold."""

    effect: str
    threshold: float = 0.0

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Whether the part holds; ``None`` where the interval leaves it open."""
        return effects[self.effect].simultaneous.below(self.threshold)

    def detectable(self, effect: Effect) -> str:
        """From which value on the design would have seen that the part holds."""
        return f"from {self.threshold - effect.detectable:.2g} {effect.unit}".rstrip() + " down"

    def __str__(self) -> str:
        return f"{self.effect} < {self.threshold:g}"


@dataclass(frozen=True)
class Within:
    """The effect lies between two bounds; with bounds around zero, equivalence."""

    effect: str
    low: float
    high: float

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Whether the part holds; ``None`` where the interval leaves it open."""
        return effects[self.effect].simultaneous.within(self.low, self.high)

    def detectable(self, effect: Effect) -> str:
        """What the design would have had to be to see that the part holds."""
        half = (effect.simultaneous.high - effect.simultaneous.low) / 2
        return f"inside its bounds only with an interval of ±{(self.high - self.low) / 2:.2g}, where it has ±{half:.2g}"

    def __str__(self) -> str:
        return f"{self.low:g} ≤ {self.effect} ≤ {self.high:g}"


@dataclass(frozen=True)
class Holds:
    """The fact holds."""

    fact: str

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Whether the part holds; facts are never left open."""
        return facts[self.fact].holds

    def __str__(self) -> str:
        return self.fact


class AllOf:
    """Every part holds: true if all are, false if one fails, open otherwise."""

    def __init__(self, *parts: "Part"):
        self.parts = parts

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Kleene's conjunction."""
        values = [part.judge(effects, facts) for part in self.parts]
        return False if False in values else None if None in values else True

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts)


class AnyOf:
    """Some part holds: true if one does, false if all fail, open otherwise."""

    def __init__(self, *parts: "Part"):
        self.parts = parts

    def judge(self, effects: Mapping[str, Effect], facts: Mapping[str, Fact]) -> bool | None:
        """Kleene's disjunction."""
        values = [part.judge(effects, facts) for part in self.parts]
        return True if True in values else None if None in values else False

    def __str__(self) -> str:
        return " or ".join(f"({part})" if isinstance(part, AllOf) else str(part) for part in self.parts)


Part = Above | Below | Within | Holds | AllOf | AnyOf
Leaf = Above | Below | Within | Holds


NEVER = AnyOf()
"""A rule that never holds."""


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
    """What leads to the opposite outcome; ``None`` for the rule's failing. Whatever is neither is undecided."""

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
        if self.against is NEVER:
            return f"{self.met} if {self.rule}; undecided otherwise"
        fails = {1: "it fails"}.get(len(self.leaves()), "one of them fails")
        fails = "all alternatives fail" if isinstance(self.rule, AnyOf) else fails
        return f"{self.met} if {self.rule}; {self._opposite} if {self.against or fails}"


def _leaves(part: Part) -> tuple[Leaf, ...]:
    if isinstance(part, AllOf | AnyOf):
        return tuple(leaf for inner in part.parts for leaf in _leaves(inner))
    return (part,)
