"""Constraints on sequences: masks over the next tokens.

A processor receives log-probabilities (N, M) and the new tokens so far (N, t). It returns the
log-probabilities with some set to ``-inf`` and all others unchanged. It does not renormalise, so
that certificates stay valid. :func:`constrain` puts processors between a model and any search.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from leadline.checks import function, items, shown, whole_numbers
from leadline.decoding.problem._arguments import LARGEST, EndTokens, end_tokens, normalization
from leadline.decoding.problem._arguments import length as length_of
from leadline.decoding.problem._problem import (
    Problem,
    Step,
    call_step,
    check_start,
    describe,
    refuse_state,
    takes_two,
)
from leadline.decoding.problem._reader import MASKED, Reader
from leadline.errors import InputError

Processor = Callable[[Tensor, Tensor], Tensor]
"""``(log_probs (N, M), prefix (N, t)) -> log_probs``."""


def constrain(
    step: Step,
    state: Any,
    start: Tensor,
    processors: Sequence[Processor],
    normalize: bool | None = None,
) -> Problem:
    """Return the same problem with masked tokens, for any search and for :func:`audit`.

    Args:
        step: see :data:`~leadline.decoding.problem._problem.Step`.
        state: the state after the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        processors: masks, applied in this order: :func:`forbid`, :func:`min_length`,
            :func:`no_repeat_ngram`, :func:`allow`, :func:`force_prefix`, or functions
            ``(log_probs (N, M), prefix (N, t)) -> log_probs``.
        normalize: True if scores are logits; ``None`` follows ``step.normalized``.

    Raises:
        InputError: an argument has another type or shape, or a processor takes other arguments.

    >>> from leadline import decoding
    >>> rows = {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}}
    >>> table = decoding.Table(rows)
    >>> problem = constrain(*table.problem(), [forbid([table.token("b")])])
    >>> print(decoding.exact_search(*problem, max_length=2))
    exact search returns “a a” with log-probability -1.30; proved optimal
    """
    check_start(start)
    processors = processor_list(processors)
    normalize = normalization(normalize)
    are_logits = not getattr(step, "normalized", False) if normalize is None else normalize
    constrained = _Constrained(step, processors, are_logits)
    no_tokens = start.new_empty(len(start), 0)
    return Problem(constrained, {"model": state, "prefix": no_tokens}, start)


def is_constrained(step: Step) -> bool:
    """True if a step function was made by :func:`constrain`."""
    return isinstance(step, _Constrained)


def processor_list(processors: Any) -> tuple[Processor, ...]:
    """Return processors as a tuple.

    Raises:
        InputError: there is anything but functions of two arguments.
    """
    rule = "processors must be a sequence of functions"
    cure = "processors=[decoding.forbid([token])]"
    _refuse_hugging_face(processors, "processors")
    if processors is None or callable(processors):
        raise InputError(rule, got=f"processors = {shown(processors)}", cure=cure)
    plain = items(processors, "processors", of="functions")
    for i, processor in enumerate(plain):
        name = f"processors[{i}]"
        if not callable(processor):
            raise InputError(rule, got=f"{name} = {shown(processor)}", cure=cure)
        _refuse_hugging_face(processor, name)
        if not takes_two(processor):
            raise InputError(
                f"{name} {TAKES}",
                got=f"{name} = {shown(processor)}, which takes other arguments",
                cure=cure,
            )
    return plain


TAKES = "must be a function of log-probabilities (N, M) and new tokens (N, t)"


def _refuse_hugging_face(processor: Any, name: str) -> None:
    kinds = [kind.__name__ for kind in type(processor).__mro__]
    if "LogitsProcessor" in kinds or "LogitsProcessorList" in kinds:
        raise InputError(
            f"{name} {TAKES}",
            got=f"{name} is a {kinds[0]} of transformers",
            cause="its arguments are in the opposite order: (input_ids, scores)",
            cure="lambda log_probs, prefix: processor(prefix, log_probs), "
            "or forbid, min_length, no_repeat_ngram",
        )


def names_of(processors: Sequence[Processor]) -> tuple[str, ...]:
    """Return the names of processors.

    >>> names_of([forbid([1]), no_repeat_ngram(2)])
    ('forbid', 'no_repeat_ngram')
    """
    return tuple(_name(processor) for processor in processors)


def _name(processor: Processor) -> str:
    if isinstance(processor, Constraint):
        return processor.name
    return getattr(processor, "__name__", type(processor).__name__)


class Constraint(ABC):
    """A processor of Leadline."""

    name: ClassVar[str]
    """The name of the public function that makes it."""

    @abstractmethod
    def __call__(self, log_probs: Tensor, prefix: Tensor) -> Tensor:
        """Return the log-probabilities, shape (N, M), with masked tokens set to ``-inf``."""

    def _mask(self, log_probs: Tensor, tokens: Tensor) -> Tensor:
        """Mask some tokens in every row."""
        tokens = _in_vocabulary(tokens, log_probs, self.name)
        return log_probs.index_fill(1, tokens, -torch.inf)


@dataclass(frozen=True, eq=False)
class Forbid(Constraint):
    """Masks some tokens at every step."""

    name = "forbid"
    tokens: Tensor

    def __call__(self, log_probs: Tensor, prefix: Tensor) -> Tensor:
        return self._mask(log_probs, self.tokens)


@dataclass(frozen=True, eq=False)
class MinLength(Constraint):
    """Masks the end tokens until a hypothesis is long enough."""

    name = "min_length"
    length: int
    end_tokens: Tensor

    def __call__(self, log_probs: Tensor, prefix: Tensor) -> Tensor:
        if prefix.shape[1] + 1 >= self.length:
            return log_probs
        return self._mask(log_probs, self.end_tokens)


@dataclass(frozen=True, eq=False)
class NoRepeatNgram(Constraint):
    """Masks each token that would repeat an n-gram of the hypothesis."""

    name = "no_repeat_ngram"
    n: int

    def __call__(self, log_probs: Tensor, prefix: Tensor) -> Tensor:
        if prefix.shape[1] < self.n:
            return log_probs
        ngrams = prefix.unfold(1, self.n, 1)
        last = prefix[:, prefix.shape[1] - self.n + 1 :].unsqueeze(1)
        row, place = (ngrams[:, :, :-1] == last).all(dim=2).nonzero().unbind(1)
        masked = log_probs.new_tensor(-torch.inf)
        return log_probs.index_put((row, ngrams[row, place, -1]), masked)


@dataclass(frozen=True, eq=False)
class Allow(Constraint):
    """Masks all tokens but those that a rule allows after each hypothesis."""

    name = "allow"
    rule: Callable[[tuple[int, ...]], Iterable[int]]

    def __call__(self, log_probs: Tensor, prefix: Tensor) -> Tensor:
        masked = torch.full_like(log_probs, -torch.inf)
        for row, tokens in enumerate(prefix.tolist()):
            listed = _token_index(self.rule(tuple(tokens)), "the result of allow()'s rule")
            allowed = _in_vocabulary(listed, log_probs, self.name)
            masked[row, allowed] = log_probs[row, allowed]
        return masked


@dataclass(frozen=True, eq=False)
class ForcePrefix(Constraint):
    """Masks all tokens but the next token of a given beginning."""

    name = "force_prefix"
    tokens: tuple[int, ...]

    def __call__(self, log_probs: Tensor, prefix: Tensor) -> Tensor:
        place = prefix.shape[1]
        if place >= len(self.tokens):
            return log_probs
        forced = _in_vocabulary(torch.tensor([self.tokens[place]]), log_probs, self.name)
        masked = torch.full_like(log_probs, -torch.inf)
        masked[:, forced] = log_probs[:, forced]
        return masked


def forbid(tokens: Iterable[int]) -> Processor:
    """Return a processor that never allows some tokens.

    Args:
        tokens: the forbidden tokens.

    >>> forbid([1])(torch.zeros(1, 3), torch.zeros(1, 0, dtype=torch.int64)).tolist()
    [[0.0, -inf, 0.0]]
    """
    return Forbid(_token_index(tokens, "tokens"))


def min_length(length: int, eos: EndTokens) -> Processor:
    """Return a processor that allows no end token before a hypothesis has ``length`` tokens.

    Args:
        length: the smallest number of new tokens, the end token included; at least 1.
        eos: the end token or end tokens.

    >>> mask = min_length(2, eos=0)
    >>> mask(torch.zeros(1, 3), torch.zeros(1, 0, dtype=torch.int64)).tolist()
    [[-inf, 0.0, 0.0]]
    >>> mask(torch.zeros(1, 3), torch.tensor([[2]])).tolist()
    [[0.0, 0.0, 0.0]]
    """
    return MinLength(length_of(length, "length"), _token_index(end_tokens(eos), "eos"))


def no_repeat_ngram(n: int) -> Processor:
    """Return a processor that lets no sequence of ``n`` new tokens occur twice.

    Args:
        n: the length of the sequences, at least 1.

    >>> no_repeat_ngram(2)(torch.zeros(1, 3), torch.tensor([[0, 1, 0]])).tolist()
    [[0.0, -inf, 0.0]]
    """
    return NoRepeatNgram(length_of(n, "n"))


def allow(rule: Callable[[tuple[int, ...]], Iterable[int]]) -> Processor:
    """Return a processor that allows only the tokens of a rule, such as a grammar or a trie.

    Args:
        rule: maps the new tokens so far to the list of tokens that may follow. An empty list ends
            the hypothesis without a result.

    >>> mask = allow(lambda tokens: [0] if not tokens else [1, 2])
    >>> mask(torch.zeros(1, 3), torch.tensor([[0]])).tolist()
    [[-inf, 0.0, 0.0]]
    """
    wanted = "a function that maps the new tokens so far to the tokens that may follow"
    return Allow(function(rule, "rule", wanted=wanted))


def force_prefix(tokens: Sequence[int]) -> Processor:
    """Return a processor that makes each hypothesis begin with some tokens.

    Their log-probabilities count.

    Args:
        tokens: the first new tokens, in order.

    >>> force_prefix([2])(torch.zeros(1, 3), torch.zeros(1, 0, dtype=torch.int64)).tolist()
    [[-inf, -inf, 0.0]]
    """
    return ForcePrefix(whole_numbers(tokens, "tokens", least=-LARGEST, most=LARGEST, at_least=0))


def _token_index(tokens: Any, name: str) -> Tensor:
    """Return tokens as a sorted tensor without duplicates; a boolean mask is refused."""
    is_text_or_array = isinstance(tokens, (str, bytes, Tensor, np.ndarray))
    if isinstance(tokens, Iterable) and not is_text_or_array:
        tokens = list(tokens)
    try:
        plain = whole_numbers(tokens, name, least=-LARGEST, most=LARGEST, at_least=0)
    except InputError as error:
        is_mask = "bool" in str(getattr(tokens, "dtype", "")) or "True" in (error.got or "")
        cure = "mask.nonzero().flatten() lists the tokens of a mask" if is_mask else error.cure
        raise InputError(error.rule, got=error.got, cure=cure) from None
    return torch.tensor(sorted(set(plain)), dtype=torch.int64)


def _in_vocabulary(tokens: Tensor, log_probs: Tensor, name: str) -> Tensor:
    """Return sorted tokens on the device of ``log_probs``; refuse tokens outside the vocabulary."""
    M = log_probs.shape[1]
    smallest_and_largest = tokens[[0, -1]].tolist() if len(tokens) else []
    for token in smallest_and_largest:
        if not 0 <= token < M:
            raise InputError(
                "processors must name tokens of the vocabulary",
                got=f"token {token} in {name}, vocabulary of {M} tokens (0 to {M - 1})",
            )
    return tokens.to(log_probs.device)


class _Constrained:
    """A step function whose log-probabilities are masked by processors."""

    normalized = True

    def __init__(self, step: Step, processors: tuple[Processor, ...], are_logits: bool):
        self.step = step
        self.processors = processors
        self.reader = Reader(are_logits)
        for name in ("vocabulary", "eos", "ignored", "sums_are_given"):
            if hasattr(step, name):
                setattr(self, name, getattr(step, name))

    def behind(self, state: dict[str, Any]) -> tuple[Step, Any]:
        """Return the step function without its processors, and its state."""
        return self.step, state["model"]

    def __call__(self, tokens: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        if not isinstance(state, dict) or set(state) != {"model", "prefix"}:
            refuse_state("constrain()", state)
        scores, inner = call_step(self.step, tokens, state["model"])
        prefix = torch.cat([state["prefix"], tokens.unsqueeze(1)], dim=1)
        new_state = {"model": inner, "prefix": prefix}
        if not _are_scores(scores, tokens):
            return scores, new_state  # the search refuses these scores and names the rule
        log_probs = self.reader.all(scores if scores.dtype == torch.float64 else scores.float())
        # The first token of the prefix is the last token of the prompt, which is no new token.
        new_tokens = prefix[:, 1:]
        for processor in self.processors:
            # A processor may change its argument in place, so it receives a copy.
            masked = processor(log_probs.clone(), new_tokens)
            _check_masked(log_probs, masked, processor)
            log_probs = masked
        return log_probs, new_state


def _are_scores(scores: Any, tokens: Tensor) -> bool:
    """True for floating-point scores of shape (N, M)."""
    return (
        isinstance(scores, Tensor)
        and scores.ndim == 2
        and scores.shape[:1] == tokens.shape
        and scores.shape[1] > 0
        and scores.is_floating_point()
    )


def _check_masked(before: Tensor, after: Any, processor: Processor) -> None:
    """Refuse the result of a processor that does more than mask tokens."""
    name = _name(processor)
    if not isinstance(after, Tensor) or after.shape != before.shape:
        result = tuple(after.shape) if isinstance(after, Tensor) else describe(after)
        raise InputError(
            "processors must return log-probabilities of the shape that they receive",
            got=f"{name} returned {result} for {tuple(before.shape)}",
        )
    is_wrong = ~((after == before) | (after <= MASKED) | before.isnan())
    if is_wrong.any():
        row, token = is_wrong.nonzero()[0].tolist()
        old = before[row, token]
        new = after[row, token]
        raise InputError(
            "processors must only mask: "
            "set log-probabilities to -inf and leave the others unchanged",
            got=f"{name} made {old:.4g} into {new:.4g} at row {row}, token {token}",
            cause="it renormalises or adds a bonus, which would invalidate certificates",
            cure="only mask, and express preferences by the score (WordReward, LengthNormalized)",
        )
