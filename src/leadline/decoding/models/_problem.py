"""What a search needs to know of a model: one step, its state, and where to start.

A step function takes the last token of ``N`` hypotheses and their state, and returns scores of all ``M`` next tokens
and the new state. Nothing else of a model is known here, so that a table, a recurrent network and a transformer are
searched by the same code.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from leadline.checks import shown
from leadline.decoding.search._candidates import MASKED
from leadline.decoding.search._work import Meter
from leadline.errors import InputError

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""``step(tokens (N,), state) -> (scores (N, M), state)``. Scores are logits, or log-probabilities where the attribute
``step.normalized`` is true. A score of ``-inf``, or of less than -50,000, masks a token. ``step.vocabulary``, if there,
names the tokens; ``step.eos`` is a tuple of the model's end tokens, and a search that is given none says so. Where
``step.inference`` is ``True``, beam search calls it in torch's inference mode, which is faster; nothing that it leaves
behind can then be trained. The state that is passed in may be changed: do not use it again after the call."""

_AS_IT_IS = nullcontext()

UNEVEN = 0.02
"""How far the probabilities of a row may be from a sum of 1: more than the rounding of 16-bit log-probabilities."""


class Problem(NamedTuple):
    """A model at the end of its prompts: every search is called as ``search(*problem, ...)``.

    The state is copied before the first step, so that one problem can be searched many times.
    """

    step: Step
    state: Any
    """A pytree (dictionaries, lists, tuples) of tensors with leading dimension B; leaves in :class:`Shared` are common
    to all rows; other leaves have ``select(index)``, and ``concat(states)`` on their class for exact search. They may
    have ``reorder(index) -> (leaf, bytes written)``, which may change them in place, and ``nbytes``."""
    start: Tensor
    """The last token of each prompt, shape (B,), int64."""


@dataclass(frozen=True, eq=False)
class Shared:
    """A leaf of the state that all rows have in common: it is neither expanded nor reordered."""

    value: Any


def select(state: Any, index: Tensor) -> Any:
    """A copy of the given rows of a state.

    Args:
        state: any state, N rows.
        index: rows to take, shape (N',), int64; repeats allowed.

    >>> select({"h": torch.tensor([[1.0], [2.0]]), "encoder": Shared("same")}, torch.tensor([1, 1]))["h"].tolist()
    [[2.0], [2.0]]
    """
    return _map(lambda leaf: _select_leaf(leaf, index), state)


def concat(states: list[Any]) -> Any:
    """One state whose rows are those of all ``states``, in order; shared leaves are taken from the first.

    >>> concat([(torch.zeros(1, 2),), (torch.ones(2, 2),)])[0].shape
    torch.Size([3, 2])
    """
    return states[0] if len(states) == 1 else _map(_concat_leaves, *states)


def nbytes(state: Any) -> int:
    """Bytes that the rows of a state occupy, shared leaves left out; what copying all rows once would write."""
    total = 0
    for _, leaf in leaves(state):
        if isinstance(leaf, Tensor):
            total += leaf.numel() * leaf.element_size()
        elif not isinstance(leaf, Shared):
            total += int(getattr(leaf, "nbytes", 0))
    return total


def as_tensor(numbers: list[int], like: Tensor) -> Tensor:
    """Whole numbers as a tensor where another is, in half the time of ``torch.tensor``."""
    tensor = torch.from_numpy(np.array(numbers))
    return tensor if like.is_cpu else tensor.to(like.device)


def leaves(state: Any, path: str = "state") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path, as in ``state['h'][0]``."""
    if isinstance(state, dict):
        for key, inner in state.items():
            yield from leaves(inner, f"{path}[{key!r}]")
    elif isinstance(state, (list, tuple)):
        for i, inner in enumerate(state):
            yield from leaves(inner, f"{path}[{i}]")
    else:
        yield path, state


def ask(step: Step, tokens: Tensor, state: Any) -> tuple[Any, Any]:
    """What a step function answers, once it is sure that it is a pair. The tokens that it is given are its own."""
    try:
        answer: Any = step(tokens.clone(), state)
    except TypeError:
        if takes_two(step):
            raise
        raise InputError(
            "a problem's step is a function: step(tokens, state) -> (scores, state)",
            got=f"step = {shown(step)}",
            cause="the problem was not taken apart, or the step function takes other arguments",
            cure="search(*problem, ...)",
        ) from None
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise InputError(
            "a step returns a pair: scores, and the state after it",
            got=f"{len(answer)} values" if isinstance(answer, (tuple, list)) else describe(answer),
            cure="return scores, state",
        )
    return answer[0], answer[1]


def takes_two(step: Any) -> bool:
    """True if a function can be called with two arguments, as step functions and processors are."""
    if not callable(step) or isinstance(step, type):
        return False
    try:
        inspect.signature(getattr(step, "forward", step)).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def refuse_state(owner: str, state: Any) -> None:
    """Refuse a state that a step function of Leadline did not make.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"the state of a {owner} is the one that its problem holds",
        got=f"state = {shown(state)}",
        cure="search(*problem, ...)",
    )


class Model:
    """A step function under watch: its answers are checked, its work is counted, gradients are off.

    Args:
        problem: the step function with its state and start tokens; checked here.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.

    Raises:
        InputError: start tokens or state do not fit, or the step function breaks its contract.
    """

    def __init__(self, problem: Problem, normalize: bool | None = None):
        self.step, state, self.start = problem
        self.problem = problem
        check_start(self.start)
        self.batch = len(self.start)
        _check_state(state, self.batch)
        self.state = select(state, torch.arange(self.batch, device=self.start.device))
        self.are_logits = (
            not getattr(self.step, "normalized", False) if normalize is None else normalize
        )
        self.meter = Meter()
        self.M: int | None = None
        self.uneven = ""
        """The first row of log-probabilities that was seen not to sum to 1, in words."""

    def __call__(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Scores (N, M), float32 or wider, and the new state."""
        rows = tokens.shape[0]
        with torch.no_grad() if torch.is_grad_enabled() else _AS_IT_IS:
            scores, state = ask(self.step, tokens, state)
        self._check_scores(scores, rows)
        _check_state(state, rows)
        self.meter.called(rows, scores.shape[1])
        scores = scores.detach() if scores.requires_grad else scores
        scores = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
        if (
            not self.are_logits
            and not self.meter.calls & (self.meter.calls - 1)
            and not self.uneven
        ):
            self._check_sums(scores)
        return scores, state

    def _check_sums(self, scores: Tensor) -> None:
        """Note a row that does not sum to 1. Calls 1, 2, 4, 8 and so on are looked at: a sum costs a pass."""
        if getattr(self.step, "sums_are_given", False):
            return
        sums = scores.exp().sum(dim=1)
        is_wrong = sums > 1 + UNEVEN
        is_low = sums < 1 - UNEVEN
        if is_low.any():  # a row with masked tokens rightly sums to less
            is_wrong |= is_low & (scores.amin(dim=1) > MASKED)
        if is_wrong.any():
            total = float(sums[is_wrong][0])
            self.uneven = f"the step function's rows are not log-probabilities (the probabilities of one sum to {total:.3g})"

    def without_gradients(self) -> AbstractContextManager[Any]:
        """What many calls are made in: inference mode, if the step function asks for it. To enter it for each of them
        would take longer than to check their answers."""
        return (
            torch.inference_mode()
            if getattr(self.step, "inference", None) is True
            else torch.no_grad()
        )

    def select(self, state: Any, index: Tensor) -> Any:
        """A copy of some rows of a state, counted as bytes moved."""
        state = select(state, index)
        self.meter.state_bytes += nbytes(state)
        return state

    def reorder(self, state: Any, index: list[int]) -> Any:
        """The same for a state that is not needed any more: one that can, changes its rows in place."""

        def rows(leaf: Any) -> Any:
            if not hasattr(leaf, "reorder"):
                return self.select(leaf, as_tensor(index, self.start))
            leaf, written = leaf.reorder(index)
            self.meter.state_bytes += written
            return leaf

        return _map(rows, state)

    def names(self, tokens: Any) -> dict[int, str]:
        """The vocabulary's words for the given tokens, where the step function has a vocabulary."""
        vocabulary = getattr(self.step, "vocabulary", None)
        if vocabulary is None:
            return {}
        return {int(token): str(vocabulary[int(token)]) for token in tokens}

    def _check_scores(self, scores: Tensor, rows: int) -> None:
        if not isinstance(scores, Tensor) or scores.ndim != 2 or not scores.is_floating_point():
            raise InputError(
                "a step returns scores of shape (N, M), floating point",
                got=describe(scores),
                cause="the time axis was kept, or the state and the scores were swapped",
                cure="return (scores[:, -1], state)",
            )
        if scores.layout is not torch.strided or scores.is_meta:
            raise InputError(
                "a step returns scores that hold their numbers one by one",
                got="scores on the meta device"
                if scores.is_meta
                else f"scores of layout {scores.layout}",
                cure="build the model on a device that computes"
                if scores.is_meta
                else "return (scores.to_dense(), state)",
            )
        if scores.shape[0] != rows:
            raise InputError(
                "a step returns one row of scores per token that it was given",
                got=f"{len(scores)} rows for {rows} tokens, at call {self.meter.calls + 1}",
                cause="the step function remembers the batch size of an earlier call",
                cure="take the number of rows from the tokens at every call",
            )
        if not scores.shape[1]:
            raise InputError(
                "a vocabulary has a token or more", got=f"scores of shape {tuple(scores.shape)}"
            )
        if self.M is not None and scores.shape[1] != self.M:
            raise InputError(
                "the vocabulary has the same size at every step",
                got=f"M = {scores.shape[1]} at call {self.meter.calls + 1}, M = {self.M} before",
                cure="mask tokens that are not allowed with -inf, or with a processor, and keep M",
            )
        self.M = scores.shape[1]


def _map(function: Callable[..., Any], state: Any, *others: Any) -> Any:
    if isinstance(state, dict):
        return {
            key: _map(function, inner, *(other[key] for other in others))
            for key, inner in state.items()
        }
    if isinstance(state, (list, tuple)):
        parts = [_map(function, *inner) for inner in zip(state, *others, strict=True)]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return function(state, *others)


def _select_leaf(leaf: Any, index: Tensor) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.index_select(0, index)
    return leaf.select(index) if hasattr(leaf, "select") else leaf


def _concat_leaves(*parts: Any) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if hasattr(first, "concat"):
        return type(first).concat(list(parts))
    if hasattr(first, "select"):
        raise InputError(
            "exact search joins states of several hypotheses",
            got=f"a state of type {type(first).__name__}, which has no concat",
            cure="add a classmethod concat(states) beside select(index)",
        )
    return first


def check_start(start: Any) -> None:
    """Refuse start tokens that are none."""
    if (
        not isinstance(start, Tensor)
        or start.dtype != torch.int64
        or start.ndim != 1
        or len(start) == 0
    ):
        raise InputError(
            "start holds the last token of each prompt: shape (B,), int64, B at least 1",
            got=f"start is {describe(start)}",
            cure="start = torch.tensor([token, ...])",
        )


def _check_state(state: Any, rows: int) -> None:
    for path, leaf in leaves(state):
        if isinstance(leaf, Tensor):
            if leaf.ndim == 0 or len(leaf) != rows:
                raise InputError(
                    f"every leaf of the state has leading dimension {rows}, the number of rows",
                    got=f"{path} has shape {tuple(leaf.shape)}",
                    cause="torch's recurrent layers keep the layer first: (layers, N, H)",
                    cure="transpose it to (N, layers, H), or wrap what all rows have in common in decoding.Shared",
                )
        elif not (isinstance(leaf, (Shared, int, float, str, type(None))) or _can_select(leaf)):
            raise InputError(
                "a leaf of the state is a tensor, decoding.Shared, or an object with select(index)",
                got=f"{path} is a {type(leaf).__name__}",
                cure="wrap it in decoding.Shared if all rows have it in common",
            )


def _can_select(leaf: Any) -> bool:
    """True if a leaf has ``select(index)``; that of a data frame chooses columns."""
    return hasattr(leaf, "select") and type(leaf).__module__.partition(".")[0] not in (
        "pandas",
        "polars",
    )


def describe(value: Any) -> str:
    """What a value is, for a message."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"
