"""Marks of states in loops that were written by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from leadline import checks
from leadline.errors import InputError
from leadline.gradients.tracing._loops import Loops
from leadline.torch_internals import is_functorch_tensor

_ACTIVE: ContextVar[tuple[Loops, ...]] = ContextVar("loops", default=())

_EVERYWHERE: set[Loops] = set()
"""Those that listen in any thread."""

_is_listening = False
"""True while anything listens in any thread."""


def record(h: Tensor, name: str = "state") -> Tensor:
    """Mark a state of a loop that was written by hand: ``h = gradients.record(h)``, as soon as it is computed.

    Outside :func:`leadline.gradients.trace` this is the identity. Inside, it returns a copy of ``h``. States follow one
    another where each is computed from the one before. A state that is computed from none, or from the joined states of
    a finished loop, begins a new loop: a second forward pass inside the block, or a layer above.
    ``torch.nn.RNNCell``, ``LSTMCell`` and ``GRUCell`` are recorded without being marked. Mark h and c of an LSTM as two
    states: ``h, c = record(h, 'h'), record(c, 'c')``.

    Args:
        h: the state, shape (B, ...): the batch first; or (H,), a single vector.
        name: the name in the flow, behind the path of the module whose ``forward`` records the state. Two loops inside
            one ``forward`` need two names where one reads the states of the other step by step.

    Returns:
        The state to go on with, of equal values.

    Raises:
        InputError: ``h`` is not a tensor of real numbers with a batch, its shape has changed within the loop, or two
            loops share a name.

    >>> import torch
    >>> from leadline import gradients
    >>> class Leaky(torch.nn.Module):
    ...     def forward(self, x):
    ...         h = torch.zeros_like(x[0])
    ...         for x_t in x:
    ...             h = gradients.record(0.5 * h + x_t)
    ...         return h
    >>> model = Leaky()
    >>> with gradients.trace(model) as tape:
    ...     loss = model(torch.ones(4, 2, 1, requires_grad=True)).sum()
    >>> tape.gradient_flow(loss).layers[0].total[0]
    array([0.125, 0.25 , 0.5  , 1.   ])
    """
    if (
        not isinstance(h, Tensor)
        or not h.is_floating_point()
        or h.dim() == 0
        or h.layout is not torch.strided
    ):
        is_pair = isinstance(h, (tuple, list))
        raise InputError(
            "record() needs a state: a dense tensor of real numbers, of shape (batch, ...)",
            got=f"h = {checks.shown(h)}",
            cause="a pair (h, c)" if is_pair else None,
            cure="record each part: h, c = record(h, 'h'), record(c, 'c')" if is_pair else None,
        )
    if not isinstance(name, str) or not name:  # checked here, as a loop calls this in every step
        checks.text(name, "name", least=1)
    if not _is_listening:  # checked first, as a compiler can follow it
        return h
    if torch.compiler.is_compiling() or is_functorch_tensor(h):
        raise InputError(
            "record() marks states of an ordinary Python loop inside trace()",
            got="a state inside torch.scan, torch.compile or torch.func",
            cause="these run the step on placeholders, which have no gradient to read",
            cure="run the loop in Python inside the block: for x_t in x: h = gradients.record(step(h, x_t))",
        )
    active = _ACTIVE.get()
    if not active:
        _note_elsewhere()
    for loops in active:
        h = loops.mark(name, h)
    return h


def _note_elsewhere() -> None:
    """Tell the loops that listen in other threads that a state was marked in this one."""
    for loops in tuple(_EVERYWHERE):
        loops.is_marked_elsewhere = True


@contextmanager
def listening(loops: Loops) -> Iterator[None]:
    """Inside the block, what is marked goes to ``loops``."""
    global _is_listening
    token = _ACTIVE.set((*_ACTIVE.get(), loops))
    _EVERYWHERE.add(loops)
    _is_listening = True
    try:
        yield
    finally:
        _EVERYWHERE.discard(loops)
        _is_listening = bool(_EVERYWHERE)
        _ACTIVE.reset(token)
