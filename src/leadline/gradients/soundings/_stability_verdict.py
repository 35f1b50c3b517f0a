"""The verdict on the stability of one layer, and notes on the numbers behind it."""

import math

import numpy as np

from leadline.gradients.soundings._flow_verdict import KEEPS, fold
from leadline.gradients.soundings._layer_stability import LayerStability
from leadline.sounding import decimals


def describe_stability(layer: LayerStability) -> str:
    """Return the regime of a layer with the exponent that decides it."""
    rate = float(layer.spectrum[0])
    exponent = f"Lyapunov exponent {decimals(rate, '+.3f')}"
    error = f"± {decimals(layer.error[0], '.3f')} per step"
    if math.isinf(rate):
        dead = f"{layer.num_dead} of {layer.num_samples}"
        return f"the gradient vanishes: one step loses it in {dead} samples"
    if layer.regime == "undecided":
        return f"undecided, since the {exponent} {error} is too uncertain; try a longer sequence"
    if layer.num_dead:
        kept = f"{layer.num_samples - layer.num_dead} of {layer.num_samples} samples"
        state = "is stable" if layer.regime == "stable" else layer.regime
        return f"the gradient {state} in {kept} and is lost in {layer.num_dead} ({exponent})"
    if layer.regime == "stable":
        span = f"within {KEEPS:.0f}-fold over {layer.time} timesteps"
        return f"the gradient is stable, {span} ({exponent} {error})"
    change = "growing" if rate > 0 else "shrinking"
    return (
        f"the gradient {layer.regime}, {change} {fold(abs(rate))}-fold per step back "
        f"({exponent} {error})"
    )


def stability_notes(layer: LayerStability) -> list[str]:
    """Return sentences on the weights, the measured slope, lost samples and advice."""
    notes = []
    if layer.keeping_gate is None:
        notes.append(_radius_note(layer))
    if layer.measured_slope is not None:
        notes.append(_slope_note(layer))
    if 0 < layer.num_dead < layer.num_samples:
        exponents = layer.exponents[:, 0]
        mean = decimals(exponents[np.isfinite(exponents)].mean(), "+.3f")
        notes.append(
            f"in {layer.num_dead} of {layer.num_samples} samples one step loses the gradient; "
            f"the others have exponent {mean}"
        )
    notes += [f"{name} may help: {text}" for name, text in layer.advice.items()]
    return notes


def _radius_note(layer: LayerStability) -> str:
    """Compare the spectral radius with the regime, and explain why they differ."""
    radius = float(layer.spectral_radius[0])
    bound = float(layer.gain_bound[0])
    number = f"the spectral radius is {radius:.3f}"
    if layer.regime == "vanishes" and bound < 1:
        return f"{number}, and no step can grow more than {bound:.3f}-fold"
    if layer.regime == "explodes" and radius < 1:
        return (
            f"{number}, but the gradient need not vanish: W_h is not normal, and a step can grow "
            f"{bound:.3g}-fold"
        )
    if layer.regime == "vanishes" and radius > 1:
        return (
            f"{number}, but the gradient need not explode: the mean slope of {layer.kind} is "
            f"{layer.passing:.2g}"
        )
    return number


def _slope_note(layer: LayerStability) -> str:
    slope, error = layer.mean_slope
    if math.isnan(slope):
        return "the gradient flow has no slope"
    spread = "" if math.isnan(error) else f" ± {error:.3f}"
    loss = "" if layer.is_last_only else ", for a loss that enters at many timesteps"
    return f"the measured slope is {decimals(slope, '+.3f')}{spread}{loss}"
