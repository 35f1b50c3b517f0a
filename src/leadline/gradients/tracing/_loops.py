"""The recorder of hand-written loops, which finds the states that follow one another.

Autograd sees every state of such a loop, so nothing has to be replayed.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from leadline.errors import InputError
from leadline.gradients.tracing._ancestry import Ancestry, Edge
from leadline.gradients.tracing._chains import Chain, Key, Origin, State
from leadline.gradients.tracing._missing_graph import MissingGraph, why_without_graph
from leadline.gradients.tracing._recorded_loop import RecordedLoop
from leadline.gradients.tracing._replay import computed_in
from leadline.gradients.tracing._snapshot import Snapshot

LEAST_SEED = 0.5
"""Smallest random seed of a test of dependence; the largest is 1.5, so that no seed is zero."""

MOST_NAMED = 3
"""Most loops that a message names."""


class Loops:
    """Records the states of loops when they are computed.

    Args:
        calls: receives the loops as they begin.
        watch: a function that is called with every tensor at which a total gradient is read.
    """

    def __init__(self, calls: list[Any], watch: Callable[[Tensor], object]):
        self.calls = calls
        self.chains: list[Chain] = []
        self.watch = watch
        self.without_graph: MissingGraph | None = None
        """The reason why a state has no gradient; ``None`` if there is no such state."""
        self.is_marked_elsewhere = False
        """True if another thread marked a state during the block."""
        self._ancestry = Ancestry()
        self._numbers: Counter[str] = Counter()
        self._frames: list[tuple[str, int]] = []
        self._frame_count = 0
        self._thread = threading.get_ident()

    def enter(self, path: str) -> None:
        """Note that the forward pass of a module begins."""
        if threading.get_ident() == self._thread:
            self._frame_count += 1
            self._frames.append((path, self._frame_count))

    def leave(self) -> None:
        """Note that the innermost forward pass ends."""
        if threading.get_ident() == self._thread and self._frames:
            self._frames.pop()

    def mark(self, name: str, h: Tensor) -> Tensor:
        """Record a marked state, and return its copy."""
        if not h.requires_grad:
            self.without_graph = why_without_graph()
            return h
        path, frame = self._frames[-1] if self._frames else ("", 0)
        key = (path, name)
        origins = self._origins([h])
        chain = self._continued(key, origins, [h], frame, is_cell=False)
        if chain is None:
            chain = self._begin(f"{path}.{name}" if path else name, key, None)
        others = {"state before its mark": h}
        shown = self._append(chain, (h,), origins, others, frame=frame)
        self._ancestry.remember(_edge(h), chain, len(chain.states) - 1)
        self.watch(h)
        return shown[0]

    def cell(
        self,
        name: str,
        module: nn.RNNCellBase,
        arguments: dict[str, Any],
        returned: Any,
        weights: dict[str, Tensor | None],
    ) -> Any:
        """Record the state that a cell computed and the weights it used; return the copy."""
        made = returned if isinstance(returned, tuple) else (returned,)
        if not made[0].requires_grad:
            self.without_graph = why_without_graph()
            return returned
        hx = arguments.get("hx")
        before: tuple[Tensor, ...] = ()
        if hx is not None:
            before = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        key = (name, "cell")
        chain = self._continued(key, self._origins(before), before, 0, is_cell=True)
        if chain is None:
            chain = self._begin(name, key, module)
        x = arguments["input"].detach()
        others = {name: weight for name, weight in weights.items() if weight is not None}
        shown = self._append(
            chain,
            made,
            self._origins(made),
            {"input": x} | others,
            x=x,
            before=tuple(part.detach() for part in before),
            weights=tuple(weights.values()),
        )
        for part in shown:
            self.watch(part)
        return shown if isinstance(returned, tuple) else shown[0]

    def _begin(self, name: str, key: Key, module: nn.RNNCellBase | None) -> Chain:
        chain = RecordedLoop(name, self._numbers[name], module, key)
        self._numbers[name] += 1
        self.chains.append(chain)
        self.calls.append(chain)
        return chain

    def _append(
        self,
        chain: Chain,
        made: tuple[Tensor, ...],
        origins: dict[Chain, Origin],
        others: dict[str, Tensor],
        **details: Any,
    ) -> tuple[Tensor, ...]:
        """Add a state to its chain, and return its copies.

        Args:
            chain: the chain that the state continues.
            made: the state, as its step computed it.
            origins: the states from which it was computed.
            others: further tensors that must not change, by name.
            details: further fields of the :class:`State`.

        Raises:
            InputError: the state has another shape than the state before.
        """
        if chain.states and chain.states[-1].made[0].shape != made[0].shape:
            raise InputError(
                "trace() needs states of one shape in each loop",
                got=f"{chain.title}, timestep {len(chain.states) + 1}: {tuple(made[0].shape)} "
                f"after {tuple(chain.states[-1].made[0].shape)}",
                cause="sequences that leave the batch when they end, or two loops with the same "
                "name",
                cure="keep all sequences in the batch and mask them; name each loop: "
                "gradients.record(h, 'upper')",
            )
        shown = tuple(part.clone() for part in made)
        snapshot = Snapshot.of([*(("state", part) for part in shown), *others.items()])
        dtype = computed_in(made[0])
        chain.states.append(State(made, shown, origins, snapshot, dtype=dtype, **details))
        for part in shown:
            self._ancestry.remember(_edge(part), chain, len(chain.states) - 1)
        return shown

    def _origins(self, tensors: Sequence[Tensor]) -> dict[Chain, Origin]:
        """Return the states that tensors were computed from, also through other loops."""
        edges = (_edge(tensor) for tensor in tensors if tensor.requires_grad)
        by_chain = self._ancestry.reads(edges)
        origins: dict[Chain, Origin] = {
            chain: Origin.of(reads) for chain, reads in by_chain.items()
        }
        for chain, reads in by_chain.items():
            for t in reads.alone:
                for other, origin in _origins_in_other_loops(chain, t):
                    origins[other] = origins.get(other, Origin()).and_of(origin)
            for t in reads.joined:
                for other, origin in _origins_in_other_loops(chain, t):
                    joined = origin.through_a_join(len(reads.joined))
                    origins[other] = origins.get(other, Origin()).and_of(joined)
        return origins

    def _continued(
        self,
        key: Key,
        origins: dict[Chain, Origin],
        tensors: Sequence[Tensor],
        frame: int,
        is_cell: bool,
    ) -> Chain | None:
        """Return the chain of this key that a new state continues; ``None`` if it begins a new one.

        A state continues the chain whose last state it reads alone. A state that reads the last
        state only jointly with others belongs to a layer above, or to a loop that reads a window of
        states.
        """
        of_key = {chain: origin for chain, origin in origins.items() if chain.key == key}
        ends = [chain for chain, origin in of_key.items() if origin.alone == len(chain.states) - 1]
        if len(ends) > 1:
            ends = [chain for chain in ends if chain.states[-1].frame == frame] if frame else ends
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise _not_one_loop(key, of_key)
        for chain, origin in of_key.items():
            if origin.joined == len(chain.states) - 1 and _continues_window(
                chain, origin, tensors, frame
            ):
                # A layer above two loops, such as both directions, reads states of the other loop
                # too.
                others = [
                    state.shown[0]
                    for other in of_key
                    if other is not chain
                    for state in other.states
                ]
                return None if any(_depends_on(tensors, others)) else chain
        has_read_earlier_state = any(
            origin.alone >= 0 and chain.states[-1].frame == frame
            for chain, origin in of_key.items()
        )
        if has_read_earlier_state and not is_cell:
            raise _not_one_loop(key, of_key)
        return None


def _origins_in_other_loops(chain: Chain, t: int) -> list[tuple[Chain, Origin]]:
    """Return the states of other loops that a state was computed from."""
    return [
        (other, origin)
        for other, origin in chain.states[t].origins.items()
        if other.key != chain.key
    ]


def _continues_window(chain: Chain, origin: Origin, tensors: Sequence[Tensor], frame: int) -> bool:
    """True if a state that reads joined states of a chain continues this chain.

    A loop that reads a window of its states reads at most one more state in each step. If all
    states were read, as from a buffer or by a layer above, the gradient decides: the first state of
    a layer above does not depend on the last state of the layer below, or depends on other states
    too.
    """
    last = chain.states[-1]
    before = last.origins.get(chain, Origin())
    was_one_frame = len(chain.states) > 1 and chain.states[-2].frame == last.frame
    is_same_loop = last.frame == frame or not was_one_frame
    grows_slowly = origin.count_joined <= max(before.count_joined, before.count_alone) + 1
    if is_same_loop and grows_slowly:
        has_read_all = origin.count_joined == len(chain.states)
        return not has_read_all or _depends_on(tensors, [last.shown[0]])[0]
    depends = _depends_on(tensors, [state.shown[0] for state in chain.states])
    return depends[-1] and not any(depends[:-1])


def _depends_on(tensors: Sequence[Tensor], states: Sequence[Tensor]) -> list[bool]:
    """Return for each state whether the tensors depend on it, not only through another state."""
    if not states:
        return []
    roots = [tensor for tensor in tensors if tensor.requires_grad]
    generator = torch.Generator(roots[0].device).manual_seed(0)
    seeds = [
        torch.rand(root.shape, generator=generator, device=root.device, dtype=torch.float32).to(
            root.dtype
        )
        + LEAST_SEED
        for root in roots
    ]
    depends = [False] * len(states)

    def stop(index: int):
        """Return a hook that notes a gradient at a state and stops it there."""

        def hook(gradient: Tensor) -> Tensor:
            depends[index] = bool((gradient != 0).any())
            return torch.zeros_like(gradient)

        return hook

    handles = [state.register_hook(stop(index)) for index, state in enumerate(states)]
    try:
        torch.autograd.grad(roots, states, seeds, retain_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return depends


def _not_one_loop(key: Key, states: dict[Chain, Origin]) -> InputError:
    """Return the refusal of a state that continues no loop of its name, or several."""
    read = [
        f"{origin.alone + 1} of {len(chain.states)} of {chain.title}"
        for chain, origin in states.items()
    ]
    name = next(iter(states)).name
    is_merged = sum(origin.alone >= 0 for origin in states.values()) > 1
    merged = (
        "a tree, in which a state follows several others; or a layer that reads two loops of "
        "its name"
    )
    skipped = "two loops or layers whose states have the same name; or a tree"
    return InputError(
        "trace() needs loops in which each state is computed from the previous state alone",
        got=f"a state {name!r}{_place(key)}, computed from timestep "
        f"{' and '.join(read[:MOST_NAMED])}",
        cause=merged if is_merged else skipped,
        cure="name each loop: h = gradients.record(h, 'lower'); a tree cannot be traced",
    )


def _place(key: Key) -> str:
    """Name the module in which a state was marked; nothing for a cell or the model itself."""
    path, name = key
    return f" of module {path!r}" if path and name != "cell" else ""


def _edge(tensor: Tensor) -> Edge:
    """Return the edge of a tensor in the autograd graph."""
    return torch.autograd.graph.get_gradient_edge(tensor)[:2]
