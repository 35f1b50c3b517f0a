"""Records a forward pass of a model that stays as it is, and answers what its gradients do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from leadline.errors import InputError
from leadline.recurrent.cells import RNNRecord
from leadline.recurrent.flow import GradientFlow, LayerFlow
from leadline.recurrent.layers import RNNLayer
from leadline.recurrent.sweep import Rows, adjoint_sweep
from leadline.sounding import Protocol


@dataclass(eq=False)
class _Call:
    name: str
    layer: RNNLayer
    x: Tensor
    states: Tensor


@dataclass(eq=False)
class Tape:
    """What was recorded inside :func:`trace`: the input and the states of each recurrent layer."""

    model: nn.Module
    _calls: list[_Call] = field(default_factory=list)

    def gradient_flow(self, loss: Tensor) -> GradientFlow:
        """How much of the loss's gradient arrives at each hidden state.

        Args:
            loss: a scalar that was computed from the recorded forward pass; terms of any shape are summed.

        Returns:
            The flow; the graph is retained, so that more can be asked.

        Raises:
            InputError: nothing was recorded, or the loss does not depend on what was.
        """
        if not self._calls:
            raise InputError(
                "a tape needs a forward pass to look at",
                got=f"{type(self.model).__name__} was not called inside the block",
                cause="the model was called before `with trace(model)` or after it",
                cure="call the model inside the block",
            )
        # The gradient of a layer's states is their direct part: the recurrence does not go through the stacked tensor.
        states = [call.states for call in self._calls]
        direct = torch.autograd.grad(loss.sum(), states, retain_graph=True, allow_unused=True)
        if all(gradient is None for gradient in direct):
            raise InputError(
                "the loss must come from the recorded forward pass",
                got="a loss that does not depend on any recorded state",
                cause="a loss from another forward pass, or a detached one",
                cure="compute the loss from what the model returned inside the block",
            )
        layers = [
            _layer_flow(i, call, torch.zeros_like(call.states) if gradient is None else gradient)
            for i, (call, gradient) in enumerate(zip(self._calls, direct, strict=True))
        ]
        batch, time, _ = self._calls[0].states.shape
        settings = {"model": type(self.model).__name__, "batch": batch, "timesteps": time}
        return GradientFlow(Protocol(settings), tuple(layers))


@contextmanager
def trace(model: nn.Module) -> Iterator[Tape]:
    """Record the recurrent layers of ``model`` while it runs inside the block; nothing of the model changes.

    Args:
        model: any module that holds recurrent layers.

    Raises:
        InputError: the model holds none.

    >>> from leadline import recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    >>> x, y = recurrent.running_average(8, 10, seed=0)
    >>> with recurrent.trace(model) as tape:
    ...     loss = recurrent.mse(model(x)[0], y, last_only=True)
    >>> tape.gradient_flow(loss).layers[0].total.shape
    (8, 10)
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, RNNLayer)]
    if not layers:
        held = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
        raise InputError(
            "a model to trace holds recurrent layers (leadline.recurrent.RNN)",
            got=f"a model made of {held}",
            cure="give the module that holds the recurrent layers",
        )
    tape = Tape(model)

    def record(name: str):
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(layer, RNNLayer)
            tape._calls.append(_Call(name, layer, inputs[0], output))

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in layers]
    try:
        yield tape
    finally:
        for handle in handles:
            handle.remove()


def _layer_flow(index: int, call: _Call, direct: Tensor) -> LayerFlow:
    record = RNNRecord.of(call.layer, call.states)
    seeds = Rows.of(direct.detach().transpose(0, 1))
    swept = adjoint_sweep(seeds, record.pull_back)
    to_input = Rows.of(record.to_input(swept.total.unit), swept.total.log)
    return LayerFlow(
        name=call.name or "RNN",
        index=index,
        log_total=_by_sample(swept.total.log),
        log_direct=_by_sample(seeds.log),
        log_recurrent=_by_sample(swept.log_recurrent),
        log_input=_by_sample(to_input.log),
        hidden_norm=_by_sample(torch.linalg.vector_norm(record.states.double(), dim=-1)),
    )


def _by_sample(by_time: Tensor) -> np.ndarray:
    return by_time.double().T.cpu().numpy()
