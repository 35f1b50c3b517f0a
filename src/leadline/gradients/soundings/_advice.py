"""The numbers of a recurrent layer in words: the regime, what the weights alone would have said, and cures."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from leadline.gradients.soundings._flow_verdict import fold

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


def cures(kind: str, regime: Regime, rate: float, *, passing: float, time: int) -> tuple[Cure, ...]:
    """Return what is likely to help a layer, each cure with the number that suggests it.

    Args:
        kind: kind of the layer, as in ``LayerStability.kind``.
        regime: what happens to the gradient; a gradient that is stable needs no cure.
        rate: the largest Lyapunov exponent, in nats per timestep.
        passing: mean share of a state that passes a step.
        time: timesteps of the longest sequence.
    """
    if regime == "vanishes":
        return _against_vanishing(kind, rate, passing)
    return _against_explosion(kind, rate, time) if regime == "explodes" else ()


def _against_vanishing(kind: str, rate: float, passing: float) -> tuple[Cure, ...]:
    is_gated = kind in PASSES
    dies = np.isneginf(rate)
    half = (
        "nothing survives a step"
        if dies
        else f"half of it is lost every {_steps(2, rate)} timesteps"
    )
    found = []
    if not is_gated and passing < 0.3:
        advice = f"smaller weights and inputs, since the slope of {kind} averages {passing:.2g}: units are saturated"
        found.append(Cure("initialisation", advice))
    elif kind == "identity" and not dies:
        advice = f"W_h {fold(-rate)} times as large, since a step leaves {_share(rate)} of it"
        found.append(Cure("initialisation", advice))
    elif not is_gated and not dies:
        advice = (
            f"a larger or an orthogonal W_h, since a step leaves {_share(rate)} of it; measure again, as the "
            f"slope of {kind} changes with W_h"
        )
        found.append(Cure("initialisation", advice))
    gate = (
        f"a bias of +1 for {PASSES[kind]}, which averages {passing:.2g}"
        if is_gated
        else "an LSTM or a GRU"
    )
    found.append(Cure("gating", f"{gate}, since {half}"))
    if not dies:
        advice = f"beyond {_steps(100, rate)} timesteps less than 1 % arrives, and stopping there cuts off little"
        found.append(Cure("truncation", advice))
    return tuple(found)


def _against_explosion(kind: str, rate: float, time: int) -> tuple[Cure, ...]:
    factor = rate * time / math.log(10)
    return (
        Cure("clipping", f"the gradient grows 10^{factor:.1f}-fold over {time} timesteps"),
        Cure("initialisation", _smaller(kind, rate)),
        Cure("truncation", f"after {_steps(100, rate)} timesteps it has grown 100-fold"),
    )


def _smaller(kind: str, rate: float) -> str:
    """How much smaller weights should be: exactly of a linear layer, and of others as far as it can be said."""
    grows = f"since a step makes it {fold(rate)}-fold"
    if kind == "identity":
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
