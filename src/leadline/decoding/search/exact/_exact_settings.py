"""The settings of exact search."""

from dataclasses import dataclass, field
from typing import ClassVar

from leadline import checks
from leadline.decoding.answers._scores import Score, SumLogProb, why_unbounded
from leadline.decoding.answers._settings import SearchSettings, score_function
from leadline.decoding.problem._arguments import count
from leadline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ExactSettings(SearchSettings):
    """Settings of exact search."""

    name: ClassVar[str] = "exact search"

    score: Score = field(default_factory=SumLogProb)
    """The score that ranks sequences."""
    per_length: bool = False
    """True to search for the most likely sequence of every length."""
    num_return: int = 1
    """Number of sequences to return; ``max_length`` if ``per_length`` is set."""
    max_calls: int | None = None
    """Budget of calls of the step function for each item."""
    batch: int = 64
    """Largest number of prefixes in one call."""

    def __post_init__(self):
        super().__post_init__()
        calls = checks.optional_whole_number(self.max_calls, "max_calls", least=1)
        self._set("max_calls", calls)
        self._set("batch", count(self.batch, "batch"))
        self._set("num_return", count(self.num_return, "num_return"))
        self._set("per_length", checks.flag(self.per_length, "per_length"))
        self._set("score", score_function(self.score))
        reason = why_unbounded(self.score, self.max_length)
        if reason:
            raise InputError(
                "exact_search() needs a score with a bound",
                got=f"score = {self.score}",
                cause=reason,
            )
        if self.per_length:
            self._set("num_return", self.max_length)
            if self.score != SumLogProb():
                raise InputError(
                    "per_length=True needs the score SumLogProb(): the most likely sequences of "
                    "every length are compared by log-probability",
                    got=f"per_length = True, score = {self.score}",
                    cure="leave the score out, and apply it to the returned sequences",
                )

    @property
    def chosen_score(self) -> Score:
        """The score that ranks sequences."""
        return self.score

    def bounds(self, score: Score) -> bool:
        """True if the certificate of this search bounds sequences by the given score."""
        return super().bounds(score) and not self.per_length
