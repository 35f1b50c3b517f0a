"""From the gradients of a loss with respect to what a module returned to what arrives at each state inside it.

Everything has the shape (T, K, B, ...): K losses are followed at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.gradients.tracing._replay import Pass, Replayed
from leadline.gradients.tracing._sweep import Rows, adjoint_sweep


@dataclass(frozen=True, eq=False)
class Arrived:
    """What reaches the states of one pass, in the order of its scan, and what reaches the layer's input, by timestep.

    A bidirectional layer's input is reached through both directions.
    """

    one: Pass
    padding: Tensor | None
    direct: Rows
    total: Rows
    recurrent: Rows
    to_input: Rows

    def to_cells(self) -> Rows:
        """What reaches the cell states."""
        unit = self.one.record.to_cells(self.total.unit.transpose(0, 1)).transpose(0, 1)
        return Rows.of(unit, self.total.log)

    def hidden(self, rows: Rows) -> Rows:
        """The part of state rows that belongs to h."""
        return rows.part(None, self.one.record.h.shape[-1])

    def in_time(self, values: Float[Tensor, "T B ..."]) -> Float[Tensor, "T B ..."]:
        """From the order of the scan to the order of time, sample by sample."""
        return _reorder(values.unsqueeze(1), self.one.order).squeeze(1)

    def log_norm(self, rows: Rows) -> Float[np.ndarray, "K T B"]:
        """Logarithms of the norms of rows by timestep, NaN where padded."""
        log = rows.log.double()
        if rows is not self.to_input:
            log = _reorder(log, self.one.order)
        if self.padding is not None:
            log = log.masked_fill(self.padding.unsqueeze(1), torch.nan)
        return log.transpose(0, 1).cpu().numpy()


def arrive(replayed: Replayed, gradients: Sequence[Sequence[Tensor | None]]) -> list[Arrived]:
    """Follow K losses down a stack of layers.

    Args:
        replayed: the call.
        gradients: for each loss, its gradients with respect to the output, h_n (and c_n); ``None`` for zero.

    Returns:
        One for each layer and direction, bottom layer first.
    """
    directions = len(replayed.layers[0])
    outputs = replayed.call.outputs
    full = [_filled(replayed, own) for own in gradients]
    from_above = Rows.of(torch.stack([replayed.by_time(output) for output, *_ in full], 1))
    at_end = [
        torch.stack([replayed.last_by_layer(own[i]) for own in full], 1)
        for i in range(1, len(outputs))
    ]
    padding = replayed.padding()
    found: list[list[Arrived]] = []
    for layer in replayed.layers[::-1]:
        arrived, to_inputs = [], []
        for d, one in enumerate(layer):
            size = one.record.h.shape[-1]
            above = _in_order(from_above.part(d * size, (d + 1) * size), one.order)
            ends = torch.cat([gradient[one.index * directions + d] for gradient in at_end], -1)
            direct = _direct(above, ends, one, replayed.lengths)
            swept = adjoint_sweep(direct, one.record.adjoint)
            unit = one.record.to_input(swept.total.unit.transpose(0, 1)).transpose(0, 1)
            to_inputs.append(_in_order(Rows.of(unit, swept.total.log), one.order))
            arrived.append((one, padding, direct, swept.total, swept.recurrent))
        from_above = to_inputs[0] if directions == 1 else to_inputs[0] + to_inputs[1]
        found.append([Arrived(*parts, to_input=from_above) for parts in arrived])
        mask = layer[0].mask
        if mask is not None:
            from_above = Rows.of(from_above.unit * mask.unsqueeze(1), from_above.log)
    return [arrived for layer in found[::-1] for arrived in layer]


def top_seeds(
    replayed: Replayed, gradients: Sequence[Tensor | None]
) -> Float[Tensor, "T B S"] | None:
    """The direct part of each state of the top layer; ``None`` where lower layers are reached from outside too."""
    output, *last = _filled(replayed, gradients)
    above = replayed.by_time(output)
    ends = [replayed.last_by_layer(gradient) for gradient in last]
    if any(bool((gradient[:-1] != 0).any()) for gradient in ends):
        return None
    record = replayed.layers[-1][0].record
    seeds = torch.nn.functional.pad(above, (0, record.state_size - above.shape[-1]))
    seeds[-1] += torch.cat([gradient[-1] for gradient in ends], -1)
    return seeds


def _filled(replayed: Replayed, gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients with respect to a call's outputs, zeros for none, in the precision of the replay."""
    dtype, outputs = replayed.layers[0][0].record.h.dtype, replayed.call.outputs
    return [
        torch.zeros_like(output, dtype=dtype) if gradient is None else gradient.to(dtype)
        for gradient, output in zip(gradients, outputs, strict=True)
    ]


def _direct(above: Rows, ends: Tensor, one: Pass, lengths: Tensor | None) -> Rows:
    """The direct parts of a pass: from the layer above, and from h_n and c_n at each sample's end."""
    time, _, batch, size = above.unit.shape
    unit, log = (
        torch.nn.functional.pad(above.unit, (0, one.record.state_size - size)),
        above.log.clone(),
    )
    if bool(ends.any()):
        last = (
            torch.full((batch,), time - 1, device=unit.device) if lengths is None else lengths - 1
        )
        sample = torch.arange(batch, device=unit.device)
        there = Rows(unit[last, :, sample], log[last, :, sample]) + Rows.of(ends.transpose(0, 1))
        unit[last, :, sample], log[last, :, sample] = there.unit, there.log
    return Rows(unit, log)


def _in_order(rows: Rows, order: Tensor | None) -> Rows:
    return Rows(_reorder(rows.unit, order), _reorder(rows.log, order))


def _reorder(values: Tensor, order: Tensor | None) -> Tensor:
    """Shape (T, K, B, ...), sample by sample in another order of time."""
    if order is None:
        return values
    sample = torch.arange(order.shape[1], device=order.device)
    return values.transpose(1, 2)[order, sample].transpose(1, 2)
