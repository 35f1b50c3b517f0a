"""Chains of states that follow one another in a loop, and what is refused of them.

A state that a loop marks goes on as a copy. The total gradient is read at the state itself, so that what reads it
before its mark counts too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from leadline.errors import InputError
from leadline.gradients.tracing._ancestry import Reads
from leadline.gradients.tracing._replay import not_numbers
from leadline.gradients.tracing._snapshot import Snapshot

CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)
"""The modules that are hooked in a loop."""

Cell = nn.RNNCell | nn.LSTMCell | nn.GRUCell
Gradients = Sequence[Tensor | None]
Key = tuple[str, str]
"""The path of the module whose forward pass marks a state, and the name of the mark. A loop has one key."""


class Origin(NamedTuple):
    """What a state has read of one loop: the index of the latest state and their number, by kind of reading."""

    alone: int = -1
    count_alone: int = 0
    joined: int = -1
    count_joined: int = 0

    @classmethod
    def of(cls, reads: Reads) -> "Origin":
        """A summary of all the states that were read."""
        alone, joined = reads.alone, reads.joined
        return cls(max(alone, default=-1), len(alone), max(joined, default=-1), len(joined))

    def and_of(self, other: "Origin") -> "Origin":
        """Both summaries together."""
        return Origin(*(max(one, another) for one, another in zip(self, other, strict=True)))

    def through_a_join(self, states: int) -> "Origin":
        """The same, read through a tensor that joins several states which read it."""
        return Origin(
            joined=max(self.alone, self.joined), count_joined=max(states, self.count_joined)
        )


@dataclass(frozen=True, eq=False)
class State:
    """One state: h, and c for the LSTM."""

    made: tuple[Tensor, ...]
    """As the step computed it."""
    shown: tuple[Tensor, ...]
    """The copies that everything else reads."""
    origins: dict["Chain", Origin]
    """What it was computed from, by a way without another state of the same chain."""
    seen: Snapshot
    """The tensors that have to stay as they are."""
    frame: int = 0
    """The number of the call of the module that marked it."""
    x: Tensor | None = None
    """A cell's input."""
    before: tuple[Tensor, ...] = ()
    """What a cell was given as the state before; nothing for zeros."""
    weights: tuple[Tensor | None, ...] = ()
    """The parameters that a cell has used: weight_ih, weight_hh, bias_ih and bias_hh."""
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
    key: Key = ("", "")
    states: list[State] = field(default_factory=list)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Where the total gradients are read: at h_1 … h_T, then at c_1 … c_T.

        A marked state may be read before its mark, so its total is read where it was made. Inside a cell, h is
        computed from c; the copies separate that way from all others.
        """
        return self.shown if self.module is not None else self.made

    @property
    def shown(self) -> tuple[Tensor, ...]:
        """The copies that everything else reads, in the order of ``outputs``."""
        return tuple(
            shown
            for part in zip(*(state.shown for state in self.states), strict=True)
            for shown in part
        )

    @property
    def made(self) -> tuple[Tensor, ...]:
        """The states as their steps computed them, in the order of ``outputs``."""
        return tuple(
            made
            for part in zip(*(state.made for state in self.states), strict=True)
            for made in part
        )

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
        return torch.stack(
            [flat(torch.zeros_like(state.made[part]) if g is None else g) for g, state in own]
        )

    def check(self, may_be_nan: bool = False) -> None:
        """Refuse states that were changed since, and those that are not numbers."""
        for t, state in enumerate(self.states, 1):
            changed = state.seen.changed()
            if changed:
                raise _changed(self.title, t, changed)
        hidden = self.hidden()
        bad = hidden.isnan().any(-1)
        if not may_be_nan and bool(bad.any()):
            raise not_numbers(self.title, hidden, bad)


def _changed(title: str, t: int, names: Sequence[str]) -> InputError:
    if names[0].startswith(("weight", "bias")):
        return InputError(
            "a tape must be queried before the weights change",
            got=f"{title}: {names[0]} was changed in place after timestep {t}",
            cause="the optimiser has stepped, or an assignment such as weight_hh.mul_()",
            cure="query the tape before the optimiser steps",
        )
    return InputError(
        "a recorded state must be as it was when it was recorded",
        got=f"{title}: the state of timestep {t} was changed in place",
        cause="an operation in place on it, or on the tensor that it is a part of: relu_, detach_, buffer[t] = ...",
        cure="use the operation that returns a new tensor: h = h.detach(); record a state before it is stored",
    )


def check_loops(chains: Sequence[Chain]) -> None:
    """Refuse what :meth:`Chain.check` refuses, and marked states none of which was computed from another."""
    for chain in chains:
        chain.check()
    lengths: dict[Key, list[int]] = {}
    for chain in chains:
        if chain.module is None:
            lengths.setdefault(chain.key, []).append(len(chain.states))
    names = {chain.key: chain.name for chain in chains}
    for key, found in lengths.items():
        if len(found) > 1 and max(found) == 1:
            raise InputError(
                "a loop goes on with what record returned",
                got=f"{len(found)} states {names[key]!r}, none of them computed from another",
                cause="a state detached in every step, a tensor beside the loop, or sequences of one timestep",
                cure="h = gradients.record(h), where h is computed from the h before it",
            )


def flat(x: Tensor) -> Tensor:
    """Shape (B, everything else); a single vector is a batch of one."""
    return x.unsqueeze(0) if x.dim() == 1 else x.flatten(1)
