"""Settings of beam search."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from leadline import checks
from leadline.decoding.answers._scores import Score, SumLogProb
from leadline.decoding.answers._settings import SearchSettings, score_function
from leadline.decoding.problem._arguments import count
from leadline.errors import InputError

EosMode = Literal["pool", "in_beam"]


@dataclass(frozen=True, kw_only=True)
class BeamSettings(SearchSettings):
    """Settings of beam search."""

    name: ClassVar[str] = "beam search"

    width: int
    """Number of hypotheses that survive a step, k."""
    score: Score = field(default_factory=SumLogProb)
    """The score that ranks complete hypotheses."""
    eos_mode: EosMode = "pool"
    """``"pool"`` if a complete hypothesis frees its place, ``"in_beam"`` if it keeps it."""
    num_return: int = 1
    """Number of hypotheses to return, R."""

    def __post_init__(self):
        self._set("width", count(self.width, "width"))
        super().__post_init__()
        self._set("num_return", count(self.num_return, "num_return"))
        self._set("score", score_function(self.score))
        self._set("eos_mode", eos_mode_of(self.eos_mode))
        if self.num_return > self.width:
            raise InputError(
                "num_return must be at most the width",
                got=f"num_return = {self.num_return}, width = {self.width}",
            )

    @property
    def label(self) -> str:
        """The name with the width."""
        return f"{self.name} (width {self.width})"

    @property
    def chosen_score(self) -> Score:
        """The score that ranks hypotheses."""
        return self.score

    def as_beam(self) -> "BeamSettings":
        """The same search for one hypothesis per item."""
        return BeamSettings(
            width=self.width,
            max_length=self.max_length,
            eos=self.eos,
            score=self.score,
            eos_mode=self.eos_mode,
            normalize=self.normalize,
        )


def eos_mode_of(value: Any) -> EosMode:
    """Return ``eos_mode``, checked to be ``"pool"`` or ``"in_beam"``."""
    if not isinstance(value, str) or value not in ("pool", "in_beam"):
        raise InputError(
            "eos_mode must be 'pool' or 'in_beam'", got=f"eos_mode = {checks.shown(value)}"
        )
    return "pool" if value == "pool" else "in_beam"
