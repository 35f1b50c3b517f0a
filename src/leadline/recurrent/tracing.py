"""Records a forward pass of a model that stays as it is, and answers what its gradients do."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from leadline.errors import InputError
from leadline.recurrent.flow import GradientFlow, LayerFlow
from leadline.recurrent.replay import MODULES, Call, Pass, Replayed, replay
from leadline.recurrent.sweep import Rows, adjoint_sweep
from leadline.sounding import Protocol


@dataclass(eq=False)
class Tape:
    """What was recorded inside :func:`trace`: what went into each recurrent module and what came out."""

    model: nn.Module
    calls: list[Call] = field(default_factory=list)

    def gradient_flow(self, loss: Tensor) -> GradientFlow:
        """How much of the loss's gradient arrives at each hidden state.

        Args:
            loss: a scalar that was computed from the recorded forward pass; terms of any shape are summed.

        Returns:
            The flow; the graph is retained, so that more can be asked.

        Raises:
            InputError: nothing was recorded, the loss does not depend on what was, or a layer cannot be replayed.
        """
        self._check(loss)
        tensors = [tensor for call in self.calls for tensor in call.outputs]
        reached = [tensor for tensor in tensors if tensor.requires_grad]
        found = iter(torch.autograd.grad(loss.sum(), reached, retain_graph=True, allow_unused=True))
        gradients = [next(found) if tensor.requires_grad else None for tensor in tensors]
        if all(gradient is None for gradient in gradients):
            raise _foreign_loss("a loss that depends on no recorded state")
        layers: list[LayerFlow] = []
        for call in self.calls:
            own, gradients = gradients[: len(call.outputs)], gradients[len(call.outputs) :]
            layers += _flow_through(replay(call), own)
        settings = {"model": type(self.model).__name__, "loss": float(loss.detach().sum())}
        return GradientFlow(Protocol(settings), tuple(layers))

    def _check(self, loss: Tensor) -> None:
        if not self.calls:
            raise InputError(
                "a tape needs a forward pass to look at",
                got=f"no recurrent layer of {type(self.model).__name__} was called inside the block",
                cause="the model was called before `with trace(model)` or after it, or a compiled or scripted module "
                "hides its calls",
                cure="call the model inside the block, uncompiled",
            )
        if not loss.requires_grad:
            raise _foreign_loss("a loss without a graph")


@contextmanager
def trace(model: nn.Module) -> Iterator[Tape]:
    """Record the recurrent layers of ``model`` while it runs inside the block; nothing of the model changes.

    ``torch.nn.RNN``, ``LSTM`` and ``GRU`` are recorded as they are, in any configuration: several layers, both
    directions, packed sequences, projections, dropout, initial states, several modules, modules that are called more
    than once; and so are the layers of :mod:`leadline.recurrent`.

    Args:
        model: any module that holds recurrent layers.

    Raises:
        InputError: the model holds none, or hides their calls.

    >>> from leadline import recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    >>> x, y = recurrent.running_average(8, 10, seed=0)
    >>> with recurrent.trace(model) as tape:
    ...     loss = recurrent.mse(model(x)[0], y, last_only=True)
    >>> tape.gradient_flow(loss).layers[0].total.shape
    (8, 10)
    """
    modules = {name: module for name, module in model.named_modules() if isinstance(module, MODULES)}
    if not modules:
        _refuse(model)
    tape, numbers, states = Tape(model), Counter[str](), {}

    def before(name: str):
        def hook(module: nn.Module, inputs: tuple) -> None:
            draws = module.training and getattr(module, "dropout", 0) and getattr(module, "num_layers", 1) > 1
            states[name] = torch.get_rng_state() if draws else None

        return hook

    def after(name: str):
        def hook(module: nn.Module, inputs: tuple, keywords: dict, returned: tuple) -> None:
            assert isinstance(module, MODULES)
            given = dict(zip(("input", "hx"), inputs, strict=False)) | keywords
            output, last = returned
            number = numbers[name]
            numbers[name] += 1
            tape.calls.append(
                Call(
                    name=name,
                    module=module,
                    number=number,
                    x=_detached(given["input"] if "input" in given else given["x"]),
                    hx=given.get("hx"),
                    output=output.data if isinstance(output, PackedSequence) else output,
                    last=last if isinstance(last, tuple) else (last,),
                    rng=states.pop(name, None),
                )
            )

        return hook

    handles = []
    for name, module in modules.items():
        handles.append(module.register_forward_pre_hook(before(name)))
        handles.append(module.register_forward_hook(after(name), with_kwargs=True))
    try:
        yield tape
    finally:
        for handle in handles:
            handle.remove()


def _detached(x: Tensor | PackedSequence) -> Tensor | PackedSequence:
    return x._replace(data=x.data.detach()) if isinstance(x, PackedSequence) else x.detach()


def _refuse(model: nn.Module) -> None:
    held = sorted({getattr(module, "original_name", type(module).__name__) for module in model.modules()})
    is_hidden = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    raise InputError(
        "a model to trace holds recurrent layers: torch.nn.RNN, LSTM or GRU, or those of leadline.recurrent",
        got=f"a model made of {', '.join(held)}",
        cause="a scripted module hides its layers" if is_hidden else None,
        cure="trace the module before scripting it" if is_hidden else "give the module that holds the recurrent layers",
    )


def _foreign_loss(got: str) -> InputError:
    return InputError(
        "the loss must come from the recorded forward pass",
        got=got,
        cause="a loss from another forward pass, a detached one, or one computed under no_grad",
        cure="compute the loss from what the model returned inside the block",
    )


def _flow_through(replayed: Replayed, gradients: list[Tensor | None]) -> list[LayerFlow]:
    """From the gradients with respect to a call's outputs to the flow through each of its layers."""
    call = replayed.call
    directions = len(replayed.layers[0])
    output, *last = (
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(call.outputs, gradients, strict=True)
    )
    from_above = Rows.of(replayed.by_time(output))
    at_end = [replayed.last_by_layer(gradient) for gradient in last]
    flows = []
    for index in range(len(replayed.layers) - 1, -1, -1):
        to_inputs = []
        for d, one in enumerate(replayed.layers[index]):
            size = one.record.h.shape[-1]
            ends = [gradient[index * directions + d] for gradient in at_end]
            direct = _seeds(_ordered(from_above.part(d * size, (d + 1) * size), one.order), ends, one, replayed.lengths)
            swept = adjoint_sweep(direct, one.record.pull_back)
            to_input = _ordered(Rows.of(one.record.to_input(swept.total.unit), swept.total.log), one.order)
            to_inputs.append(to_input)
            flows.append(_layer_flow(replayed, one, direct, swept.total, swept.recurrent, to_input))
        from_above = to_inputs[0] if directions == 1 else to_inputs[0] + to_inputs[1]
        mask = replayed.layers[index][0].mask
        if mask is not None:
            from_above = Rows.of(from_above.unit * mask, from_above.log)
    return (
        flows[::-1]
        if directions == 1
        else [flow for pair in zip(flows[-2::-2], flows[::-2], strict=True) for flow in pair]
    )


def _seeds(from_above: Rows, ends: list[Tensor], one: Pass, lengths: Tensor | None) -> Rows:
    """The direct parts of a pass, shape (T, B, S): from the layer above, and from h_n and c_n at each sample's end."""
    time, batch, _ = from_above.unit.shape
    size = one.record.state_size
    padded = torch.nn.functional.pad(from_above.unit, (0, size - from_above.unit.shape[-1]))
    last_step = torch.full((batch,), time - 1, device=padded.device) if lengths is None else lengths - 1
    at_end = torch.zeros_like(padded)
    at_end[last_step, torch.arange(batch, device=padded.device)] = torch.cat(ends, -1)
    return Rows.of(padded, from_above.log) + Rows.of(at_end)


def _ordered(rows: Rows, order: Tensor | None) -> Rows:
    if order is None:
        return rows
    sample = torch.arange(order.shape[1], device=order.device)
    return Rows(rows.unit[order, sample], rows.log[order, sample])


def _layer_flow(replayed: Replayed, one: Pass, direct: Rows, total: Rows, recurrent: Rows, to_input: Rows) -> LayerFlow:
    size, padding = one.record.h.shape[-1], replayed.padding()

    def by_sample(by_time: Tensor) -> np.ndarray:
        values = by_time.double()
        if padding is not None:
            values = values.masked_fill(padding, torch.nan)
        return values.T.cpu().numpy()

    def log_norm(rows: Rows, first: int | None = None, last: int | None = size) -> np.ndarray:
        return by_sample(_ordered(rows.part(first, last), one.order).log)

    has_cell = one.record.state_size > size
    hidden = Rows.of(one.record.h)
    return LayerFlow(
        name=replayed.call.name or type(replayed.call.module).__name__,
        index=one.index,
        direction=one.direction,
        call=replayed.call.number,
        log_total=log_norm(total),
        log_direct=log_norm(direct),
        log_recurrent=log_norm(recurrent),
        log_cell_total=log_norm(total, size, None) if has_cell else None,
        log_input=by_sample(to_input.log),
        log_initial=Rows.of(one.record.pull_back(0, total.unit[0]), total.log[0]).part(None, size).log.cpu().numpy(),
        hidden_norm=np.exp(log_norm(hidden)),
    )
