"""The step protocol: a problem is one step of a model, its state, and the tokens to start from.

A step function takes the last token of ``N`` hypotheses and their state. It returns the scores of
all ``M`` next tokens, and the new state. Searches know nothing else of a model, so that the same
code searches a table, a recurrent network and a transformer.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from leadline.checks import shown
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


def check_start(start: Any) -> None:
    """Refuse start tokens of another type or shape."""
    is_vector = isinstance(start, Tensor) and start.dtype == torch.int64 and start.ndim == 1
    if not is_vector or len(start) == 0:
        raise InputError(
            "start must hold the last token of each prompt: shape (B,), int64, B at least 1",
            got=f"start is {describe(start)}",
            cure="start = torch.tensor([token, ...])",
        )


def describe(value: Any) -> str:
    """Return the type of a value, or the shape and type of a tensor, for an error."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"
