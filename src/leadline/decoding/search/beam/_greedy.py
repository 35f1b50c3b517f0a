"""Greedy search: a beam search of width 1."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.answers._settings import SearchSettings
from leadline.decoding.problem._arguments import EndTokens, end_tokens
from leadline.decoding.problem._problem import Problem, Step
from leadline.decoding.search.beam._beam_settings import BeamSettings
from leadline.decoding.search.beam._run import BeamSearch


@dataclass(frozen=True, kw_only=True)
class GreedySettings(SearchSettings):
    """Settings of greedy search."""

    name: ClassVar[str] = "greedy search"

    def as_beam(self) -> BeamSettings:
        """Settings of the beam search that finds the same answer."""
        return BeamSettings(
            width=1, max_length=self.max_length, eos=self.eos, normalize=self.normalize
        )


class GreedySearch(BeamSearch):
    """One run of greedy search.

    The beam has one place, and a complete hypothesis keeps it, so the search ends there.
    """

    def __init__(self, problem: Problem, settings: GreedySettings):
        super().__init__(problem, replace(settings.as_beam(), eos_mode="in_beam"))
        self.settings = settings


def greedy(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    max_length: int,
    eos: EndTokens = None,
    normalize: bool | None = None,
) -> Decoded:
    """Greedy search: extend the hypothesis by its most likely next token until it is complete.

    Ties go to the lower token.

    Args:
        step: the step function, see :data:`~leadline.decoding.problem._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        max_length: largest number of new tokens, at least 1.
        eos: the end token or tokens.
        normalize: True if scores are logits; ``None`` follows ``step.normalized``.

    Returns:
        One hypothesis per item, with a certificate.

    Raises:
        InputError: the same conditions as in
            :func:`~leadline.decoding.search.beam._beam.beam_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table(
    ...     {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}}
    ... )
    >>> print(decoding.greedy(*table.problem(), max_length=2).hypotheses()[0])
    a a -1.30
    """
    settings = GreedySettings(max_length=max_length, eos=end_tokens(eos), normalize=normalize)
    return GreedySearch(Problem(step, state, start), settings).run()
