"""Masks over the next tokens: what a sequence must or must not be.

A processor is called with log-probabilities (N, M) and the new tokens so far (N, t), and returns the log-probabilities
with some of them set to ``-inf``. It masks and never renormalises: what remains keeps its log-probability, so that
certificates stay valid. :func:`constrain` puts processors between a model and any search.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline.checks import function, items, shown, whole_numbers
from leadline.decoding.models._problem import (
    Problem,
    Step,
    ask,
    check_start,
    refuse_state,
    takes_two,
)
from leadline.decoding.search._candidates import MASKED, Reader
from leadline.decoding.search._settings import LARGEST, EndTokens, end_tokens, normalization
from leadline.decoding.search._settings import length as length_of
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
    """The same problem with masked tokens, for any search and for an audit.

    Args:
        step: see :data:`~leadline.decoding.models._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        processors: masks, applied in this order.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> problem = constrain(*table.problem(), [forbid([table.token("b")])])
    >>> print(decoding.exact_search(*problem, max_length=2))
    exact search returns “a a” with log-probability -1.30; proved optimal
    """
    check_start(start)
    processors = processor_list(processors)
    normalize = normalization(normalize)
    are_logits = not getattr(step, "normalized", False) if normalize is None else normalize
    prefix = start.new_empty(len(start), 0)
    return Problem(
        _Constrained(step, processors, are_logits), {"model": state, "prefix": prefix}, start
    )


def is_constrained(step: Step) -> bool:
    """Whether a step function stands behind processors."""
    return isinstance(step, _Constrained)


def processor_list(processors: Any) -> tuple[Processor, ...]:
    """Processors as a tuple."""
    cure = "processors=[decoding.forbid([token])]"
    _refuse_hugging_face(processors, "processors")
    if processors is None or callable(processors):
        raise InputError(
            "processors is a sequence of functions",
            got=f"processors = {shown(processors)}",
            cure=cure,
        )
    plain = items(processors, "processors", of="functions")
    for i, one in enumerate(plain):
        if not callable(one):
            raise InputError(
                "processors is a sequence of functions",
                got=f"processors[{i}] = {shown(one)}",
                cure=cure,
            )
        _refuse_hugging_face(one, f"processors[{i}]")
        if not takes_two(one):
            raise InputError(
                "processors are functions of log-probabilities and tokens: (log_probs (N, M), prefix (N, t))",
                got=f"processors[{i}] = {shown(one)}, which takes other arguments",
                cure=cure,
            )
    return plain


def _refuse_hugging_face(processor: Any, name: str) -> None:
    kinds = [kind.__name__ for kind in type(processor).__mro__]
    if "LogitsProcessor" in kinds or "LogitsProcessorList" in kinds:
        raise InputError(
            "processors are functions of log-probabilities and tokens: (log_probs (N, M), prefix (N, t))",
            got=f"{name} is a {kinds[0]} of transformers",
            cause="its arguments are in the opposite order: (input_ids, scores)",
            cure="lambda log_probs, prefix: processor(prefix, log_probs), or forbid, min_length, no_repeat_ngram",
        )


def names_of(processors: Sequence[Processor]) -> tuple[str, ...]:
    """The names of processors.

    >>> names_of([forbid([1]), no_repeat_ngram(2)])
    ('forbid', 'no_repeat_ngram')
    """
    return tuple(_name(one) for one in processors)


def _name(processor: Processor) -> str:
    if (
        getattr(processor, "__module__", None) == __name__
    ):  # what forbid([1]) returns is called forbid
        return processor.__qualname__.partition(".")[0]
    return getattr(processor, "__name__", type(processor).__name__)


def forbid(tokens: Iterable[int]) -> Processor:
    """Never these tokens.

    >>> forbid([1])(torch.zeros(1, 3), torch.zeros(1, 0, dtype=torch.int64)).tolist()
    [[0.0, -inf, 0.0]]
    """
    chosen = _index(tokens, "tokens")
    return lambda log_probs, prefix: log_probs.index_fill(
        1, _within(log_probs, chosen, "forbid"), -torch.inf
    )


def min_length(length: int, eos: EndTokens) -> Processor:
    """No end token before the hypothesis has ``length`` tokens, the end token included."""
    length = length_of(length, "length")
    ends = _index(end_tokens(eos), "eos")

    def mask(log_probs: Tensor, prefix: Tensor) -> Tensor:
        if prefix.shape[1] + 1 >= length:
            return log_probs
        return log_probs.index_fill(1, _within(log_probs, ends, "min_length"), -torch.inf)

    return mask


def no_repeat_ngram(n: int) -> Processor:
    """No sequence of ``n`` new tokens occurs twice."""
    n = length_of(n, "n")

    def mask(log_probs: Tensor, prefix: Tensor) -> Tensor:
        if prefix.shape[1] < n:
            return log_probs
        grams = prefix.unfold(1, n, 1)
        last = prefix[:, prefix.shape[1] - n + 1 :].unsqueeze(1)
        row, place = (grams[:, :, :-1] == last).all(dim=2).nonzero().unbind(1)
        return log_probs.index_put((row, grams[row, place, -1]), log_probs.new_tensor(-torch.inf))

    return mask


def allow(rule: Callable[[tuple[int, ...]], Iterable[int]]) -> Processor:
    """Only the tokens that a rule allows after the new tokens so far: a grammar, a list of titles, a trie.

    Args:
        rule: new tokens so far -> a list of the tokens that may come next; an empty one ends the hypothesis.
    """
    rule = function(
        rule, "rule", wanted="a function: new tokens so far -> tokens that may come next"
    )

    def mask(log_probs: Tensor, prefix: Tensor) -> Tensor:
        masked = torch.full_like(log_probs, -torch.inf)
        for row, tokens in enumerate(prefix.tolist()):
            allowed = rule(tuple(tokens))
            chosen = _within(
                log_probs, _index(allowed, "what the rule of allow() returns"), "allow"
            )
            masked[row, chosen] = log_probs[row, chosen]
        return masked

    return mask


def force_prefix(tokens: Sequence[int]) -> Processor:
    """The hypothesis begins with these tokens; their log-probabilities count."""
    forced = whole_numbers(tokens, "tokens", least=-LARGEST, most=LARGEST, at_least=0)

    def mask(log_probs: Tensor, prefix: Tensor) -> Tensor:
        if prefix.shape[1] >= len(forced):
            return log_probs
        token = _within(log_probs, _index([forced[prefix.shape[1]]], "tokens"), "force_prefix")
        masked = torch.full_like(log_probs, -torch.inf)
        masked[:, token] = log_probs[:, token]
        return masked

    return mask


def _index(tokens: Any, name: str) -> Tensor:
    """Tokens, sorted. Any collection will do but a text or a dictionary of other things; a mask is refused."""
    if isinstance(tokens, Iterable) and not isinstance(
        tokens, (str, bytes, torch.Tensor, np.ndarray)
    ):
        tokens = list(tokens)
    try:
        plain = whole_numbers(tokens, name, least=-LARGEST, most=LARGEST, at_least=0)
    except InputError as error:
        is_mask = "bool" in str(getattr(tokens, "dtype", "")) or "True" in (error.got or "")
        cure = "mask.nonzero().flatten() lists the tokens of a mask" if is_mask else error.cure
        raise InputError(error.rule, got=error.got, cure=cure) from None
    return torch.tensor(sorted(set(plain)), dtype=torch.int64)


def _within(log_probs: Tensor, chosen: Tensor, name: str) -> Tensor:
    """Sorted tokens, once it is sure that the vocabulary has them."""
    M = log_probs.shape[1]
    for token in chosen[[0, -1]].tolist() if len(chosen) else ():
        if not 0 <= token < M:
            raise InputError(
                "a processor names tokens of the vocabulary",
                got=f"token {token} in {name}, vocabulary of {M} tokens (0 to {M - 1})",
            )
    return chosen.to(log_probs.device)


class _Constrained:
    """A step function behind its processors."""

    normalized = True

    def __init__(self, step: Step, processors: tuple[Processor, ...], are_logits: bool):
        self.step, self.processors, self.reader = step, processors, Reader(are_logits)
        for name in ("vocabulary", "eos", "ignored", "sums_are_given"):
            if hasattr(step, name):
                setattr(self, name, getattr(step, name))

    def behind(self, state: dict[str, Any]) -> tuple[Step, Any]:
        """The step function behind the processors, and its state."""
        return self.step, state["model"]

    def __call__(self, tokens: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        if not isinstance(state, dict) or set(state) != {"model", "prefix"}:
            refuse_state("constrained problem", state)
        scores, inner = ask(self.step, tokens, state["model"])
        prefix = torch.cat([state["prefix"], tokens.unsqueeze(1)], dim=1)
        is_wrong = (
            not isinstance(scores, Tensor)
            or scores.shape[:1] != tokens.shape
            or not scores.is_floating_point()
        )
        if is_wrong or scores.ndim != 2 or not scores.shape[1]:
            return scores, {"model": inner, "prefix": prefix}  # the search refuses it, by name
        log_probs = self.reader.all(scores if scores.dtype == torch.float64 else scores.float())
        for processor in self.processors:
            # Its own copy, which it may change; of the prefix, the first is the prompt's last token.
            masked = processor(log_probs.clone(), prefix[:, 1:])
            self._check(log_probs, masked, processor)
            log_probs = masked
        return log_probs, {"model": inner, "prefix": prefix}

    @staticmethod
    def _check(before: Tensor, after: Tensor, processor: Processor) -> None:
        name = _name(processor)
        if not isinstance(after, Tensor) or after.shape != before.shape:
            raise InputError(
                "a processor returns log-probabilities of the shape that it was given",
                got=f"{name} returned {tuple(after.shape) if isinstance(after, Tensor) else type(after).__name__}",
            )
        wrong = ~((after == before) | (after <= MASKED) | before.isnan())
        if wrong.any():
            row, token = wrong.nonzero()[0].tolist()
            raise InputError(
                "a processor masks: it sets log-probabilities to -inf and changes no other",
                got=f"{name} made {before[row, token]:.4g} into {after[row, token]:.4g} at row {row}, token {token}",
                cause="it renormalises, or adds a bonus; certificates would not hold",
                cure="mask only, and put preferences into the score (WordReward, LengthNormalized)",
            )
