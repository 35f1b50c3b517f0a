"""The replay of a recorded call, which gives a record of every layer and direction.

PyTorch's modules hide the states of the lower layers of a stack, so these layers are run again. The
replay must reproduce the recorded states of the top layer; otherwise the call is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from leadline.errors import InputError
from leadline.gradients.tracing._missing_graph import MissingGraph
from leadline.gradients.tracing._reproduction import (
    difference,
    is_small,
    not_numbers,
    not_reproduced,
)
from leadline.gradients.tracing._snapshot import Snapshot
from leadline.recurrent import Network, Record, Weights, cell_of, record_cell


@dataclass(eq=False)
class Call:
    """One call of a recurrent module: its inputs, outputs and weights."""

    name: str
    module: nn.RNNBase | Network
    number: int
    """0 for the first call of this module inside the block."""
    x: Tensor | PackedSequence
    hx: Tensor | tuple[Tensor, Tensor] | None
    output: Tensor
    """The output that the module returned; the data of packed sequences."""
    last: tuple[Tensor, ...]
    """h_n, and c_n for the LSTM."""
    rng: Tensor | None
    """State of the global generator before the call, if dropout drew from it."""
    dtype: torch.dtype
    """The dtype of the computation, which autocast may make narrower than that of the output."""
    weights: Mapping[str, Tensor]
    """The weights that the call used, by name."""
    seen: Snapshot
    """The tensors that must not change: inputs, outputs and weights."""
    without_graph: MissingGraph | None = None
    """The reason why no output has a gradient; ``None`` if one has."""
    lower: tuple[Tensor, ...] = ()
    """The states of all layers below the top one; empty if the module hides them."""

    @property
    def title(self) -> str:
        """The module's name, or its class if it is the model itself."""
        return self.name or type(self.module).__name__

    @property
    def batch(self) -> int:
        """Number of samples."""
        if isinstance(self.x, PackedSequence):
            return int(self.x.batch_sizes[0])
        return 1 if self.x.dim() == 2 else self.x.shape[0 if _batch_first(self.module) else 1]

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors through which a loss can reach this call."""
        return (self.output, *self.last)

    def check(self) -> None:
        """Refuse a call if one of its tensors was changed in place.

        Raises:
            InputError: the output, h_n, c_n, the input, an initial state or a weight was changed.
        """
        changed = self.seen.changed()
        if not changed:
            return
        if changed[0] in self.weights:
            raise InputError(
                "a tape must be queried before the weights change",
                got=f"{self.title}: {changed[0]} was changed in place since the call",
                cause="a step of the optimiser, or an assignment such as weight_hh_l0.mul_()",
                cure="query the tape before the optimiser steps",
            )
        raise InputError(
            "a tape must be queried before inputs or outputs of a recurrent layer change",
            got=f"{self.title}: its {' and its '.join(changed)} was changed in place",
            cause="an in-place operation on it or on a view of it: nn.ReLU(inplace=True), mul_, "
            "detach_",
            cure=f"use the operation that returns a new tensor: {changed[0]} = {changed[0]}.relu()",
        )


@dataclass(frozen=True, eq=False)
class Pass:
    """One layer in one direction, in the order in which the layer read the sequence."""

    index: int
    direction: str
    """``"forward"`` or ``"reverse"``."""
    record: Record
    order: Tensor | None
    """The timestep of each step of a reverse scan, shape (T, B); ``None`` for forward."""
    mask: Tensor | None
    """The factors by which dropout multiplied this layer's input; ``None`` without dropout."""
    x: Tensor
    """The layer's input in the order of the scan, shape (T, B, I)."""


@dataclass(frozen=True, eq=False)
class Replayed:
    """The passes of all layers of one call."""

    call: Call
    layers: tuple[tuple[Pass, ...], ...]
    """The passes, by layer and then by direction."""
    lengths: Tensor | None
    """Number of timesteps of each sample; ``None`` if all samples have the same number."""
    samples: Tensor | None = None
    """Indices of the samples that were replayed; ``None`` for all samples."""
    recorded: Mapping[int, Tensor] = field(default_factory=dict)
    """The recorded states by layer, shape (T, B, H); at least those of the top layer."""

    def naming(self, index: int, direction: int = 0) -> dict[str, Any]:
        """Return the fields that identify a layer."""
        return {
            "name": self.call.title,
            "index": index,
            "direction": ("forward", "reverse")[direction],
            "call": self.call.number,
        }

    def by_time(self, output: Tensor) -> Tensor:
        """Return a tensor with the output's layout as (T, B, ...), zero in the padding."""
        module = self.call.module
        x = self.call.x
        if isinstance(x, PackedSequence):
            return self.chosen(pad_packed_sequence(x._replace(data=output))[0])
        if output.dim() == 2:
            return output.unsqueeze(1)
        return self.chosen(output.transpose(0, 1) if _batch_first(module) else output)

    def last_by_layer(self, last: Tensor) -> Tensor:
        """Return a tensor with the layout of h_n as (layers x directions, B, ...)."""
        return last.unsqueeze(1) if last.dim() == 2 else self.chosen(last)

    def chosen(self, x: Tensor) -> Tensor:
        """Return the replayed samples of a tensor of shape (..., B, ...), with the batch second."""
        return x if self.samples is None else x[:, self.samples]

    def padding(self) -> Tensor | None:
        """Return a mask that is true for padding, shape (T, B); ``None`` if there is none."""
        if self.lengths is None:
            return None
        time = len(self.layers[0][0].record.h)
        return torch.arange(time, device=self.lengths.device).unsqueeze(1) >= self.lengths


def replay(call: Call, *, may_be_nan: bool = False, samples: Tensor | None = None) -> Replayed:
    """Run a call again, layer by layer, and return the records of its layers.

    Args:
        call: the recorded call. A call in half precision is replayed in single precision.
        may_be_nan: accept activations that are not numbers.
        samples: indices of the samples to replay; all by default.

    Raises:
        InputError: a tensor was changed, the replay does not reproduce the recorded states, or an
            activation is not a number.
    """
    call.check()
    replayed = _scanned(call, may_be_nan, samples)
    with torch.no_grad():
        for index, states in replayed.recorded.items():
            _check_layer(replayed, index, states)
    return replayed


def _scanned(call: Call, may_be_nan: bool, samples: Tensor | None) -> Replayed:
    """Run every layer again, without comparing the result with the recorded states."""
    weights = _weights(call)
    directions = len(weights[0])
    shell = Replayed(call, (), None, samples)
    dtype = weights[0][0].W_x.dtype
    with torch.no_grad():
        if isinstance(call.x, PackedSequence):
            x = shell.by_time(call.x.data)
            lengths = pad_packed_sequence(call.x)[1]
            lengths = (lengths if samples is None else lengths[samples]).to(x.device)
        else:
            x = shell.by_time(call.x)
            lengths = None
        x = x.to(dtype)
        reverse = _reversal(len(x), x.shape[1], lengths, x.device) if directions == 2 else None
        if not x.shape[0]:
            raise InputError(
                "a sequence to trace has at least one timestep",
                got=f"{call.name}: an input of length 0",
            )
        starts = _starts(shell, weights, x)
        masks = _dropout_masks(shell, weights)
        recorded = {
            index: shell.by_time(states).to(dtype) for index, states in enumerate(call.lower)
        }
        recorded[len(weights) - 1] = shell.by_time(call.output.detach()).to(dtype)
        layers = []
        for index, layer in enumerate(weights):
            mask = masks[index - 1] if index and masks else None
            x = x if mask is None else x * mask
            passes = []
            again = []
            states = []
            for d, w in enumerate(layer):
                order = reverse if d else None
                scanned = _gather(x, order)
                start = [state[index * directions + d] for state in starts]
                if index in recorded:
                    size = recorded[index].shape[-1] // directions
                    h = _gather(recorded[index][..., d * size : (d + 1) * size], order)
                else:
                    h = _run(w, scanned, start)
                made = record_cell(w, scanned, h, *start)
                passes.append(
                    Pass(index, "reverse" if d else "forward", made, order, mask, scanned)
                )
                again.append(_gather(made.h, order))
                states.append(_gather(h, order))
                if not may_be_nan:
                    _check_numbers(call, index, again[-1], lengths)
            layers.append(tuple(passes))
            x = torch.cat(states, -1)
    return Replayed(call, tuple(layers), lengths, samples, recorded)


def _check_layer(replayed: Replayed, index: int, recorded: Tensor) -> None:
    """Refuse a layer if its equations do not reproduce its recorded states."""
    call = replayed.call
    again = torch.cat([_gather(one.record.h, one.order) for one in replayed.layers[index]], -1)
    padding = replayed.padding()
    if padding is not None:
        again = again.masked_fill(padding.unsqueeze(-1), 0)
        recorded = recorded.masked_fill(padding.unsqueeze(-1), 0)
    worst = difference(again, recorded, call.dtype)
    if is_small(worst, call.dtype):
        return
    if index > len(call.lower):
        spread = _spread_of_rounding(replayed)
        if not is_small(spread, call.dtype) and worst < 100 * spread:
            raise _chaotic(call, spread)
    raise not_reproduced(call.title, worst, call.module)


def _spread_of_rounding(replayed: Replayed) -> float:
    """Return how much the top layer's input changes if the stack's input is rounded differently.

    The change is relative to the largest value of the top layer's input.
    """
    call = replayed.call
    x = call.x.data if isinstance(call.x, PackedSequence) else call.x
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    scale = x.abs().clamp(min=1).double()
    rounded = (x + torch.finfo(call.dtype).eps * scale * (noise - 0.5)).to(wide(x).dtype)
    other = call.x._replace(data=rounded) if isinstance(call.x, PackedSequence) else rounded
    again = _scanned(replace(call, x=other), True, replayed.samples)
    before, after = (run.layers[-1][0].x.nan_to_num() for run in (replayed, again))
    return difference(after, before, call.dtype)


def _chaotic(call: Call, spread: float) -> InputError:
    """Return the refusal of a stack whose hidden lower layers amplify rounding."""
    return InputError(
        "the replay of a layer must reproduce the states that the model computed",
        got=f"{call.title}: one rounding error in the input changes a lower layer's states by "
        f"{spread:.1e} of the "
        "largest",
        cause=f"lower layers with chaotic states, which {type(call.module).__name__} does not show",
        cure="use smaller recurrent weights, float64, or one module for each layer",
    )


def computed_in(returned: Tensor) -> torch.dtype:
    """Return the dtype in which a module that has just returned computes."""
    device = returned.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else returned.dtype


def wide(parameter: Tensor) -> Tensor:
    """Return a parameter in single precision or better, without its graph."""
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))


def _batch_first(module: nn.Module) -> bool:
    return True if isinstance(module, Network) else bool(module.batch_first)


def _weights(call: Call) -> list[list[Weights]]:
    """Return the weights that a call used, by layer and direction."""
    module = call.module
    used = call.weights
    if isinstance(module, Network):
        return [
            [
                Weights(
                    layer.cell,
                    *(wide(used[f"layers.{index}.{name}"]) for name in ("W_x", "W_h", "b")),
                )
            ]
            for index, layer in enumerate(module.layers)
        ]
    cell = cell_of(module)
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    found = []
    for layer in range(module.num_layers):
        found.append([])
        for suffix in ("", "_reverse")[: 2 if module.bidirectional else 1]:
            tensors = [wide(used[f"{name}_l{layer}{suffix}"]) for name in names]
            W_p = wide(used[f"weight_hr_l{layer}{suffix}"]) if module.proj_size else None
            found[-1].append(Weights(cell, *tensors, W_p=W_p))
    return found


def _starts(shell: Replayed, weights: Sequence[Sequence[Weights]], x: Tensor) -> list[Tensor]:
    """Return h_0, and c_0 for the LSTM, each of shape (layers x directions, B, size)."""
    first = weights[0][0]
    count = len(weights) * len(weights[0])
    call = shell.call
    if call.hx is None:
        sizes = [first.W_h.shape[1]] + [first.hidden_size] * (first.cell.parts - 1)
        return [x.new_zeros(count, x.shape[1], size) for size in sizes]
    given = (call.hx,) if isinstance(call.hx, Tensor) else tuple(call.hx)
    return [shell.last_by_layer(state).detach().to(x.dtype) for state in given]


def _reversal(time: int, batch: int, lengths: Tensor | None, device: torch.device) -> Tensor:
    """Return the order that reverses each sample and leaves its padding at the end."""
    t = torch.arange(time, device=device).unsqueeze(1).expand(time, batch)
    ends = torch.full((batch,), time, device=device) if lengths is None else lengths
    return torch.where(t < ends, ends - 1 - t, t)


def _gather(x: Tensor, order: Tensor | None) -> Tensor:
    if order is None:
        return x
    return x[order, torch.arange(x.shape[1], device=x.device)]


def _run(w: Weights, x: Tensor, start: Sequence[Tensor]) -> Tensor:
    """Return the states of one layer, by PyTorch's own kernel if there is one for the cell."""
    kernel = w.cell.kernel()
    if kernel is None:
        return _stepwise(w, x, start)
    zeros = torch.zeros_like(w.W_x[:, 0])
    flat = [w.W_x, w.W_h, *(b if isinstance(b, Tensor) else zeros for b in (w.b_x, w.b_h))]
    options = (True, 1, 0.0, False, False, False)
    initial = [state.unsqueeze(0).contiguous() for state in start]
    if w.cell.parts > 1:
        return kernel(x, initial, [*flat, *([] if w.W_p is None else [w.W_p])], *options)[0]
    return kernel(x, initial[0], flat, *options)[0]


def _stepwise(w: Weights, x: Tensor, start: Sequence[Tensor]) -> Tensor:
    """Return the states of one layer, by the equations of its cell."""
    state = tuple(start)
    states = []
    for driven in w.from_x(x):
        gates = w.cell.activate(driven, w.from_h(state[0]), -1)
        state = w.cell.advance(gates, state)
        states.append(state[0])
    return torch.stack(states)


def _dropout_masks(shell: Replayed, weights: list[list[Weights]]) -> list[Tensor]:
    """Draw the dropout masks of all layers but the first again, from the recorded generator."""
    call = shell.call
    if call.rng is None or isinstance(call.module, Network):
        return []
    width = weights[0][0].W_h.shape[1] * len(weights[0])
    # PyTorch draws the mask of the whole batch with time first, or in the order of packed data.
    everyone = Replayed(call, (), None)
    ones = call.output.new_ones(*call.output.shape[:-1], width)
    ones = ones if isinstance(call.x, PackedSequence) else everyone.by_time(ones).contiguous()
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(call.rng)
        masks = [torch.dropout(ones, call.module.dropout, True) for _ in weights[1:]]
    if isinstance(call.x, PackedSequence):
        masks = [everyone.by_time(mask) for mask in masks]
    return [shell.chosen(mask).to(weights[0][0].W_x.dtype) for mask in masks]


def _check_numbers(call: Call, index: int, h: Tensor, lengths: Tensor | None) -> None:
    # A sum is fast, but infinities can make it NaN.
    if not bool(h.sum().isnan()):
        return
    bad = h.isnan().any(-1)
    if lengths is not None:
        bad &= torch.arange(len(h), device=h.device).unsqueeze(1) < lengths
    if bad.any():
        raise not_numbers(f"{call.title}, layer {index}", h, bad)
