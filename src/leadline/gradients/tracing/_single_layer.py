"""A run of a single recurrent layer, which leaves the layer unchanged."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from leadline import checks
from leadline.errors import InputError
from leadline.gradients.tracing._replay import Call, Replayed, replay
from leadline.gradients.tracing._tape import trace
from leadline.recurrent import Network, is_sequence_module
from leadline.torch_internals import buffers_of


def run_alone(layer: Any, x: Any, hx: Any) -> Replayed:
    """Run a layer on its inputs and return its states, without changing the layer.

    Raises:
        InputError: ``layer`` is not a recurrent layer, or the inputs or initial states do not fit.
    """
    layer = _checked_layer(layer)
    first = next(layer.parameters())
    if first.is_complex():
        raise InputError(
            "measure_stability() needs real weights",
            got=f"weights of {str(first.dtype).removeprefix('torch.')}",
        )
    x = _checked_inputs(layer, x)
    hx = _checked_starts(layer, x, hx)
    starts = () if hx is None else (hx,)
    # Only dropout draws random numbers. Without dropout the global generator is left alone, because
    # restoring it would rewind it for other threads.
    draws = isinstance(layer, nn.RNNBase) and layer.training and layer.dropout > 0
    with (
        torch.random.fork_rng(devices=[], enabled=draws),
        torch.no_grad(),
        own_buffers(layer),
        trace(layer) as tape,
    ):
        _ = layer(x.to(first.dtype), *starts)
        (call,) = tape.calls
        assert isinstance(call, Call)
        return replay(call)


@contextmanager
def own_buffers(module: nn.Module) -> Iterator[None]:
    """Let a module work on copies of its buffers inside the block (spectral norm changes them)."""
    kept = [(owner, dict(buffers_of(owner))) for owner in module.modules()]
    try:
        for owner, buffers in kept:
            for name, buffer in buffers.items():
                buffers_of(owner)[name] = None if buffer is None else buffer.clone()
        yield
    finally:
        for owner, buffers in kept:
            buffers_of(owner).update(buffers)


def _checked_layer(layer: Any) -> nn.Module:
    if is_sequence_module(layer):
        return layer
    is_model = isinstance(layer, nn.Module)
    holds_one = is_model and any(map(is_sequence_module, layer.modules()))
    cause = None
    if is_model:
        cause = "a whole model" if holds_one else "the module contains none of these layers"
    raise InputError(
        "measure_stability() needs a recurrent layer: torch.nn.RNN, LSTM, GRU, or a network of "
        "leadline.recurrent",
        got=f"layer = {checks.shown(layer)}",
        cause=cause,
        cure="pass the recurrent module inside the model, and the inputs of this module"
        if holds_one
        else None,
    )


def _checked_inputs(layer: nn.Module, x: Any) -> Tensor | PackedSequence:
    values = x.data if isinstance(x, PackedSequence) else x
    is_dense = isinstance(values, Tensor) and values.layout is torch.strided and not values.is_meta
    if not is_dense or values.is_complex() or values.is_quantized:
        is_array = hasattr(x, "__array__") and not isinstance(x, Tensor)
        raise InputError(
            "measure_stability() needs inputs x as a dense tensor of real numbers, or as packed "
            "sequences",
            got=f"x = {checks.shown(x)}",
            cure="torch.from_numpy(x)" if is_array else None,
        )
    if values.dim() == 0 or values.shape[-1] != layer.input_size:
        raise InputError(
            f"the last axis of x holds the layer's {layer.input_size} inputs",
            got=f"x of shape {tuple(values.shape)}",
            cause="inputs of the model instead of the layer inside it"
            if values.dim() > 1
            else None,
        )
    dims = (3,) if isinstance(layer, Network) else (2, 3)
    if not isinstance(x, PackedSequence) and values.dim() not in dims:
        raise InputError(
            "x has the axes batch, time and inputs, or, for torch's modules, time and inputs",
            got=f"x of shape {tuple(values.shape)}",
        )
    if not isinstance(x, PackedSequence) and not values.shape[_time_axis(layer, values)]:
        raise InputError(
            "measure_stability() needs at least one timestep",
            got=f"x of length 0, shape {tuple(values.shape)}",
        )
    if isinstance(x, PackedSequence) and isinstance(layer, Network):
        raise InputError(
            "a layer of leadline.recurrent needs inputs x as a tensor",
            got="x = packed sequences",
            cure="use torch.nn's modules",
        )
    return x


def _checked_starts(layer: nn.Module, x: Tensor | PackedSequence, hx: Any) -> Any:
    """Return the initial states, if they fit the layer."""
    if hx is None:
        return None
    if isinstance(layer, Network):
        raise InputError(
            "a layer of leadline.recurrent starts at zero",
            got=f"hx = {checks.shown(hx)}",
            cure="use torch.nn's modules",
        )
    assert isinstance(layer, nn.RNNBase)
    is_lstm = isinstance(layer, nn.LSTM)
    parts = hx if isinstance(hx, (tuple, list)) else (hx,)
    if len(parts) != 1 + is_lstm or isinstance(hx, (tuple, list)) != is_lstm:
        wanted = (
            "a pair hx = (h_0, c_0) for an LSTM"
            if is_lstm
            else "one tensor hx = h_0 for this layer"
        )
        raise InputError(f"measure_stability() needs {wanted}", got=f"hx = {checks.shown(hx)}")
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    batch = _batch(layer, x)
    sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)
    first = next(layer.parameters())
    for part, size, name in zip(parts, sizes, "hc", strict=False):
        shape = (rows, size) if batch is None else (rows, batch, size)
        is_dense = isinstance(part, Tensor) and part.layout is torch.strided and not part.is_meta
        if not is_dense or part.is_complex() or tuple(part.shape) != shape:
            raise InputError(
                f"an initial state {name}_0 has the shape (layers x directions, batch, size), "
                f"here {shape}",
                got=f"{name}_0 = {checks.shown(part)}",
                cause="hx is never batch first"
                if isinstance(part, Tensor) and part.dim() == 3
                else None,
            )
    starts = tuple(part.to(first.dtype) for part in parts)
    return starts if is_lstm else starts[0]


def _time_axis(layer: nn.Module, x: Tensor) -> int:
    is_batch_first = isinstance(layer, Network) or bool(layer.batch_first)
    return 1 if is_batch_first and x.dim() == 3 else 0


def _batch(layer: nn.RNNBase, x: Tensor | PackedSequence) -> int | None:
    """Return the number of samples; ``None`` for a sequence without a batch axis."""
    if isinstance(x, PackedSequence):
        return int(x.batch_sizes[0])
    if x.dim() == 2:
        return None
    return x.shape[0 if layer.batch_first else 1]
