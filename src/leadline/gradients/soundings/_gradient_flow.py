"""The gradient flow: the gradient at each timestep of every recurrent layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leadline.figures import Drawing
from leadline.gradients.soundings._flow import (
    LN10,
    LayerFlow,
    median,
    overflow,
    spread,
    underflow,
)
from leadline.gradients.soundings._flow_drawing import CELL, DIRECT, FlowCurves, flow_drawing
from leadline.gradients.soundings._flow_verdict import describe_flow, flow_notes
from leadline.gradients.soundings._layer import out_of
from leadline.sounding import Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


@record("gradients.GradientFlow")
@dataclass(frozen=True, eq=False)
class GradientFlow(Sounding):
    """The norm ‖dL/dh_t‖ at every timestep of every recurrent layer.

    With the row vectors ``lambda_t = dL/dh_t``, the *direct* part ``e_t``, which reaches h_t
    through the layers above, and the Jacobians ``J_t = dh_t/dh_{t-1}``,

        lambda_t = e_t + lambda_{t+1} J_{t+1}.

    The second term is the *recurrent* part. The gradient of a layer's output tensor contains the
    direct part only. :meth:`Tape.gradient_flow` makes a gradient flow.

    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, nonlinearity="identity", seed=0), seed=0)
    >>> x, y = recurrent.running_average(8, 10, seed=0)
    >>> with gradients.trace(model) as tape:
    ...     loss = recurrent.mse(model(x)[0], y, last_only=True)
    >>> flow = tape.gradient_flow(loss)
    >>> flow.layers[0].total.shape, len(flow.table())
    ((8, 10), 80)

    Reference: Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks*,
    2013.
    """

    layers: tuple[LayerFlow, ...]
    """The recurrent layers, in the order of the forward pass."""

    @property
    def worst_layer(self) -> int:
        """Index of the layer with the largest ratio of norms; see :func:`spread`."""
        return int(np.argmax([spread(layer) for layer in self.layers]))

    @property
    def verdict(self) -> Verdict:
        """The change of dL/dh_t on its way back from the loss, in the worst layer."""
        layer = self.layers[self.worst_layer]
        rank = out_of(len(self.layers), "worst")
        return Verdict(f"{layer.title}: {describe_flow(layer)}{rank}")

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on every layer: the change, the range of float32, cells and unusual samples."""
        return tuple(
            f"{layer.title}: {note}"
            for layer in self.layers
            for note in (describe_flow(layer), *flow_notes(layer))
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per layer, sample and timestep.

        Columns: ``layer``, ``sample``, ``t``, ``log10_total``, ``log10_direct``,
        ``log10_recurrent``, ``log10_input`` (base-10 logarithms of norms), ``log10_cell_total``
        (NaN for a layer without cells), ``hidden_norm``, ``lost`` (see :class:`LayerFlow`).
        """
        import pandas as pd

        frames = []
        for layer in self.layers:
            samples, time = layer.log_total.shape
            cells = np.nan if layer.log_cell_total is None else layer.log_cell_total.ravel() / LN10
            columns = {
                "layer": layer.title,
                "sample": np.repeat(np.arange(samples), time),
                "t": np.tile(np.arange(1, time + 1), samples),
                "log10_total": layer.log_total.ravel() / LN10,
                "log10_direct": layer.log_direct.ravel() / LN10,
                "log10_recurrent": layer.log_recurrent.ravel() / LN10,
                "log10_input": layer.log_input.ravel() / LN10,
                "log10_cell_total": cells,
                "hidden_norm": layer.hidden_norm.ravel(),
                "lost": False if layer.lost is None else layer.lost.ravel(),
            }
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def drawing(self) -> Drawing:
        """Return gradient norms and norms of the hidden states by timestep.

        Both are medians over the batch, on logarithmic axes.
        """
        return flow_drawing([_curves(layer) for layer in self.layers])


def _curves(layer: LayerFlow) -> FlowCurves:
    """Return the curves of a layer, as base-10 logarithms of medians over the batch."""
    total = median(layer.log_known) / LN10
    gradients = {"": total, DIRECT: median(layer.log_direct) / LN10}
    if layer.log_cell_total is not None:
        gradients[CELL] = median(layer.log_cell_total) / LN10
    with np.errstate(divide="ignore"):
        state = np.log10(median(layer.hidden_norm))
    return FlowCurves(layer.title, gradients, state, _float32_losses(layer, total))


def _float32_losses(layer: LayerFlow, log10_total: np.ndarray) -> dict[str, int]:
    """Return the timestep at which the gradient leaves the range of float32 by the kind of loss."""
    timesteps = {}
    natural = log10_total[None] * LN10
    underflows = int(underflow(natural, layer.direction)[0])
    if not underflows and layer.lost is not None:
        known = np.flatnonzero(np.isfinite(log10_total))
        # The last known timestep on the way back from the loss.
        underflows = 1 + int(known[0]) if len(known) else 0
    if underflows:
        timesteps["underflows"] = underflows
    overflows = int(overflow(natural, layer.direction)[0])
    if overflows:
        timesteps["overflows"] = overflows
    return timesteps
