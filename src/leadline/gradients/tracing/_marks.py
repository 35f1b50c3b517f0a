"""The function with which a hand-written loop marks its states."""

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
"""The recorders that are active in any thread."""

_is_listening = False
"""True if a recorder is active in any thread."""


def record(h: Tensor, name: str = "state") -> Tensor:
    """Mark a state of a hand-written loop as soon as it is computed: ``h = gradients.record(h)``.

    Outside :func:`leadline.gradients.trace` this is the identity. Inside, it returns a copy of
    ``h``. A state that is computed from the last state of a loop continues this loop. Other states
    begin a new loop, for example in a second forward pass, or in a layer above.
    ``torch.nn.RNNCell``, ``LSTMCell`` and ``GRUCell`` are recorded without marks. Mark h and c of
    an LSTM as two states: ``h = record(h, 'h')`` and ``c = record(c, 'c')``.

    Args:
        h: the state, shape (B, ...), or (H,) for a single sample.
        name: the name in the results, after the path of the module whose ``forward`` records the
            state. Use two names for two loops in one ``forward`` if one reads the states of the
            other step by step.

    Returns:
        The state to continue with, of equal values.

    Raises:
        InputError: ``h`` is not a dense tensor of real numbers, its shape has changed within the
            loop, or two loops share a name.

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
            cure="record each part: h = record(h, 'h'); c = record(c, 'c')" if is_pair else None,
        )
    # A loop calls this in every step, so a valid name takes no function call.
    if not isinstance(name, str) or not name:
        checks.text(name, "name", least=1)
    # A compiler can follow this check, but not the ones below.
    if not _is_listening:
        return h
    if torch.compiler.is_compiling() or is_functorch_tensor(h):
        raise InputError(
            "record() needs a loop in ordinary Python",
            got="a state inside torch.scan, torch.compile or torch.func",
            cause="these run the step on placeholders, which have no gradient",
            cure="run the loop in Python inside the block: for x_t in x: h = "
            "gradients.record(step(h, x_t))",
        )
    active = _ACTIVE.get()
    if not active:
        _note_in_other_threads()
    for loops in active:
        h = loops.mark(name, h)
    return h


def _note_in_other_threads() -> None:
    """Inform the recorders of other threads that this thread has marked a state."""
    for loops in tuple(_EVERYWHERE):
        loops.is_marked_elsewhere = True


@contextmanager
def listening(loops: Loops) -> Iterator[None]:
    """Record the states that are marked inside the block in ``loops``."""
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
