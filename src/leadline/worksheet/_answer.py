"""A measured answer to one statement: the evidence, and the outcome that the criterion draws from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from leadline import checks
from leadline.figures import Drawing
from leadline.sounding import Sounding, Verdict
from leadline.statistics import PERCENT, POINTS, UNBOUNDED, Bounds, Effect, effect
from leadline.storage import record
from leadline.worksheet._criterion import Above, Below, Fact, Holds, Leaf, Within
from leadline.worksheet._statement import Statement
from leadline.worksheet.statements import STATEMENTS

if TYPE_CHECKING:
    import pandas as pd


Measured = tuple[np.ndarray, str, str] | tuple[np.ndarray, str, str, Bounds]
"""Values per seed, of shape (seeds, ...); their name in words; their unit; the smallest and the largest possible."""

BOUNDS_OF_UNITS = {"%": PERCENT, "% of networks": PERCENT, "points": POINTS}
"""Bounds of quantities by their unit, where none are given."""


def effects_of(statement_id: str, **measured: Measured) -> dict[str, Effect]:
    """Effects at the level that the statement's criterion asks for.

    The share of error that a statement has (5 % over the registered twenty) is divided among the effects that its
    criterion names, so that all of them, over the whole worksheet, cover together with at least 95 %.

    Args:
        statement_id: the statement whose criterion names the effects.
        measured: by name, the values per seed of shape (seeds, ...), their name in words, their unit, and where they
            are bounded the smallest and the largest possible value. Percentages and points are bounded by their unit.

    >>> effects = effects_of("rnn.e", error_share_last_step=(np.array([0.0, 0.01, 0.02]), "share", "", (0.0, np.inf)))
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
        found[name] = effect(values, label, unit, comparisons=comparisons, bounds=bounds)
    return found


def _detectable(leaf: Leaf | None, effect: Effect) -> float:
    """The value from which on the design would have seen that the part holds; NaN for bounds on both sides."""
    match leaf:
        case Above():
            return leaf.threshold + effect.detectable
        case Below():
            return leaf.threshold - effect.detectable
        case Within():
            return math.nan
    return effect.detectable


def _statement(statement_id: str) -> Statement:
    return STATEMENTS[checks.choice(statement_id, "statement_id", STATEMENTS)]


def finding(sounding: Sounding) -> str:
    """The verdict of a sounding that an answer rests on, as a sentence of its own."""
    sentence = sounding.verdict.sentence
    return f"{sentence[0].upper()}{sentence[1:]}."


@record("worksheet.Answer")
@dataclass(frozen=True, eq=False)
class Answer(Sounding):
    """The evidence that was measured for one statement."""

    statement_id: str
    sentence: str
    """What was found, with the numbers in it."""
    soundings: Mapping[str, Sounding]
    """What the answer rests on; the first one's figure is the answer's."""
    effects: Mapping[str, Effect] = field(default_factory=dict)
    """The effects that the criterion names, and further ones."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """The facts that the criterion names, and further ones."""
    findings: tuple[str, ...] = ()
    """What is reported beside the outcome, one sentence each."""

    @property
    def statement(self) -> Statement:
        """The statement that is answered."""
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
        """One row per effect and fact.

        Columns: ``name``, ``what``, ``estimate`` (in ``unit``), ``low`` and ``high`` (the plain 95 % interval),
        ``simultaneous_low`` and ``simultaneous_high``, ``detectable`` (the value from which on the design would have
        seen that the part holds), ``unit``, ``replicates`` (seeds), ``holds`` (of the parts that the criterion names;
        missing where the interval leaves it open), ``measured`` and ``expected`` (of facts, in words).
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
        """Return the drawing of the first sounding that the answer rests on."""
        return next(iter(self.soundings.values())).drawing()
