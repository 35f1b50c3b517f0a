"""Exhaustive search: the oracle of all other searches on trees that are small enough."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from leadline import checks
from leadline.decoding.answers._certificate import Certificate, certify
from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.answers._settings import SearchSettings
from leadline.decoding.problem._arguments import EndTokens, end_tokens
from leadline.decoding.problem._problem import Problem, Step
from leadline.decoding.search._hypotheses import Numbers, Sequences
from leadline.decoding.search._search import StepwiseSearch
from leadline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ExhaustiveSettings(SearchSettings):
    """Settings of exhaustive search."""

    name: ClassVar[str] = "exhaustive search"


def exhaustive_search(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    max_length: int,
    eos: EndTokens = None,
    normalize: bool | None = None,
    limit: int = 1_000_000,
) -> Decoded:
    """Return all complete sequences with a probability above zero, most likely first.

    Their probabilities sum to 1.

    Args:
        step: the step function, see :data:`~leadline.decoding.problem._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        max_length: largest number of new tokens, at least 1.
        eos: the end token or tokens.
        normalize: True if scores are logits; ``None`` follows ``step.normalized``.
        limit: largest number of sequences in all, at least 1.

    Returns:
        All sequences, with a certificate.

    Raises:
        InputError: there are more sequences than ``limit``, or the same conditions as in
            :func:`~leadline.decoding.search.beam._beam.beam_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table(
    ...     {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}}
    ... )
    >>> everything = decoding.exhaustive_search(*table.problem(), max_length=2)
    >>> [str(hypothesis) for hypothesis in everything.hypotheses()]
    ['b a -0.90', 'a a -1.30', 'a b -1.30']
    """
    settings = ExhaustiveSettings(max_length=max_length, eos=end_tokens(eos), normalize=normalize)
    limit = checks.whole_number(limit, "limit", least=1)
    return ExhaustiveSearch(Problem(step, state, start), settings, limit).run()


class ExhaustiveSearch(StepwiseSearch[ExhaustiveSettings]):
    """One run of exhaustive search.

    Args:
        problem: the step function with its state and start tokens.
        settings: the settings.
        limit: largest number of sequences in all.
    """

    def __init__(self, problem: Problem, settings: ExhaustiveSettings, limit: int):
        super().__init__(problem, settings, num_kept=0)
        self.limit = limit
        self.items = np.arange(self.model.batch)
        """The item of each live hypothesis."""
        self.total = np.zeros(self.model.batch)
        """The log-probability of each live hypothesis."""
        self.complete: list[list[np.ndarray]] = []
        """For each step, the arguments of ``History.finish_all()``."""

    def advance(self, t: int, scores: Tensor) -> tuple[Numbers, Numbers]:
        """Extend every live hypothesis by every token."""
        if t == 1:
            self._check_limit(scores.shape[1])
        total = self.total[:, None] + self.log_probs(scores, t, self.items)
        parents, new_tokens = np.nonzero(total > -np.inf)
        items = self.items[parents]
        total = total[parents, new_tokens]
        is_end = np.isin(new_tokens, self.settings.eos) | (t == self.settings.max_length)
        columns = (items, np.full_like(parents, t), total, parents, new_tokens)
        self.complete.append([column[is_end] for column in columns])
        self.items = items[~is_end]
        self.total = total[~is_end]
        parents = parents[~is_end]
        new_tokens = new_tokens[~is_end]
        self.history.add(parents, new_tokens, self.total)
        return parents, new_tokens

    def sequences(self) -> Sequences:
        """Return all complete sequences."""
        columns = zip(*self.complete, strict=True)
        self.history.finish_all(*(np.concatenate(parts) for parts in columns))
        return self.history.read(None, self.settings.eos)

    def certificate(self, score: np.ndarray) -> Certificate:
        """Certify that nothing was discarded."""
        return certify(score, np.full((self.model.batch, 1), -np.inf))

    def _check_limit(self, M: int) -> None:
        """Refuse a tree with more than ``limit`` sequences."""
        num_ends = len(self.settings.eos)
        sequences = M
        for _ in range(self.settings.max_length - 1):
            if sequences > self.limit:
                break
            sequences = num_ends + (M - num_ends) * sequences
        batch = self.model.batch
        if batch * sequences > self.limit:
            raise InputError(
                f"exhaustive search visits at most limit = {self.limit} sequences",
                got=f"at least {batch} x {sequences} sequences of up to "
                f"{self.settings.max_length} of {M} tokens",
                cure="use exact_search, which proves the optimum without visiting them all",
            )
