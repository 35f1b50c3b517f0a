"""The numbers of a recurrent layer in words: the regime, what the weights alone would have said, and cures."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from leadline.gradients.soundings._flow_verdict import KEEPS, fold
from leadline.sounding import decimals

if TYPE_CHECKING:
    from leadline.gradients.soundings._stability import LayerStability

Regime = Literal["vanishes", "explodes", "stable", "undecided"]

PASSES = {"lstm": "the forget gate", "gru": "the update gate"}
"""The gate that passes a state on, of the kinds that have one."""


@dataclass(frozen=True)
class Cure:
    """What is likely to help, with the number that suggests it.

    >>> print(Cure("truncation", "beyond 9 timesteps less than 1 % arrives"))
    truncation: beyond 9 timesteps less than 1 % arrives
    """

    name: str
    """``"initialisation"``, ``"clipping"``, ``"gating"`` or ``"truncation"``."""
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.advice}"


def cures(layer: "LayerStability") -> tuple[Cure, ...]:
    """What is likely to help, each with the number that suggests it; nothing where nothing is wrong."""
    if layer.regime == "vanishes":
        return _against_vanishing(layer)
    return _against_explosion(layer) if layer.regime == "explodes" else ()


def _against_vanishing(layer: "LayerStability") -> tuple[Cure, ...]:
    rate, passing, is_gated = layer.spectrum[0], layer.passing, layer.kind in PASSES
    dies = np.isneginf(rate)
    half = (
        "nothing survives a step"
        if dies
        else f"half of it is lost every {_steps(2, rate)} timesteps"
    )
    found = []
    if not is_gated and passing < 0.3:
        advice = f"smaller weights and inputs, since the slope of {layer.kind} averages {passing:.2g}: units are saturated"
        found.append(Cure("initialisation", advice))
    elif layer.kind == "identity" and not dies:
        advice = f"W_h {fold(-rate)} times as large, since a step leaves {_share(rate)} of it"
        found.append(Cure("initialisation", advice))
    elif not is_gated and not dies:
        advice = (
            f"a larger or an orthogonal W_h, since a step leaves {_share(rate)} of it; measure again, as the "
            f"slope of {layer.kind} changes with W_h"
        )
        found.append(Cure("initialisation", advice))
    gate = (
        f"a bias of +1 for {PASSES[layer.kind]}, which averages {passing:.2g}"
        if is_gated
        else "an LSTM or a GRU"
    )
    found.append(Cure("gating", f"{gate}, since {half}"))
    if not dies:
        advice = f"beyond {_steps(100, rate)} timesteps less than 1 % arrives, and stopping there cuts off little"
        found.append(Cure("truncation", advice))
    return tuple(found)


def _against_explosion(layer: "LayerStability") -> tuple[Cure, ...]:
    rate = layer.spectrum[0]
    factor = rate * layer.time / math.log(10)
    return (
        Cure("clipping", f"the gradient grows 10^{factor:.1f}-fold over {layer.time} timesteps"),
        Cure("initialisation", _smaller(layer, rate)),
        Cure("truncation", f"after {_steps(100, rate)} timesteps it has grown 100-fold"),
    )


def _smaller(layer: "LayerStability", rate: float) -> str:
    """How much smaller weights should be: exactly of a linear layer, and of others as far as it can be said."""
    grows = f"since a step makes it {fold(rate)}-fold"
    if layer.kind == "identity":
        return f"W_h {fold(-rate)} times as large, {grows}"
    return f"a smaller W_h, {grows}; measure again, as units that saturate less pass on more"


def _share(rate: float) -> str:
    """The share that a step leaves, with two digits where they show that it is not 1."""
    text = f"{math.exp(rate):.2g}"
    return fold(rate) if float(text) == 1 else text


def _steps(factor: float, rate: float) -> str:
    """How many timesteps it takes to change by ``factor``."""
    count = math.log(factor) / abs(rate)
    return f"{count:.1f}" if count < 3 else f"{math.ceil(count)}"


def tell(layer: "LayerStability") -> str:
    """The regime, the numbers side by side, and the cures."""
    rate, error = layer.spectrum[0], layer.error[0]
    number = f"Lyapunov exponent {decimals(rate, '+.3f')} ± {error:.3f} nats per timestep"
    if np.isneginf(rate):
        number = "Lyapunov exponent minus infinity"
    match layer.regime:
        case "vanishes":
            shrinking = f", shrinking {fold(-rate)}-fold per step back"
            said = "the gradient vanishes" + ("" if np.isneginf(rate) else shrinking)
        case "explodes":
            said = f"the gradient explodes, {fold(rate)}-fold per step back"
        case "stable":
            said = f"the gradient is stable: it changes less than {KEEPS:.0f}-fold over {layer.time} timesteps"
        case _:
            said = "undecided, since the error leaves it open; a longer sequence or more samples would tell"
    if layer.dead and layer.dead < layer.samples:
        largest = layer.exponents[:, 0]
        others = (
            f"the others have exponent {decimals(largest[np.isfinite(largest)].mean(), '+.3f')}"
        )
        others = others if np.isneginf(rate) else f"in the others {said}"
        said = f"in {layer.dead} of {layer.samples} samples nothing survives a step; {others}"
    parts = [f"{said} ({number}", *([] if layer.kind in PASSES else [_of_radius(layer)])]
    if layer.measured_slope is not None:
        slope, of_slope = layer.mean_slope
        spread = "" if math.isnan(of_slope) else f" ± {of_slope:.3f}"
        other = "" if layer.is_last_only else ", of a loss that enters at many timesteps"
        told = (
            "the flow has no slope here"
            if math.isnan(slope)
            else f"the flow's slope is {decimals(slope, '+.3f')}{spread}{other}"
        )
        parts.append(told)
    cures = f". What may help: {'; '.join(map(str, layer.cures))}" if layer.cures else ""
    return ", ".join(parts) + ")" + cures


def _of_radius(layer: "LayerStability") -> str:
    """What weights alone would have said, and where that is wrong, why."""
    radius, bound = float(layer.spectral_radius[0]), float(layer.gain_bound[0])
    number = f"spectral radius {radius:.3f}"
    if layer.regime == "vanishes" and bound < 1:
        return f"{number}, and {bound:.3f}-fold at most in any step"
    if layer.regime == "explodes" and radius < 1:
        return f"{number}, which is no reason to vanish: W_h is not normal and a step can grow {bound:.3g}-fold"
    if layer.regime == "vanishes" and radius > 1:
        return f"{number}, which is no reason to explode: the slope of {layer.kind} averages {layer.passing:.2g}"
    return number
