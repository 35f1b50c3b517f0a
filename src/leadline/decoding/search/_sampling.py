"""Sampling: sequences drawn with the model's probabilities, with or without replacement."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from leadline import checks
from leadline.decoding.answers._certificate import Certificate, certify
from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.answers._settings import SearchSettings
from leadline.decoding.problem._arguments import EndTokens, count, end_tokens
from leadline.decoding.problem._problem import Problem, Step
from leadline.decoding.search._hypotheses import Numbers, Sequences
from leadline.decoding.search._search import StepwiseSearch

ROUNDING_OF_SHARE = 1e-6
"""``top_p`` is reached if less than this probability is missing: the rounding of float32."""


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(SearchSettings):
    """Settings of sampling with replacement."""

    name: ClassVar[str] = "sampling"
    is_sampling: ClassVar[bool] = True

    num: int
    """Number of sequences to draw for each prompt."""
    temperature: float = 1.0
    """Divisor of the log-probabilities before drawing."""
    top_k: int | None = None
    """Draw among the most likely k tokens only."""
    top_p: float | None = None
    """Draw among the most likely tokens that hold this share of the probability."""
    seed: int = 0
    """Seed of the random numbers."""

    def __post_init__(self):
        self._set("num", count(self.num, "num"))
        super().__post_init__()
        cure = "use greedy(...), the limit of temperature 0"
        temperature = checks.number(self.temperature, "temperature", above=0, cure=cure)
        self._set("temperature", temperature)
        self._set("top_k", checks.optional_whole_number(self.top_k, "top_k", least=1))
        if self.top_p is not None:
            self._set("top_p", checks.number(self.top_p, "top_p", above=0, most=1))
        self._set("seed", checks.seed(self.seed))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed, for the protocol."""
        return (self.seed,)


@dataclass(frozen=True, kw_only=True)
class DistinctSamplingSettings(SamplingSettings):
    """Settings of sampling without replacement."""

    name: ClassVar[str] = "sampling without replacement"


def sample(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    num: int,
    max_length: int,
    eos: EndTokens = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    replacement: bool = True,
    normalize: bool | None = None,
    seed: int = 0,
) -> Decoded:
    """Draw ``num`` sequences for each prompt.

    Without replacement, all sequences differ: Gumbel noise is added to the log-probabilities of
    sequences, and a beam search over prefixes finds the ``num`` largest sums. The first n of them
    are a sample of size n.

    Args:
        step: the step function, see :data:`~leadline.decoding.problem._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        num: number of sequences to draw for each prompt, at least 1.
        max_length: largest number of new tokens, at least 1.
        eos: the end token or tokens.
        temperature: divisor of the log-probabilities before drawing, above 0.
        top_k: draw among the most likely k tokens only, at least 1.
        top_p: draw among the most likely tokens that hold this share of the probability, in (0, 1].
        replacement: True if a sequence may be drawn twice.
        normalize: True if scores are logits; ``None`` follows ``step.normalized``.
        seed: seed of the random numbers. Item i has its own generator, made from ``seed`` and i, so
            its draws do not depend on the other items.

    Returns:
        With replacement, the sequences in the order of their log-probabilities. Without
        replacement, the sequences in the order of drawing; their score is the perturbed
        log-probability. ``log_prob`` is always the model's own, at temperature 1.

    Raises:
        InputError: a setting is out of range, or the same conditions as in
            :func:`~leadline.decoding.search.beam._beam.beam_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table(
    ...     {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}}
    ... )
    >>> drawn = sample(*table.problem(), num=3, max_length=2, replacement=False, seed=1)
    >>> sorted(" ".join(hypothesis.words) for hypothesis in drawn.hypotheses())
    ['a a', 'a b', 'b a']

    Reference: Kool, van Hoof and Welling, *Stochastic beams and where to find them*, 2019.
    """
    replacement = checks.flag(replacement, "replacement")
    kind = SamplingSettings if replacement else DistinctSamplingSettings
    settings = kind(
        num=num,
        max_length=max_length,
        eos=end_tokens(eos),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        normalize=normalize,
        seed=seed,
    )
    search = Sampling if replacement else DistinctSampling
    return search(Problem(step, state, start), settings).run()


class _Draws(NamedTuple):
    """Drawn continuations, in the order of their items."""

    parents: np.ndarray
    """Rows of the last step."""
    new_tokens: np.ndarray
    noisy: np.ndarray
    """Perturbed log-probabilities; 0 with replacement."""


class Sampling(StepwiseSearch[SamplingSettings]):
    """One run of sampling with replacement.

    Args:
        problem: the step function with its state and start tokens.
        settings: the settings.
    """

    def __init__(self, problem: Problem, settings: SamplingSettings):
        super().__init__(problem, settings, settings.num)
        batch = self.model.batch
        self.generators = [np.random.default_rng([settings.seed, item]) for item in range(batch)]
        # One value for each live hypothesis.
        self.items = np.arange(batch)
        self.total = np.zeros(batch)
        """Log-probabilities of the model."""
        self.chance = np.zeros(batch)
        """Log-probabilities with which the hypotheses are drawn."""
        self.noisy = np.zeros(batch)
        """Perturbed log-probabilities, without replacement."""

    def advance(self, t: int, scores: Tensor) -> tuple[Numbers, Numbers]:
        """Draw the next token of every live hypothesis."""
        log_prob = self.log_probs(scores, t, self.items)
        settings = self.settings
        log_q = proposal(log_prob, settings.temperature, settings.top_k, settings.top_p)
        chance = self.chance[:, None] + log_q
        parents, new_tokens, noisy = self.draw(t, log_q, chance)
        total = self.total[parents] + log_prob[parents, new_tokens]
        items = self.items[parents]
        is_end = np.isin(new_tokens, settings.eos) | (t == settings.max_length)
        for item in np.unique(items[is_end]):
            is_done = is_end & (items == item)
            columns = (self.score(total, noisy), total, parents, new_tokens)
            parts = (column[is_done][None] for column in columns)
            self.history.finish(np.array([item]), t, *parts)
        self.chance = chance[parents, new_tokens][~is_end]
        self.noisy = noisy[~is_end]
        self.items = items[~is_end]
        self.total = total[~is_end]
        parents = parents[~is_end]
        new_tokens = new_tokens[~is_end]
        self.history.add(parents, new_tokens, self.total)
        return parents, new_tokens

    def draw(self, t: int, log_q: np.ndarray, chance: np.ndarray) -> _Draws:
        """Draw each row's next token by inverting its distribution function.

        Args:
            t: the step. At the first step, each prompt is drawn from ``num`` times.
            log_q: log-probabilities to draw from, shape (N, M).
            chance: log-probabilities of the whole prefixes, shape (N, M).
        """
        cumulative = np.exp(log_q).cumsum(axis=1)
        is_possible = cumulative[:, -1] > 0
        parents = np.flatnonzero(is_possible).repeat(self.settings.num if t == 1 else 1)
        items, counts = np.unique(self.items[parents], return_counts=True)
        uniform = [np.zeros(0)]
        for item, number in zip(items, counts.tolist(), strict=True):
            uniform.append(self.generators[item].random(number))
        u = np.concatenate(uniform) * cumulative[parents, -1]
        new_tokens = (cumulative[parents] <= u[:, None]).sum(axis=1)
        return _Draws(parents, new_tokens, np.zeros(len(parents)))

    def score(self, total: np.ndarray, noisy: np.ndarray) -> np.ndarray:
        """Return the scores by which the sequences are ordered."""
        return total

    def sequences(self) -> Sequences:
        """Return the drawn sequences."""
        return self.history.read(self.settings.num, self.settings.eos)

    def certificate(self, score: np.ndarray) -> Certificate:
        """Return a certificate that does not apply, as sampling discards without a bound."""
        unbounded = np.full((self.model.batch, 1), np.inf)
        return certify(score, unbounded, "sampling does not search")


class DistinctSampling(Sampling):
    """One run of sampling without replacement."""

    def draw(self, t: int, log_q: np.ndarray, chance: np.ndarray) -> _Draws:
        """Draw the ``num`` best continuations of each item by perturbed log-probability.

        A child's perturbed log-probability is ``-log(exp(-G) - exp(-Z) + exp(-g))``. Here g is the
        log-probability of the whole prefix plus Gumbel noise, Z is the largest g among the
        siblings, and G is the parent's perturbed log-probability. The largest child therefore has
        the value of its parent.
        """
        drawn = []
        for item in np.unique(self.items):
            rows = np.flatnonzero(self.items == item)
            g = chance[rows] + self.generators[item].gumbel(size=chance[rows].shape)
            parent = self.noisy[rows][:, None]
            largest = g.max(axis=1, keepdims=True)
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                v = parent - g + np.log1p(-np.exp(g - largest))
                child = parent - np.maximum(v, 0) - np.log1p(np.exp(-np.abs(v)))
            child = np.where(g == -np.inf, -np.inf, child).ravel()
            best = np.argsort(-child, kind="stable")[: self.settings.num]
            worst_kept = self.history.score[item, -1]
            best = best[(child[best] > -np.inf) & (child[best] > worst_kept)]
            M = chance.shape[1]
            drawn.append((rows[best // M], best % M, child[best]))
        return _Draws(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))

    def score(self, total: np.ndarray, noisy: np.ndarray) -> np.ndarray:
        """Return the perturbed log-probabilities."""
        return noisy


def proposal(
    log_prob: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> np.ndarray:
    """Return the normalised log-probabilities to draw from, shape (N, M).

    Args:
        log_prob: the model's log-probabilities, shape (N, M).
        temperature: divisor of the log-probabilities.
        top_k: keep the most likely k tokens.
        top_p: keep the most likely tokens that hold this share of the probability.
    """
    highest = np.maximum(log_prob.max(axis=1, keepdims=True), np.finfo(float).min)
    with np.errstate(over="ignore"):
        log_q = (log_prob - highest) / temperature
    if top_k is not None and top_k < log_q.shape[1]:
        order = np.argsort(-log_q, axis=1, kind="stable")
        np.put_along_axis(log_q, order[:, top_k:], -np.inf, 1)
    log_q = log_q - _log_sum_exp(log_q)
    if top_p is not None and top_p < 1:
        order = np.argsort(-log_q, axis=1, kind="stable")
        share = np.exp(np.take_along_axis(log_q, order, 1)).cumsum(axis=1)
        # A token is dropped if the more likely ones already hold the share; the first never is.
        is_dropped_by_rank = np.zeros(share.shape, dtype=bool)
        is_dropped_by_rank[:, 1:] = share[:, :-1] >= top_p - ROUNDING_OF_SHARE
        is_dropped = np.zeros(share.shape, dtype=bool)
        np.put_along_axis(is_dropped, order, is_dropped_by_rank, 1)
        log_q = np.where(is_dropped, -np.inf, log_q)
        log_q = log_q - _log_sum_exp(log_q)
    return log_q


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Return the logarithm of each row's sum of exponentials, shape (N, 1); 0 for empty rows."""
    highest = np.maximum(values.max(axis=1, keepdims=True), np.finfo(float).min)
    with np.errstate(divide="ignore"):
        total = highest + np.log(np.exp(values - highest).sum(axis=1, keepdims=True))
    return np.where(total == -np.inf, 0.0, total)
