"""Chains of the states of a loop, and the checks of these states.

A loop continues with a copy of a marked state. The total gradient is read at the state itself, so
that uses of the state before its mark count too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from leadline.errors import InputError
from leadline.gradients.tracing._ancestry import Reads
from leadline.gradients.tracing._reproduction import not_numbers
from leadline.gradients.tracing._snapshot import Snapshot

Gradients = Sequence[Tensor | None]
Key = tuple[str, str]
"""The path of the module that marks a state, and the name of the mark; equal for a whole loop."""


class Origin(NamedTuple):
    """The states of one loop that a state was computed from: the latest index and the number.

    States that were read one by one are counted apart from states that were read jointly.
    """

    alone: int = -1
    count_alone: int = 0
    joined: int = -1
    count_joined: int = 0

    @classmethod
    def of(cls, reads: Reads) -> "Origin":
        """Return the summary of all states that were read."""
        alone = reads.alone
        joined = reads.joined
        return cls(max(alone, default=-1), len(alone), max(joined, default=-1), len(joined))

    def and_of(self, other: "Origin") -> "Origin":
        """Return the union of two summaries."""
        return Origin(*(max(one, another) for one, another in zip(self, other, strict=True)))

    def through_a_join(self, states: int) -> "Origin":
        """Return the summary of the same states, read through a joining tensor."""
        return Origin(
            joined=max(self.alone, self.joined), count_joined=max(states, self.count_joined)
        )


@dataclass(frozen=True, eq=False)
class State:
    """One state of a loop: h, and c for the LSTM."""

    made: tuple[Tensor, ...]
    """The tensors that the step computed."""
    shown: tuple[Tensor, ...]
    """The copies with which the loop continues."""
    origins: dict["Chain", Origin]
    """The states that it was computed from directly, by chain."""
    seen: Snapshot
    """The tensors that must not change."""
    frame: int = 0
    """The number of the forward pass that marked it."""
    x: Tensor | None = None
    """The input of a cell."""
    before: tuple[Tensor, ...] = ()
    """The state before, as passed to a cell; empty for zeros."""
    weights: tuple[Tensor | None, ...] = ()
    """The parameters that a cell used: weight_ih, weight_hh, bias_ih and bias_hh."""
    dtype: torch.dtype = torch.float32
    """The dtype of the computation."""


@dataclass(eq=False)
class Chain:
    """The states of one loop, each computed from the one before."""

    name: str
    number: int
    """0 for the first chain of its name."""
    module: nn.RNNCellBase | None
    """The cell; ``None`` if the loop marked its states itself."""
    key: Key = ("", "")
    states: list[State] = field(default_factory=list)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors at which total gradients are read: h_1 … h_T, then c_1 … c_T.

        A marked state may be used before its mark, so its total is read where it was computed.
        Inside a cell, h is computed from c; the copies separate this path from all others.
        """
        return self.shown if self.module is not None else self.made

    @property
    def shown(self) -> tuple[Tensor, ...]:
        """The copies with which the loop continues, in the order of ``outputs``."""
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
        """The name, with the number if it is not the first loop of its name."""
        return self.name + (f", loop {self.number + 1}" if self.number else "")

    def naming(self) -> dict[str, Any]:
        """Return the fields that identify the loop."""
        return {"name": self.name, "index": 0, "direction": "forward", "call": self.number}

    def hidden(self) -> Tensor:
        """Return h_1 … h_T, shape (T, B, H)."""
        return torch.stack([flat(state.shown[0].detach()) for state in self.states])

    def rows(self, gradients: Gradients, part: int = 0) -> Tensor:
        """Return the gradients of one part of the states, shape (T, B, H)."""
        time = len(self.states)
        own = zip(gradients[part * time : (part + 1) * time], self.states, strict=True)
        return torch.stack(
            [flat(torch.zeros_like(state.made[part]) if g is None else g) for g, state in own]
        )

    def check(self, may_be_nan: bool = False) -> None:
        """Refuse states that were changed, or that are not numbers."""
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
            cause="a step of the optimiser, or an assignment such as weight_hh.mul_()",
            cure="query the tape before the optimiser steps",
        )
    return InputError(
        "a recorded state must not change before the tape is queried",
        got=f"{title}: the state of timestep {t} was changed in place",
        cause="an in-place operation on it, or on a tensor that contains it: relu_, buffer[t] = "
        "...",
        cure="use an operation that returns a new tensor, h = h.relu(); record a state before it "
        "is stored",
    )


def check_loops(chains: Sequence[Chain]) -> None:
    """Check all states, and refuse marked states that were not computed from one another."""
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
                "a loop must continue with the tensor that record() returned",
                got=f"{len(found)} states {names[key]!r}, none of them computed from another",
                cause="a state that is detached in every step, a tensor outside the loop, or one "
                "timestep only",
                cure="h = gradients.record(h), with h computed from the previous h",
            )


def flat(x: Tensor) -> Tensor:
    """Return x as (B, everything else); a single vector is a batch of one."""
    return x.unsqueeze(0) if x.dim() == 1 else x.flatten(1)
