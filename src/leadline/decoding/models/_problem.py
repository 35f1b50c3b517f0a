"""The step protocol: a problem is one step of a model, its state, and the tokens to start from.

A step function takes the last token of ``N`` hypotheses and their state. It returns the scores of
all ``M`` next tokens, and the new state. Searches know nothing else of a model, so that the same
code searches a table, a recurrent network and a transformer.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from leadline.checks import shown
from leadline.decoding.search._candidates import MASKED
from leadline.decoding.search._work import Meter
from leadline.errors import InputError

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""``step(tokens (N,), state) -> (scores (N, M), state)``.

Scores are logits, or log-probabilities if ``step.normalized`` is true. A score of ``-inf``, or of
less than -50,000, masks a token. A step function may change the state that it receives; do not use
a state again after passing it to a step.

Optional attributes: ``step.vocabulary`` holds the names of the tokens. ``step.eos`` is a tuple of
the model's end tokens; a search without ``eos`` notes that it ignores them. If ``step.inference``
is ``True``, searches call the step in torch's inference mode. This is faster, and its results
cannot be used in training."""

_NO_CONTEXT = nullcontext()

UNEVEN = 0.02
"""Largest allowed distance between 1 and the sum of a row's probabilities. It is more than the
rounding of 16-bit log-probabilities."""


class Problem(NamedTuple):
    """A model at the end of its prompts; every search is called as ``search(*problem, ...)``.

    A search copies the state before the first step, so that a problem can be searched many times.
    """

    step: Step
    state: Any
    """A pytree (dictionaries, lists, tuples) of tensors with leading dimension B.

    Wrap a leaf that all rows share in :class:`Shared`. Any other leaf needs a method
    ``select(index)``, and for exact search a class method ``concat(states)``. Optional are
    ``nbytes`` and ``reorder(index) -> (leaf, bytes written)``, which may change the leaf in
    place."""
    start: Tensor
    """The last token of each prompt, shape (B,), int64."""


@dataclass(frozen=True, eq=False)
class Shared:
    """A leaf of the state that all rows share; a search neither copies nor reorders it."""

    value: Any


def select(state: Any, index: Tensor) -> Any:
    """Return a copy of some rows of a state.

    Args:
        state: a state of N rows.
        index: the rows to copy, shape (N',), int64; repeats are allowed.

    >>> state = {"h": torch.tensor([[1.0], [2.0]]), "encoder": Shared("same")}
    >>> select(state, torch.tensor([1, 1]))["h"].tolist()
    [[2.0], [2.0]]
    """
    return _map(lambda leaf: _select_leaf(leaf, index), state)


def concat(states: list[Any]) -> Any:
    """Return one state with the rows of all states, and the shared leaves of the first.

    >>> concat([(torch.zeros(1, 2),), (torch.ones(2, 2),)])[0].shape
    torch.Size([3, 2])
    """
    if len(states) == 1:
        return states[0]
    return _map(_concat_leaves, *states)


def nbytes(state: Any) -> int:
    """Return the bytes that copying all rows of a state would write; shared leaves do not count."""
    total = 0
    for _, leaf in leaves(state):
        if isinstance(leaf, Tensor):
            total += leaf.numel() * leaf.element_size()
        elif not isinstance(leaf, Shared):
            total += int(getattr(leaf, "nbytes", 0))
    return total


def as_tensor(numbers: list[int], like: Tensor) -> Tensor:
    """Return whole numbers as an int64 tensor on the device of ``like``.

    This takes half the time of ``torch.tensor``.
    """
    tensor = torch.from_numpy(np.array(numbers))
    return tensor if like.is_cpu else tensor.to(like.device)


def leaves(state: Any, path: str = "state") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every leaf; a path reads like ``state['h'][0]``."""
    if isinstance(state, dict):
        for key, inner in state.items():
            yield from leaves(inner, f"{path}[{key!r}]")
    elif isinstance(state, (list, tuple)):
        for i, inner in enumerate(state):
            yield from leaves(inner, f"{path}[{i}]")
    else:
        yield path, state


def call_step(step: Step, tokens: Tensor, state: Any) -> tuple[Any, Any]:
    """Call a step function with its own copy of the tokens, and return its scores and new state.

    Raises:
        InputError: ``step`` is not a function of two arguments, or does not return a pair.
    """
    try:
        result: Any = step(tokens.clone(), state)
    except TypeError:
        if takes_two(step):
            raise
        raise InputError(
            "step must be a function: step(tokens, state) -> (scores, state)",
            got=f"step = {shown(step)}",
            cause="the problem was not unpacked, or the function takes other arguments",
            cure="beam_search(*problem, ...)",
        ) from None
    is_sequence = isinstance(result, (tuple, list))
    if not is_sequence or len(result) != 2:
        raise InputError(
            "step must return a pair: scores, and the new state",
            got=f"{len(result)} values" if is_sequence else describe(result),
            cure="return scores, state",
        )
    return result[0], result[1]


def takes_two(step: Any) -> bool:
    """True if an object can be called with two arguments, as a step function or a processor is."""
    if not callable(step) or isinstance(step, type):
        return False
    try:
        inspect.signature(getattr(step, "forward", step)).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def refuse_state(owner: str, state: Any) -> NoReturn:
    """Refuse a state that belongs to another step function.

    Args:
        owner: the class or function that made the step function.
        state: the state.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"state must come from the same problem as {owner}",
        got=f"state = {shown(state)}",
        cure="beam_search(*problem, ...)",
    )


class Model:
    """A step function with checked results and counted work; it runs without gradients.

    Args:
        problem: the step function with its state and start tokens.
        normalize: True if scores are logits; ``None`` follows ``step.normalized``.

    Raises:
        InputError: the start tokens or the state do not fit. A call raises it if the step function
            breaks the protocol.
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
        """A note on the first row of log-probabilities that did not sum to 1; empty if none."""

    def __call__(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return scores of shape (N, M), float32 or float64, and the new state."""
        rows = tokens.shape[0]
        with torch.no_grad() if torch.is_grad_enabled() else _NO_CONTEXT:
            scores, state = call_step(self.step, tokens, state)
        self._check_scores(scores, rows)
        _check_state(state, rows)
        self.meter.called(rows, scores.shape[1])
        if scores.requires_grad:
            scores = scores.detach()
        if scores.dtype not in (torch.float32, torch.float64):
            scores = scores.float()
        if not self.are_logits and not self.uneven:
            # Summing a row costs a pass over it, so only calls 1, 2, 4, 8 and so on are checked.
            is_power_of_two = not self.meter.calls & (self.meter.calls - 1)
            if is_power_of_two:
                self._check_sums(scores)
        return scores, state

    def _check_sums(self, scores: Tensor) -> None:
        """Note a row of log-probabilities whose probabilities do not sum to 1."""
        if getattr(self.step, "sums_are_given", False):
            return
        sums = scores.exp().sum(dim=1)
        is_wrong = sums > 1 + UNEVEN
        is_low = sums < 1 - UNEVEN
        if is_low.any():
            # A row with masked tokens may sum to less than 1.
            is_wrong |= is_low & (scores.amin(dim=1) > MASKED)
        if is_wrong.any():
            total = float(sums[is_wrong][0])
            self.uneven = (
                "the step function's rows are not log-probabilities "
                f"(the probabilities of one sum to {total:.3g})"
            )

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Return a context for many calls: inference mode if the step function allows it.

        Entering a context once for each call would take longer than checking the result.
        """
        if getattr(self.step, "inference", None) is True:
            return torch.inference_mode()
        return torch.no_grad()

    def select(self, state: Any, index: Tensor) -> Any:
        """Return a copy of some rows of a state, and count the bytes moved."""
        state = select(state, index)
        self.meter.state_bytes += nbytes(state)
        return state

    def reorder(self, state: Any, index: list[int]) -> Any:
        """Return some rows of a state that is not used again; leaves may be changed in place."""

        def reordered(leaf: Any) -> Any:
            if not hasattr(leaf, "reorder"):
                return self.select(leaf, as_tensor(index, self.start))
            leaf, written = leaf.reorder(index)
            self.meter.state_bytes += written
            return leaf

        return _map(reordered, state)

    def names(self, tokens: Any) -> dict[int, str]:
        """Return the names of tokens; empty if the step function has no vocabulary."""
        vocabulary = getattr(self.step, "vocabulary", None)
        if vocabulary is None:
            return {}
        return {int(token): str(vocabulary[int(token)]) for token in tokens}

    def _check_scores(self, scores: Tensor, rows: int) -> None:
        if not isinstance(scores, Tensor) or scores.ndim != 2 or not scores.is_floating_point():
            raise InputError(
                "step must return scores of shape (N, M), floating point",
                got=describe(scores),
                cause="the time axis was kept, or the state and the scores were swapped",
                cure="return (scores[:, -1], state)",
            )
        if scores.is_meta:
            raise InputError(
                "step must return scores that hold numbers",
                got="scores on the meta device",
                cure="build the model on a device that computes",
            )
        if scores.layout is not torch.strided:
            raise InputError(
                "step must return dense scores",
                got=f"scores of layout {scores.layout}",
                cure="return (scores.to_dense(), state)",
            )
        call = self.meter.calls + 1
        if scores.shape[0] != rows:
            raise InputError(
                "step must return one row of scores for each token that it receives",
                got=f"{len(scores)} rows for {rows} tokens, at call {call}",
                cause="the step function keeps the batch size of an earlier call",
                cure="take the number of rows from the tokens at every call",
            )
        if not scores.shape[1]:
            raise InputError(
                "step must return the scores of a token or more",
                got=f"scores of shape {tuple(scores.shape)}",
            )
        if self.M is not None and scores.shape[1] != self.M:
            raise InputError(
                "step must return scores of the same vocabulary size at every call",
                got=f"M = {scores.shape[1]} at call {call}, M = {self.M} before",
                cure="mask forbidden tokens with -inf or with a processor, and keep M",
            )
        self.M = scores.shape[1]


def _map(function: Callable[..., Any], state: Any, *others: Any) -> Any:
    """Apply a function to the corresponding leaves of states, and return a state of the results."""
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
            "exact_search() needs states that can be joined",
            got=f"a state of type {type(first).__name__}, which has no concat",
            cure="add a class method concat(states) in addition to select(index)",
        )
    return first


def check_start(start: Any) -> None:
    """Refuse start tokens of another type or shape."""
    is_vector = isinstance(start, Tensor) and start.dtype == torch.int64 and start.ndim == 1
    if not is_vector or len(start) == 0:
        raise InputError(
            "start must hold the last token of each prompt: shape (B,), int64, B at least 1",
            got=f"start is {describe(start)}",
            cure="start = torch.tensor([token, ...])",
        )


def _check_state(state: Any, rows: int) -> None:
    """Refuse a state whose leaves do not hold one entry for each row."""
    for path, leaf in leaves(state):
        if isinstance(leaf, Tensor):
            if leaf.ndim == 0 or len(leaf) != rows:
                raise InputError(
                    f"each tensor of the state must have leading dimension {rows}, "
                    "the number of rows",
                    got=f"{path} has shape {tuple(leaf.shape)}",
                    cause="torch's recurrent layers keep the layer first: (layers, N, H)",
                    cure="transpose it to (N, layers, H), "
                    "or wrap a tensor that all rows share in decoding.Shared",
                )
        elif not (isinstance(leaf, (Shared, int, float, str, type(None))) or _can_select(leaf)):
            raise InputError(
                "each leaf of the state must be a tensor, decoding.Shared, "
                "or an object with select(index)",
                got=f"{path} is a {type(leaf).__name__}",
                cure="wrap it in decoding.Shared if all rows share it",
            )


def _can_select(leaf: Any) -> bool:
    """True if a leaf has ``select(index)`` for rows; ``select`` of a data frame chooses columns."""
    package = type(leaf).__module__.partition(".")[0]
    return hasattr(leaf, "select") and package not in ("pandas", "polars")


def describe(value: Any) -> str:
    """Return the type of a value, or the shape and type of a tensor, for an error."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"
