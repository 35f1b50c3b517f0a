"""Exact search: the most likely sequence, with a proof."""

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from leadline import checks
from leadline.decoding.answers._certificate import Certificate, certify
from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.answers._earlier_answer import NOTHING_USABLE, EarlierAnswer
from leadline.decoding.answers._scores import Score, SumLogProb
from leadline.decoding.problem._arguments import EndTokens, end_tokens
from leadline.decoding.problem._problem import Problem, Step
from leadline.decoding.search._hypotheses import Sequences, stack
from leadline.decoding.search._search import Search
from leadline.decoding.search.exact._best_first import BestFirst
from leadline.decoding.search.exact._best_first_by_length import BestFirstByLength
from leadline.decoding.search.exact._exact_settings import ExactSettings


def exact_search(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    max_length: int,
    eos: EndTokens = None,
    normalize: bool | None = None,
    max_calls: int | None = None,
    max_bytes: int = 2**31,
    batch: int = 64,
    score: Score = SumLogProb(),  # noqa: B008
    per_length: bool = False,
    num_return: int = 1,
    at_least: Decoded | None = None,
) -> Decoded:
    """Exact search: the best complete sequences, with a proof.

    If a budget runs out, the result is the best sequences found and a bound on all others.

    Args:
        step: the step function, see :data:`~leadline.decoding.problem._problem.Step`.
        state: the state at the end of the prompts, B rows. The class of an object in it needs a
            classmethod ``concat``.
        start: the last token of each prompt, shape (B,), int64.
        max_length: largest number of new tokens, at least 1.
        eos: the end token or tokens.
        normalize: True if scores are logits; ``None`` follows ``step.normalized``.
        max_calls: budget of calls of the step function for each item; ``None`` for no limit.
        max_bytes: budget of memory for open prefixes including their states, bytes.
        batch: largest number of prefixes in one call, at least 1.
        score: the score that ranks sequences.
        per_length: return the most likely sequence of every length instead, which answers every
            length penalty at once. The certificate's gap is then the largest log-probability by
            which one of them may fall short.
        num_return: number of sequences to return, at least 1; all of them are proved.
        at_least: an earlier answer to the same problem, such as the result of beam search. The
            search starts from its hypotheses and looks only for better ones. If its certificate
            has already proved one sequence by the same score, no call is needed. An answer that
            was found with another step function or state object, or loaded from a file, is scored
            again first. This uses part of the budget, and the certificate is then ignored.

    Returns:
        The sequences. The certificate says ``OPTIMAL`` if the search came to its end, else ``GAP``.

    Raises:
        InputError: scores are above 0 although they should be log-probabilities, the score has no
            bound, ``at_least`` answers another problem, or the same conditions as in
            :func:`~leadline.decoding.search.beam._beam.beam_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table(
    ...     {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}}
    ... )
    >>> print(decoding.exact_search(*table.problem(), max_length=2))
    exact search returns “b a” with log-probability -0.90; proved optimal

    Reference: Stahlberg and Byrne, *On NMT search errors and model errors: cat got your tongue?*,
    2019.
    """
    earlier = None
    if at_least is not None:
        earlier = EarlierAnswer(
            checks.instance(at_least, "at_least", Decoded, wanted="the result of a search")
        )
    settings = ExactSettings(
        max_length=max_length,
        eos=end_tokens(eos),
        normalize=normalize,
        max_calls=max_calls,
        batch=batch,
        score=score,
        per_length=per_length,
        num_return=num_return,
    )
    max_bytes = checks.whole_number(max_bytes, "max_bytes", least=1)
    return ExactSearch(Problem(step, state, start), settings, earlier, max_bytes).run()


class ExactSearch(Search[ExactSettings]):
    """One run of exact search, item by item.

    Args:
        problem: the step function with its state and start tokens.
        settings: the settings.
        earlier: an earlier answer to start from.
        max_bytes: budget of memory for open prefixes.
    """

    def __init__(
        self,
        problem: Problem,
        settings: ExactSettings,
        earlier: EarlierAnswer | None = None,
        max_bytes: int = 2**31,
    ):
        super().__init__(problem, settings)
        self.earlier = earlier
        self.max_bytes = max_bytes
        self.searches: list[BestFirst] = []
        """The finished search of each item."""
        self.bounds: list[float] = []
        """For each item, a bound on the score of everything that was not visited."""

    def explore(self) -> None:
        """Search every item."""
        settings = self.settings
        usable = NOTHING_USABLE
        if self.earlier is not None:
            usable = self.earlier.usable_part(self.model, settings, settings.max_calls)
        kind = BestFirstByLength if settings.per_length else BestFirst
        for item in range(self.model.batch):
            search = kind(self.model, item, settings, self.max_bytes, usable.calls)
            if usable.decoded is not None:
                search.start_from(usable.decoded, usable.is_trusted)
            self.bounds.append(search.run())
            self.searches.append(search)

    def sequences(self) -> Sequences:
        """Return the best sequences of each item."""
        return stack([search.entries() for search in self.searches], self.settings.eos)

    def certificate(self, score: np.ndarray) -> Certificate:
        """Compare the sequences with the bounds."""
        certificate = certify(score, np.array(self.bounds)[:, None])
        gaps = certificate.gap.copy()
        outcomes = list(certificate.outcome)
        for item, search in enumerate(self.searches):
            gap = search.gap()
            if gap is not None:
                gaps[item] = gap
                outcomes[item] = "GAP" if gap > 0 else outcomes[item]
        return replace(certificate, outcome=tuple(outcomes), gap=gaps)
