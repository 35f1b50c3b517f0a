"""The gradients that arrive at each state inside a call, from the gradients of its outputs.

All tensors have the shape (T, K, B, ...), because K losses are followed at once.
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
    """The gradients of the states of one pass, in the order of its scan, and of the layer's input.

    The gradient of the input is ordered by timestep and includes both directions.
    """

    scan: Pass
    padding: Tensor | None
    direct: Rows
    total: Rows
    recurrent: Rows
    to_input: Rows

    def to_cells(self) -> Rows:
        """Return the gradients of the cell states."""
        unit = self.scan.record.to_cells(self.total.unit.transpose(0, 1)).transpose(0, 1)
        return Rows.of(unit, self.total.log)

    def hidden(self, rows: Rows) -> Rows:
        """Return the part of the rows that belongs to h."""
        return rows.part(None, self.scan.record.h.shape[-1])

    def in_time(self, values: Float[Tensor, "T B ..."]) -> Float[Tensor, "T B ..."]:
        """Return values in the order of time instead of the order of the scan."""
        return _reorder(values.unsqueeze(1), self.scan.order).squeeze(1)

    def log_norm(self, rows: Rows) -> Float[np.ndarray, "K T B"]:
        """Return the logarithms of the norms of rows by timestep, NaN for padding."""
        log = rows.log.double()
        if rows is not self.to_input:
            log = _reorder(log, self.scan.order)
        if self.padding is not None:
            log = log.masked_fill(self.padding.unsqueeze(1), torch.nan)
        return log.transpose(0, 1).cpu().numpy()


def arrive(replayed: Replayed, gradients: Sequence[Sequence[Tensor | None]]) -> list[Arrived]:
    """Propagate the gradients of K losses down a stack of layers.

    Args:
        replayed: the call.
        gradients: the gradients of each loss with respect to the outputs; ``None`` for zero.

    Returns:
        The gradients in each layer and direction, bottom layer first.
    """
    directions = len(replayed.layers[0])
    outputs = replayed.call.outputs
    by_loss = [_filled(replayed, of_loss) for of_loss in gradients]
    from_above = Rows.of(torch.stack([replayed.by_time(output) for output, *_ in by_loss], 1))
    at_end = [
        torch.stack([replayed.last_by_layer(of_loss[i]) for of_loss in by_loss], 1)
        for i in range(1, len(outputs))
    ]
    padding = replayed.padding()
    top_down: list[list[Arrived]] = []
    for layer in replayed.layers[::-1]:
        of_directions = []
        to_inputs = []
        for direction, scan in enumerate(layer):
            size = scan.record.h.shape[-1]
            from_output = from_above.part(direction * size, (direction + 1) * size)
            above = _in_order(from_output, scan.order)
            row = scan.index * directions + direction
            ends = torch.cat([gradient[row] for gradient in at_end], -1)
            direct = _direct(above, ends, scan, replayed.lengths)
            swept = adjoint_sweep(direct, scan.record.adjoint)
            unit = scan.record.to_input(swept.total.unit.transpose(0, 1)).transpose(0, 1)
            to_inputs.append(_in_order(Rows.of(unit, swept.total.log), scan.order))
            of_directions.append((scan, padding, direct, swept.total, swept.recurrent))
        from_above = to_inputs[0] if directions == 1 else to_inputs[0] + to_inputs[1]
        top_down.append([Arrived(*parts, to_input=from_above) for parts in of_directions])
        mask = layer[0].mask
        if mask is not None:
            from_above = Rows.of(from_above.unit * mask.unsqueeze(1), from_above.log)
    return [arrived for layer in top_down[::-1] for arrived in layer]


def top_seeds(
    replayed: Replayed, gradients: Sequence[Tensor | None]
) -> Float[Tensor, "T B S"] | None:
    """Return the direct part of each state of the top layer.

    Return ``None`` if the loss also reaches the last state of a lower layer directly.
    """
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
    """Return the gradients of the outputs in the replay's precision, zeros for ``None``."""
    dtype = replayed.layers[0][0].record.h.dtype
    outputs = replayed.call.outputs
    return [
        torch.zeros_like(output, dtype=dtype) if gradient is None else gradient.to(dtype)
        for gradient, output in zip(gradients, outputs, strict=True)
    ]


def _direct(above: Rows, ends: Tensor, scan: Pass, lengths: Tensor | None) -> Rows:
    """Return the direct parts: from the layer above, and from h_n and c_n at each sample's end."""
    time, _, batch, size = above.unit.shape
    unit = torch.nn.functional.pad(above.unit, (0, scan.record.state_size - size))
    log = above.log.clone()
    if bool(ends.any()):
        last = (
            torch.full((batch,), time - 1, device=unit.device) if lengths is None else lengths - 1
        )
        sample = torch.arange(batch, device=unit.device)
        from_layer = Rows(unit[last, :, sample], log[last, :, sample])
        at_last = from_layer + Rows.of(ends.transpose(0, 1))
        unit[last, :, sample] = at_last.unit
        log[last, :, sample] = at_last.log
    return Rows(unit, log)


def _in_order(rows: Rows, order: Tensor | None) -> Rows:
    """Reorder the timesteps of rows of shape (T, K, B, ...); ``None`` keeps the order."""
    return Rows(_reorder(rows.unit, order), _reorder(rows.log, order))


def _reorder(values: Tensor, order: Tensor | None) -> Tensor:
    """Reorder the timesteps of each sample of a tensor of shape (T, K, B, ...)."""
    if order is None:
        return values
    sample = torch.arange(order.shape[1], device=order.device)
    return values.transpose(1, 2)[order, sample].transpose(1, 2)
