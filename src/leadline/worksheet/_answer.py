"""The measured answer to a statement: its evidence and its outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from leadline import checks
from leadline.errors import InputError
from leadline.figures import Drawing
from leadline.sounding import Sounding, Verdict
from leadline.statistics import PERCENT, POINTS, UNBOUNDED, Bounds, Effect, effect
from leadline.storage import record
from leadline.worksheet._criterion import EffectPart, Fact, Holds, Leaf
from leadline.worksheet._statement import Statement
from leadline.worksheet.statements import LEVEL, STATEMENTS

if TYPE_CHECKING:
    import pandas as pd


Measured = tuple[np.ndarray, str, str] | tuple[np.ndarray, str, str, Bounds]
"""Values of shape (seeds, ...), name in words, unit, and optionally the bounds of the values."""

BOUNDS_OF_UNITS = {"%": PERCENT, "% of networks": PERCENT, "points": POINTS}
"""Default bounds of a quantity, by unit."""


def effects_of(statement_id: str, **measured: Measured) -> dict[str, Effect]:
    """Return effects with intervals at the level that the statement's criterion requires.

    The total error rate of 5 % is divided equally among the twenty statements. Each
    statement divides its share among the effects that its criterion names. All intervals of the
    twenty together therefore cover with a probability of at least 95 %. An extension has a share
    of the same size, which does not change theirs.

    Args:
        statement_id: the statement whose criterion names the effects.
        measured: for each effect, the values of shape (seeds, ...), the name in words, the unit,
            and the smallest and largest possible value if the quantity is bounded. Percentages
            and points are bounded by their unit.

    >>> errors = np.array([0.0, 0.01, 0.02])
    >>> effects = effects_of("rnn.e", error_share_last_step=(errors, "share", "", (0.0, np.inf)))
    >>> print(effects["error_share_last_step"])
    share: 0.010 [0.000, 0.035]
    """
    comparisons = _statement(statement_id).criterion.comparisons
    found = {}
    for name, given in measured.items():
        values, label, unit, *rest = checks.items(
            given, name, least=3, of="values, their name and their unit"
        )
        unit = checks.text(unit, f"the unit of {name}")
        bounds = rest[0] if rest else BOUNDS_OF_UNITS.get(unit, UNBOUNDED)
        found[name] = effect(
            values, label, unit, comparisons=comparisons, bounds=bounds, level=LEVEL
        )
    return found


def _detectable(leaf: Leaf | None, effect: Effect) -> float:
    """Return the smallest detectable value of the effect; NaN for rules with two bounds."""
    if isinstance(leaf, EffectPart):
        return leaf.detectable_value(effect)
    return effect.detectable


def _statement(statement_id: str) -> Statement:
    return STATEMENTS[checks.choice(statement_id, "statement_id", STATEMENTS)]


def finding(sounding: Sounding) -> str:
    """Return the verdict of a sounding as a separate sentence."""
    sentence = sounding.verdict.sentence
    return f"{sentence[0].upper()}{sentence[1:]}."


@record("worksheet.Answer")
@dataclass(frozen=True, eq=False)
class Answer(Sounding):
    """The measured evidence for one statement."""

    statement_id: str
    sentence: str
    """One sentence that states the result, with its numbers."""
    soundings: Mapping[str, Sounding]
    """Soundings that support the answer, by name; the answer shows the figure of the first."""
    effects: Mapping[str, Effect] = field(default_factory=dict)
    """Effects that the criterion names, and additional effects."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """Facts that the criterion names, and additional facts."""
    findings: tuple[str, ...] = ()
    """Results that do not affect the outcome, one sentence each."""

    @property
    def statement(self) -> Statement:
        """The statement that this answer belongs to."""
        return _statement(self.statement_id)

    @property
    def verdict(self) -> Verdict:
        """The sentence, and the outcome that follows from the statement's criterion."""
        outcome = self.statement.criterion.judge(self.effects, self.facts)
        sentence = self.sentence
        if outcome == "undecided":
            for leaf in self.statement.criterion.leaves():
                if not isinstance(leaf, Holds) and leaf.judge(self.effects, self.facts) is None:
                    effect = self.effects[leaf.effect]
                    sentence += (
                        f" The design would have detected {effect.label} {leaf.detectable(effect)}."
                    )
        return Verdict(sentence, outcome)

    @property
    def agrees(self) -> bool:
        """True if the outcome is the course's answer."""
        return self.verdict.outcome == self.statement.agrees

    def table(self) -> "pd.DataFrame":
        """Return one row per effect and fact.

        Columns:
            name, what: the name, and its meaning in words.
            estimate, unit: the estimate of an effect, and its unit.
            low, high: the 95 % interval without correction.
            simultaneous_low, simultaneous_high: the corrected interval, which decides.
            detectable: the smallest value that this number of seeds could have detected.
            replicates: the number of seeds.
            holds: True or False for parts that the criterion names; missing if undecided.
            measured, expected: the measured and expected value of a fact, in words.
        """
        import pandas as pd

        leaves = self.statement.criterion.leaves()
        by_name = {leaf.fact if isinstance(leaf, Holds) else leaf.effect: leaf for leaf in leaves}
        rows = []
        for name, measured in self.effects.items():
            leaf = by_name.get(name)
            rows.append(
                {
                    "name": name,
                    "what": measured.label,
                    "estimate": measured.interval.estimate,
                    "low": measured.interval.low,
                    "high": measured.interval.high,
                    "simultaneous_low": measured.simultaneous.low,
                    "simultaneous_high": measured.simultaneous.high,
                    "detectable": _detectable(leaf, measured),
                    "unit": measured.unit,
                    "replicates": measured.replicates,
                    "holds": None if leaf is None else leaf.judge(self.effects, self.facts),
                }
            )
        for name, fact in self.facts.items():
            row = {"name": name, "what": fact.label, "holds": fact.holds}
            rows.append({**row, "measured": fact.measured, "expected": fact.expected})
        return pd.DataFrame(rows)

    def drawing(self) -> Drawing:
        """Return the drawing of the first sounding.

        Raises:
            InputError: the answer has no soundings.
        """
        if not self.soundings:
            raise InputError(
                "an Answer needs at least one sounding, whose figure it shows",
                got="soundings = {}",
                cure="add the sounding that supports the answer: soundings={name: sounding}",
            )
        first, *_ = self.soundings.values()
        return first.drawing()
