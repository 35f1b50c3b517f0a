"""The gradient flow of a model before and after each cure, measured on copies."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from leadline import checks
from leadline.checks import ShortRepr
from leadline.figures import Drawing, log_lines
from leadline.gradients.cures import CURES, CureSettings, Trial
from leadline.gradients.soundings._flow import (
    LN10,
    LayerFlow,
    median,
    median_range,
    median_slope,
    spread,
)
from leadline.gradients.soundings._gradient_flow import GradientFlow
from leadline.gradients.soundings._layer import chosen_layer, out_of
from leadline.gradients.tracing._losses import checked_model
from leadline.sounding import Protocol, Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

UNTREATED = "as it is"
"""Name of the untreated model in tables and legends."""

TIE = math.log(1.01)
"""Spreads that differ by a factor of less than 1.01 are equal."""


@record("gradients.Remedy")
@dataclass(frozen=True, eq=False)
class CureEffect(ShortRepr):
    """One cure and the gradient flow after it."""

    name: str
    """``"initialisation"``, ``"gating"``, ``"truncation"`` or ``"clipping"``."""
    treatment: str
    """The change that was made, in words."""
    flow: GradientFlow
    """The gradient flow of the treated copy."""


@record("gradients.Remedies")
@dataclass(frozen=True, eq=False)
class CureComparison(Sounding):
    """The gradient flow of a model before and after each cure.

    :func:`compare_cures` makes it and shows an example. All flows have the same layers in the same
    order. The *spread* of a flow is the ratio of its largest norm to its smallest one; a good cure
    makes the spread small.
    """

    before: GradientFlow
    """The flow of the untreated model."""
    after: tuple[CureEffect, ...]
    """The cures that apply to the model, each with its treatment and the flow after it."""
    left_out: Mapping[str, str]
    """The reason why a cure does not apply to the model, by the cure's name."""

    @property
    def flows(self) -> dict[str, GradientFlow]:
        """All flows by name; the untreated model comes first, as ``"as it is"``."""
        return {UNTREATED: self.before} | {effect.name: effect.flow for effect in self.after}

    @property
    def worst_layer(self) -> int:
        """Index of the layer with the largest spread in the untreated model."""
        return int(np.argmax([spread(layer) for layer in self.before.layers]))

    @property
    def verdict(self) -> Verdict:
        """The cure that makes the worst layer's spread smallest."""
        layers = {name: flow.layers[self.worst_layer] for name, flow in self.flows.items()}
        title = layers[UNTREATED].title
        rank = out_of(len(self.before.layers), "worst")
        return Verdict(f"{title}: {_steadiest(layers)}{rank}")

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence per cure: the change that it made, or the reason why it is left out."""
        changes = [f"{effect.name}: {effect.treatment}" for effect in self.after]
        left_out = [f"{name} is left out: {reason}" for name, reason in self.left_out.items()]
        return (*changes, *left_out)

    def table(self) -> "pd.DataFrame":
        """Return one row per cure and layer, with medians over the batch.

        Columns: ``cure``, ``layer``, ``slope`` (nats per step back), ``horizon`` (timesteps with a
        norm above 1 % of the largest), ``log10_largest``, ``log10_smallest`` and ``log10_spread``
        (base-10 logarithms; ``-inf`` for a norm of zero, ``inf`` for the spread of a gradient that
        dies or is infinite).
        """
        import pandas as pd

        rows = []
        for name, flow in self.flows.items():
            for layer in flow.layers:
                low, high = median_range(layer)
                logs = (high / LN10, low / LN10, spread(layer) / LN10)
                rows.append((name, layer.title, median_slope(layer), _horizon(layer), *logs))
        norms = ["log10_largest", "log10_smallest", "log10_spread"]
        return pd.DataFrame(rows, columns=["cure", "layer", "slope", "horizon", *norms])

    def drawing(self, layer: int | None = None) -> Drawing:
        """Return the gradient norms of one layer before and after each cure.

        They are medians over the batch; the untreated model is dashed.

        Args:
            layer: index of the layer; by default :attr:`worst_layer`.

        Raises:
            InputError: ``layer`` is out of range.
        """
        index = self.worst_layer if layer is None else layer
        layers = {name: chosen_layer(flow.layers, index) for name, flow in self.flows.items()}
        untreated, *treated = layers
        return log_lines(
            np.arange(1, 1 + layers[untreated].log_total.shape[1]),
            # The untreated model comes last, so its line lies on top.
            {name: median(layers[name].log_total) / LN10 for name in [*treated, untreated]},
            title=f"{layers[untreated].title}: the gradient after each cure",
            x_label="timestep t",
            y_label="‖dL/dh<sub>t</sub>‖",
            dashed=(untreated,),
            margin_t=64,
        )


def compare_cures(
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    *,
    window: int = 20,
    max_norm: float = 1.0,
    seed: int = 0,
) -> CureComparison:
    """Measure a model's gradient flow before and after each cure, on copies of the model.

    The cures are:

    - *initialisation*: ``W_h`` of every gate becomes a random orthogonal matrix, for ReLU the
      identity;
    - *gating*: the forget gate of an LSTM and the update gate of a GRU get a bias of +1; a layer
      without gates is replaced by a GRU of the same sizes with new weights and that bias;
    - *truncation*: no gradient passes from one segment of ``window`` timesteps to the one before
      it, within one call;
    - *clipping*: the gradient of all parameters is scaled to norm ``max_norm`` if it is larger, and
      the flow with it. One factor scales all timesteps: clipping limits the optimiser's step and
      changes no slope.

    The model itself never changes. A cure changes the outputs of its copy; the first two also undo
    some of the training of a trained model. The comparison shows how far gradients reach, not how
    well the model fits.

    Args:
        model: a module that :func:`trace` accepts.
        loss: a function that runs the model that it receives and returns a loss; terms of any shape
            are summed.
        window: timesteps in a segment of truncated backpropagation, at least 1.
        max_norm: the largest norm that clipping allows, above 0.
        seed: seed of the new weights. Every run sees the same state of the global generators, which
            is restored.

    Returns:
        The flows before and after the cures.

    Raises:
        InputError: ``window`` or ``max_norm`` is out of range, the model cannot be copied, or
            :func:`trace` refuses the model or the loss, for example a loss that runs another model
            than the one that it receives.

    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 8, seed=0), seed=0)
    >>> x, y = recurrent.running_average(4, 50, seed=0)
    >>> def loss(model):
    ...     return recurrent.mse(model(x)[0], y, last_only=True)
    >>> cures = gradients.compare_cures(model, loss)
    >>> cures.table().query("cure in ['as it is', 'gating']").slope.round(1).tolist()
    [-0.6, -0.2]

    References: Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural
    networks*, 2013; Le, Jaitly & Hinton, *A simple way to initialize recurrent networks of
    rectified linear units*, 2015; Jozefowicz, Zaremba & Sutskever, *An empirical exploration of
    recurrent network architectures*, 2015.
    """
    model = checked_model(model, "compare_cures()")
    loss = checks.function(loss, "loss", wanted="a function of the model that returns a loss")
    settings = CureSettings(window, max_norm, seed)
    trial = Trial(model, loss, settings)
    before = trial.flow
    after = []
    left_out = {}
    for cure in CURES:
        treatment = cure.treat(trial)
        if treatment.flow is None:
            left_out[cure.name] = treatment.description
        else:
            after.append(CureEffect(cure.name, treatment.description, treatment.flow))
    recorded = dataclasses.asdict(settings)
    seed = recorded.pop("seed")
    protocol = Protocol({"model": type(model).__name__, **recorded}, seeds=(seed,))
    return CureComparison(protocol, before, tuple(after), left_out)


def _horizon(layer: LayerFlow) -> int:
    """Return the effective horizon of the median sample, in timesteps."""
    return int(np.median(layer.horizon)) if len(layer.horizon) else 0


def _steadiest(layers: Mapping[str, LayerFlow]) -> str:
    """Name the cure with the smallest spread, or report a tie of cures or no improvement."""
    spreads = {name: spread(layer) for name, layer in layers.items()}
    before = _decades(spreads[UNTREATED])
    lowest = min(spreads.values())
    best = [name for name, value in spreads.items() if value == lowest or value <= lowest + TIE]
    if UNTREATED in best:
        return f"no cure makes the gradient steadier; its norms spread over {before}"
    if len(best) > 1:
        names = " and ".join(best)
        return (
            f"{names} steady the gradient equally, from a spread of {before} to {_decades(lowest)}"
        )
    return f"{best[0]} steadies the gradient most, from a spread of {before} to {_decades(lowest)}"


def _decades(log: float) -> str:
    return "infinity" if math.isinf(log) else f"10^{decimals(log / LN10, '.2f')}"
