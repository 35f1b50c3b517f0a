"""Loops written by hand: which of their states follow one another.

Autograd sees every state of such a loop, so that nothing has to be replayed. What reads a state is given a copy of it:
the gradient at the copy is the total.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from leadline.errors import InputError
from leadline.recurrent.replay import computed_in, not_numbers

CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)
"""What is hooked in a loop."""

Cell = nn.RNNCell | nn.LSTMCell | nn.GRUCell
Gradients = Sequence[Tensor | None]


@dataclass(frozen=True, eq=False)
class State:
    """One state: h, and c for the LSTM."""

    made: tuple[Tensor, ...]
    """As the step computed it."""
    shown: tuple[Tensor, ...]
    """The copies that everything else reads."""
    origins: dict["Chain", int]
    """The latest state of each chain that it was computed from, by a way without another state of that chain's name."""
    x: Tensor | None = None
    """A cell's input."""
    before: tuple[Tensor, ...] = ()
    """What a cell was given as the state before; nothing for zeros."""
    versions: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    """What the step was computed in."""


@dataclass(eq=False)
class Chain:
    """States that follow one another."""

    name: str
    number: int
    """0 for the first chain of its name."""
    module: Cell | None
    """``None`` for states that the loop marked itself."""
    states: list[State] = field(default_factory=list)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Everything that a loss can reach the chain through: h_1 … h_T, then c_1 … c_T."""
        return tuple(shown for part in zip(*(state.shown for state in self.states), strict=True) for shown in part)

    @property
    def made(self) -> tuple[Tensor, ...]:
        """The same states as their steps computed them."""
        return tuple(made for part in zip(*(state.made for state in self.states), strict=True) for made in part)

    @property
    def title(self) -> str:
        """The name, and the number if it is not the first."""
        return self.name + (f", loop {self.number + 1}" if self.number else "")

    def naming(self) -> dict[str, Any]:
        """How a layer is told from others."""
        return {"name": self.name, "index": 0, "direction": "forward", "call": self.number}

    def hidden(self) -> Tensor:
        """h_1 … h_T, shape (T, B, H)."""
        return torch.stack([flat(state.shown[0].detach()) for state in self.states])

    def rows(self, gradients: Gradients, part: int = 0) -> Tensor:
        """The gradients of one part of the states, shape (T, B, H)."""
        time = len(self.states)
        own = zip(gradients[part * time : (part + 1) * time], self.states, strict=True)
        return torch.stack([flat(torch.zeros_like(state.made[part]) if g is None else g) for g, state in own])

    def check(self, may_be_nan: bool = False) -> None:
        """Refuse states that were changed since, and those that are not numbers."""
        for t, state in enumerate(self.states, 1):
            versions = tuple(shown._version for shown in state.shown)
            if versions != state.versions or not all(shown.requires_grad for shown in state.shown):
                raise InputError(
                    "a recorded state must be as it was when it was recorded",
                    got=f"{self.title}: the state of timestep {t} was changed in place",
                    cause="an operation whose name ends in an underscore, such as relu_ or detach_",
                    cure="use the one without it: h = h.detach()",
                )
        hidden = self.hidden()
        bad = hidden.isnan().any(-1)
        if not may_be_nan and bool(bad.any()):
            raise not_numbers(self.title, hidden, bad)


def check_loops(calls: Sequence[Any]) -> None:
    """Refuse what :meth:`Chain.check` refuses, and marked states none of which was computed from another."""
    chains = [call for call in calls if isinstance(call, Chain)]
    for chain in chains:
        chain.check()
    lengths: dict[str, list[int]] = {}
    for chain in chains:
        if chain.module is None:
            lengths.setdefault(chain.name, []).append(len(chain.states))
    for name, found in lengths.items():
        if len(found) > 1 and max(found) == 1:
            raise InputError(
                "a loop goes on with what record returned",
                got=f"{len(found)} states {name!r}, none of them computed from another",
                cause="recurrent.record(h) without h =, a state detached in every step, or a tensor beside the loop",
                cure="h = recurrent.record(h), before the state is read",
            )


class Loops:
    """Records the states of loops while they are made.

    Args:
        calls: where chains are added as they begin.
        watch: is given every copy that is shown.
    """

    def __init__(self, calls: list[Any], watch: Callable[[Tensor], object]):
        self.calls, self.watch = calls, watch
        self.is_without_graph = False
        """Whether a state was met that has no gradient."""
        self._known: dict[Any, tuple[Chain, int]] = {}
        self._barren: set[Any] = set()
        self._numbers: Counter[str] = Counter()

    def mark(self, name: str, h: Tensor) -> Tensor:
        """A state of a loop that marks its own."""
        if not h.requires_grad:
            self.is_without_graph = True
            return h
        origins = self._origins([h])
        chain = self._continued(name, origins, is_cell=False) or self._begin(name, None)
        return self._append(chain, (h,), origins)[0]

    def cell(self, name: str, module: Cell, given: dict[str, Any], returned: Any) -> Any:
        """The state that a call of a cell makes."""
        made = returned if isinstance(returned, tuple) else (returned,)
        if not made[0].requires_grad:
            self.is_without_graph = True
            return returned
        hx = given.get("hx")
        before = () if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
        chain = self._continued(name, self._origins(before), is_cell=True) or self._begin(name, module)
        detached = {"x": given["input"].detach(), "before": tuple(part.detach() for part in before)}
        shown = self._append(chain, made, self._origins(made), **detached)
        return shown if isinstance(returned, tuple) else shown[0]

    def _begin(self, name: str, module: Cell | None) -> Chain:
        chain = Chain(name, self._numbers[name], module)
        self._numbers[name] += 1
        self.calls.append(chain)
        return chain

    def _append(
        self, chain: Chain, made: tuple[Tensor, ...], origins: dict[Chain, int], **more: Any
    ) -> tuple[Tensor, ...]:
        if chain.states and chain.states[-1].made[0].shape != made[0].shape:
            raise InputError(
                "the states of one loop have one shape",
                got=f"{chain.title}, timestep {len(chain.states) + 1}: {tuple(made[0].shape)} after "
                f"{tuple(chain.states[-1].made[0].shape)}",
                cause="sequences that leave the batch when they end, or loops of different widths under one name",
                cure="keep the batch whole and mask what has ended; name each loop: recurrent.record(h, 'upper')",
            )
        shown = tuple(part.clone() for part in made)
        versions = tuple(part._version for part in shown)
        chain.states.append(State(made, shown, origins, versions=versions, dtype=computed_in(made[0]), **more))
        for part in shown:
            self._known[part.grad_fn] = (chain, len(chain.states) - 1)
            self.watch(part)
        return shown

    def _origins(self, tensors: Sequence[Tensor]) -> dict[Chain, int]:
        """See :class:`State`. The graph is walked to the nearest states only; what lies behind them is known."""
        seen: set[Any] = set()
        found: dict[Chain, int] = {}
        open_nodes: list[Any] = [tensor.grad_fn for tensor in tensors]
        while open_nodes:
            node = open_nodes.pop()
            if node is None or node in seen or node in self._barren:
                continue
            seen.add(node)
            if node not in self._known:
                open_nodes += [other for other, _ in node.next_functions]
                continue
            chain, t = self._known[node]
            behind = {other: s for other, s in chain.states[t].origins.items() if other.name != chain.name}
            for origin, s in [(chain, t), *behind.items()]:
                found[origin] = max(s, found.get(origin, 0))
        if not found:  # what feeds every step, such as an embedding of the whole input, is walked once
            self._barren |= seen
        return found

    def _continued(self, name: str, origins: dict[Chain, int], is_cell: bool) -> Chain | None:
        """The chain of that name whose last state was read; ``None`` where a new one begins."""
        states = {chain: t for chain, t in origins.items() if chain.name == name}
        ends = [chain for chain, t in states.items() if t == len(chain.states) - 1]
        if len(ends) == 1:
            return ends[0]
        if ends or (states and not is_cell):
            raise _not_one_loop(name, states)
        return None


def _not_one_loop(name: str, states: dict[Chain, int]) -> InputError:
    read = ", ".join(f"{t + 1} of {len(chain.states)} of {chain.title}" for chain, t in list(states.items())[:3])
    return InputError(
        "each state of a loop is computed from the one before it, and from no other of its name",
        got=f"a state {name!r} that was computed from timestep {read}",
        cause="two loops, or two layers, whose states have one name",
        cure="name them: h = recurrent.record(h, 'lower')",
    )


_ACTIVE: ContextVar[tuple[Loops, ...]] = ContextVar("loops", default=())


def record(h: Tensor, name: str = "state") -> Tensor:
    """Mark a state of a loop that was written by hand: ``h = recurrent.record(h)``, as soon as it is computed.

    Outside :func:`leadline.recurrent.trace` this is the identity. Inside, the loop has to go on with what is returned,
    a copy of ``h``: it is where the gradient is read. States follow one another where each is computed from the one
    before; a state that is computed from none begins a new loop, such as the second forward pass inside the block.
    ``torch.nn.RNNCell``, ``LSTMCell`` and ``GRUCell`` are recorded without being marked.

    Args:
        h: the state, shape (B, ...): the batch first; or (H,), a single vector.
        name: what the flow calls it. Each loop that reads another one's states, such as a layer above, needs a name of
            its own.

    Returns:
        The state to go on with, of equal values.

    Raises:
        InputError: ``h`` is not a tensor of numbers with a batch, its shape has changed within the loop, or two loops
            share a name.

    >>> import torch
    >>> from leadline import recurrent
    >>> class Leaky(torch.nn.Module):
    ...     def forward(self, x):
    ...         h = torch.zeros_like(x[0])
    ...         for x_t in x:
    ...             h = recurrent.record(0.5 * h + x_t)
    ...         return h
    >>> model = Leaky()
    >>> with recurrent.trace(model) as tape:
    ...     loss = model(torch.ones(4, 2, 1, requires_grad=True)).sum()
    >>> tape.gradient_flow(loss).layers[0].total[0]
    array([0.125, 0.25 , 0.5  , 1.   ])
    """
    if not isinstance(h, Tensor) or not h.is_floating_point() or h.dim() == 0:
        got = f"{h.dtype}, shape {tuple(h.shape)}" if isinstance(h, Tensor) else type(h).__name__
        raise InputError(
            "a state to record is a tensor of real numbers, of shape (batch, ...)",
            got=got,
            cause="a pair (h, c)" if isinstance(h, tuple) else None,
            cure="record each part: h, c = record(h, 'h'), record(c, 'c')" if isinstance(h, tuple) else None,
        )
    for loops in _ACTIVE.get():
        h = loops.mark(name, h)
    return h


@contextmanager
def listening(loops: Loops) -> Iterator[None]:
    """Inside the block, what is marked goes to ``loops``."""
    token = _ACTIVE.set((*_ACTIVE.get(), loops))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def flat(x: Tensor) -> Tensor:
    """Shape (B, everything else); a single vector is a batch of one."""
    return x.unsqueeze(0) if x.dim() == 1 else x.flatten(1)
