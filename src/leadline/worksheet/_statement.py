"""Statements of the worksheet as plain data; this file computes nothing and imports quickly."""

from dataclasses import dataclass
from typing import get_args

from leadline import checks
from leadline.errors import InputError
from leadline.sounding import Outcome
from leadline.storage import record
from leadline.worksheet._criterion import Criterion


@record("worksheet.Statement")
@dataclass(frozen=True)
class Statement:
    """A claim, the course's answer, and the criterion that decides it.

    The measurement is named by a dotted string (``"package.module:function"``), which is resolved
    when the measurement runs.
    """

    id: str
    number: str
    """The number in the course; ``"+"`` marks an additional statement."""
    title: str
    claim: str
    course: str
    """The course's answer in its own words."""
    agrees: Outcome
    """The outcome that agrees with the course."""
    measurement: str
    """Description of the measurement."""
    criterion: Criterion
    why: str
    condition: str
    """The condition under which the course and the measurement would agree."""
    measure: str | None = None
    """Dotted name of the measurement function; ``None`` if it does not exist yet."""
    is_extension: bool = False
    """True for a statement beyond the twenty; see :func:`leadline.worksheet.register`.

    An extension does not change the level of their intervals.
    """

    def __post_init__(self):
        texts = ("id", "number", "title", "claim", "course", "measurement", "why", "condition")
        for name in texts:
            object.__setattr__(self, name, checks.text(getattr(self, name), name))
        object.__setattr__(self, "agrees", checks.choice(self.agrees, "agrees", get_args(Outcome)))
        checks.instance(self.criterion, "criterion", Criterion)
        object.__setattr__(self, "is_extension", checks.flag(self.is_extension, "is_extension"))
        section, _, letter = self.id.partition(".")
        if section not in SECTIONS or not letter:
            known = ", ".join(SECTIONS)
            raise InputError(
                f"id must be a section ({known}), a dot and a letter", got=f"id = {self.id!r}"
            )
        if self.measure is not None and not all(
            checks.text(self.measure, "measure").partition(":")
        ):
            raise InputError(
                "measure must be written as package.module:function",
                got=f"measure = {self.measure!r}",
            )

    @property
    def section(self) -> str:
        """``"ae"``, ``"rnn"`` or ``"beam"``."""
        return self.id.partition(".")[0]


SECTIONS = {
    "ae": "Autoencoders: what is this representation worth?",
    "rnn": "Recurrent networks: where does the gradient die?",
    "beam": "Beam search: what did the decoder miss?",
}
"""Titles of the sections, by the first part of a statement's id."""
