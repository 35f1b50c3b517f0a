"""The training loop, for any number of autoencoders and any corruption.

Each model draws its permutations and its corruption from its own generator, in an order that does
not depend on the other models. With the rules of :mod:`leadline.autoencoders.training._stack`, a
result does not depend on how the models are grouped.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from leadline.autoencoders.models._dense import DenseArchitecture
from leadline.autoencoders.training._autograd import AutogradEngine
from leadline.autoencoders.training._engine import Engine
from leadline.autoencoders.training._member import Member
from leadline.autoencoders.training._stack import Stack, stack_size


def train_members(members: Sequence[Member]) -> None:
    """Train members until all have ended; members of equal shape are trained together."""
    for group in _groups(members):
        _train(group)


def _train(members: list[Member]) -> None:
    """Train members that can be stacked, or a single member."""
    engine = engine_of(members)
    epoch = members[0].run.epoch
    for k, member in enumerate(members):
        member.run.stack_size = member.run.stack_size or len(members)
        member.begin(engine, k)
    batch = members[0].settings.batch_size
    device = members[0].device
    while members:
        engine.learning_rates = [member.settings.learning_rate_at(epoch) for member in members]
        epoch += 1
        total = torch.zeros(len(members), dtype=torch.float64, device=device)
        for blocks in zip(*(member.blocks() for member in members), strict=True):
            seen, target, loss_mask = (_stack(parts) for parts in zip(*blocks, strict=True))
            assert seen is not None
            assert target is not None
            for start in range(0, seen.shape[1], batch):
                rows = slice(start, start + batch)
                batch_mask = None if loss_mask is None else loss_mask[:, rows]
                total += engine.step(seen[:, rows], target[:, rows], batch_mask)
        for k, (member, error) in enumerate(zip(members, total.tolist(), strict=True)):
            member.finish_epoch(engine, k, error / len(member.rows.training))
        remaining = [k for k, member in enumerate(members) if not member.has_ended]
        if 0 < len(remaining) < len(members):
            engine.keep(remaining)
        members = [members[k] for k in remaining]


def engine_of(members: list[Member]) -> Engine:
    """Return a stack if the members can be stacked; else an autograd engine for the only member."""
    first = members[0]
    device = first.device
    rates = [member.settings.learning_rate_at(member.run.epoch) for member in members]
    if not first.architecture.can_stack:
        return AutogradEngine(
            first.model, first.architecture, rates[0], first.settings.seed, device
        )
    states = [
        {name: tensor.to(device) for name, tensor in member.model.state_dict().items()}
        for member in members
    ]
    return Stack(cast(DenseArchitecture, first.architecture), states, rates)


def _groups(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Yield members to train together: of equal shape, in even parts of at most a stack's size."""
    members_by_shape: dict[Any, list[Member]] = {}
    for member in members:
        members_by_shape.setdefault(member.stack_key, []).append(member)
    for group in members_by_shape.values():
        architecture = group[0].architecture
        size = 1
        if architecture.can_stack:
            batch_size = group[0].settings.batch_size
            size = stack_size(cast(DenseArchitecture, architecture), batch_size)
        num_parts = -(-len(group) // size)
        for part in np.array_split(np.arange(len(group)), num_parts):
            yield [group[i] for i in part]


def _stack(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Stack the tensors of all members; ``None`` if the members have none."""
    tensors = [part for part in parts if part is not None]
    return torch.stack(tensors) if tensors else None
