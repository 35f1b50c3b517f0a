"""A statement of the worksheet, as plain data: nothing here computes, and nothing heavy is imported."""

from dataclasses import dataclass

from leadline.sounding import Outcome
from leadline.worksheet.criterion import Criterion


@dataclass(frozen=True)
class Statement:
    """A claim, the course's answer to it, and how it is decided here.

    The measurement is named by a dotted string (``"package.module:function"``) and resolved when it runs.
    """

    id: str
    number: str
    """The course's own number; ``"+"`` marks an addition."""
    title: str
    claim: str
    course: str
    """The course's answer, in its words."""
    agrees: Outcome
    """The outcome that would agree with the course."""
    measurement: str
    """What is measured, in words."""
    criterion: Criterion
    why: str
    condition: str
    """Under which condition course and measurement would agree, for a reader who finds that they do not."""
    measure: str | None = None
    """Where the measurement lives; ``None`` while it is not built."""

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
