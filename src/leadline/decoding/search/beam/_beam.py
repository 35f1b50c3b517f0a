"""Beam search: the public function."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from leadline import checks
from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.answers._scores import Score, SumLogProb
from leadline.decoding.models._constraints import Processor, constrain, names_of, processor_list
from leadline.decoding.problem._arguments import EndTokens, end_tokens
from leadline.decoding.problem._problem import Problem, Step
from leadline.decoding.search.beam._beam_settings import BeamSettings, EosMode
from leadline.decoding.search.beam._run import BeamSearch


def beam_search(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    width: int,
    max_length: int,
    eos: EndTokens = None,
    score: Score = SumLogProb(),  # noqa: B008
    eos_mode: EosMode = "pool",
    num_return: int = 1,
    processors: Sequence[Processor] = (),
    normalize: bool | None = None,
    trace: bool = False,
) -> Decoded:
    """Beam search over a step function, with a bound on everything that was pruned.

    A hypothesis is complete when it ends with an end token or has ``max_length`` tokens. During
    the search, candidates are ranked by their score at their present length. Ties go to the
    better parent, then to the lower token. The search stops early only if no live hypothesis can
    change the result.

    Args:
        step: the step function, see :data:`~leadline.decoding.problem._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        width: beam width k, the number of hypotheses that survive a step, at least 1.
        max_length: largest number of new tokens, at least 1.
        eos: the end token or tokens.
        score: the score that ranks complete hypotheses.
        eos_mode: ``"pool"`` if a hypothesis that ends among the best k frees its place for the
            next candidate; ``"in_beam"`` if it keeps its place, and may lose it later.
        num_return: number of hypotheses to return, R, at most ``width``.
        processors: masks over the next tokens, see
            :mod:`~leadline.decoding.models._constraints`. To audit the result, pass the problem
            that :func:`~leadline.decoding.models._constraints.constrain` returns.
        normalize: True if scores are logits; ``None`` follows ``step.normalized``.
        trace: also return the tree of all considered candidates.

    Returns:
        The hypotheses with their certificate, the work done and, on request, the trace.

    Raises:
        InputError: a setting is out of range, the step function breaks its contract, or its scores
            are NaN.

    >>> from leadline import decoding
    >>> table = decoding.Table(
    ...     {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}}
    ... )
    >>> print(decoding.beam_search(*table.problem(), width=2, max_length=2))
    beam search returns “b a” with log-probability -0.90; proved optimal

    Reference: Lowerre, *The Harpy speech recognition system*, 1976.
    """
    settings = BeamSettings(
        width=width,
        max_length=max_length,
        eos=end_tokens(eos),
        score=score,
        eos_mode=eos_mode,
        num_return=num_return,
        normalize=normalize,
    )
    is_traced = checks.flag(trace, "trace")
    processors = processor_list(processors)
    problem = Problem(step, state, start)
    if processors:
        problem = constrain(*problem, processors, settings.normalize)
        settings = replace(settings, processors=names_of(processors), normalize=None)
    return BeamSearch(problem, settings, is_traced=is_traced).run()
