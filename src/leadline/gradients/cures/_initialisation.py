"""Initialisation as a cure: orthogonal recurrent weights, or the identity for ReLU."""

import torch
from torch import nn

from leadline.gradients.cures._cure import Cure, Treatment, Trend, Trial
from leadline.gradients.soundings._flow_verdict import fold
from leadline.recurrent import Layer, cell_of

SATURATED = 0.3
"""A layer whose nonlinearity has a smaller mean slope is called saturated."""


class Initialisation(Cure):
    """Replaces ``W_h`` of every gate with an orthogonal matrix; of a ReLU layer, with the identity.

    References: Le, Jaitly & Hinton, *A simple way to initialize recurrent networks of rectified
    linear units*, 2015; Saxe, McClelland & Ganguli, *Exact solutions to the nonlinear dynamics of
    learning*, 2014.
    """

    name = "initialisation"

    def treat(self, trial: Trial) -> Treatment:
        """Draw new recurrent weights for every layer whose ``W_h`` is known."""
        model = trial.copy_model()
        generator = trial.generator(self.name)
        has_weights = False
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, Layer | nn.RNNBase | nn.RNNCellBase):
                    has_weights |= _draw_weights(module, generator)
        if not has_weights:
            return Treatment("no layer has a known W_h")
        description = "W_h becomes orthogonal, for a ReLU layer the identity"
        return Treatment(description, trial.flow_of(model))

    def against_vanishing(self, trend: Trend) -> str | None:
        """Advise on the scale of ``W_h``: a factor for a linear layer, a direction for others."""
        if trend.keeping_gate:
            return None
        if trend.pass_through < SATURATED:
            return (
                f"smaller weights and inputs: units are saturated, since the mean slope of "
                f"{trend.kind} is {trend.pass_through:.2g}"
            )
        if trend.is_lost_at_once:
            return None
        share = trend.share_per_step
        if trend.kind == "identity":
            return (
                f"W_h {fold(-trend.rate)} times as large, since a step leaves {share} of the "
                "gradient"
            )
        return (
            f"a larger or an orthogonal W_h, since a step leaves {share} of the gradient; "
            f"measure again, as the slope of {trend.kind} changes with W_h"
        )

    def against_exploding(self, trend: Trend) -> str | None:
        """Advise a smaller ``W_h``; with the factor for a linear layer."""
        growth = f"since a step makes the gradient {fold(trend.rate)} times as large"
        if trend.kind == "identity":
            return f"W_h {fold(-trend.rate)} times as large, {growth}"
        return f"a smaller W_h, {growth}; measure again, as less saturated units pass on more"


def _draw_weights(module: nn.Module, generator: torch.Generator) -> bool:
    """Replace the recurrent weights of one module in place; return True if it has any."""
    cell = cell_of(module)
    has_weights = False
    for name, parameter in module.named_parameters(recurse=False):
        if not name.startswith(("W_h", "weight_hh")):
            continue
        has_weights = True
        for block in parameter.chunk(cell.num_gates):
            fresh = torch.empty(block.shape, dtype=torch.float64)
            if cell.name == "relu":
                nn.init.eye_(fresh)
            else:
                nn.init.orthogonal_(fresh, generator=generator)
            block.copy_(fresh)
    return has_weights
