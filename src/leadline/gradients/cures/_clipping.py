"""Clipping as a cure: the gradient of all parameters is scaled down where its norm is too large."""

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor, nn

from leadline.gradients.cures._cure import Cure, Treatment, Trend, Trial
from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.soundings._gradient_flow import GradientFlow


class Clipping(Cure):
    """Scales the gradient of all parameters and the flow down if the norm exceeds ``max_norm``.

    One factor scales all timesteps: clipping limits the optimiser's step and changes no slope.

    Reference: Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks*,
    2013.
    """

    name = "clipping"

    def treat(self, trial: Trial) -> Treatment:
        """Scale the flow of the untreated model; nothing is run again."""
        max_norm = trial.settings.max_norm
        norm = _parameter_norm(trial.untreated, trial.value)
        if norm <= max_norm:
            return Treatment(f"no change: the gradient's norm is {norm:.3g}", trial.flow)
        if math.isfinite(norm):
            description = f"the gradient's norm falls from {norm:.3g} to {max_norm:.3g}"
            return Treatment(description, _scaled(trial.flow, max_norm / norm))
        description = f"no help: the gradient's norm is {norm}, so clipping destroys the whole step"
        return Treatment(description, _scaled(trial.flow, 0.0))

    def against_vanishing(self, trend: Trend) -> str | None:
        """Give no advice: clipping makes no gradient larger."""
        return None

    def against_exploding(self, trend: Trend) -> str | None:
        """Give the growth over the whole sequence."""
        decades = trend.rate * trend.time / math.log(10)
        return f"the gradient grows 10^{decades:.1f}-fold over {trend.time} timesteps"


def _parameter_norm(model: nn.Module, value: Tensor) -> float:
    """Return the norm of the gradient of all parameters. The graph is kept for other cures."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        return 0.0
    gradients = torch.autograd.grad(value.sum(), parameters, retain_graph=True, allow_unused=True)
    norms = [gradient.double().norm() for gradient in gradients if gradient is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0


def _scaled(flow: GradientFlow, factor: float) -> GradientFlow:
    """Return the flow of ``factor`` times the loss."""
    shift = math.log(factor) if factor else -math.inf
    layers = tuple(_shifted(layer, shift) for layer in flow.layers)
    return dataclasses.replace(flow, layers=layers)


def _shifted(layer: LayerFlow, shift: float) -> LayerFlow:
    """Return a layer's flow with ``shift`` added to every logarithm."""
    logs = {
        field.name: getattr(layer, field.name)
        for field in dataclasses.fields(layer)
        if field.name.startswith("log_")
    }
    # If the gradient is infinite and the factor zero, the clipping of torch leaves NaN, and so does
    # this sum.
    with np.errstate(invalid="ignore"):
        shifted = {name: log + shift for name, log in logs.items() if log is not None}
    return dataclasses.replace(layer, **shifted)
