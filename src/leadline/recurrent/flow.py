"""How much gradient arrives at each timestep, layer by layer."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from leadline.sounding import Sounding, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

LN10 = math.log(10)


@dataclass(frozen=True, eq=False)
class LayerFlow:
    """One recurrent layer. Logarithms are natural, of 2-norms per sample; ``-inf`` says that nothing arrives."""

    name: str
    index: int
    """Place in the stack, from 0 at the bottom."""
    log_total: Float[np.ndarray, "B T"]
    """ln ‖dL/dh_t‖."""
    log_direct: Float[np.ndarray, "B T"]
    """ln of the part that reaches h_t through the layers above alone, not through h_{t+1}."""
    log_recurrent: Float[np.ndarray, "B T"]
    """ln of the part that reaches h_t through h_{t+1}."""
    log_input: Float[np.ndarray, "B T"]
    """ln ‖dL/dx_t‖, x being the input of this layer."""
    hidden_norm: Float[np.ndarray, "B T"]
    """‖h_t‖."""

    @property
    def total(self) -> Float[np.ndarray, "B T"]:
        """‖dL/dh_t‖ in float64; what is below 1e-308 reads 0 here and as a number in ``log_total``."""
        return _exp(self.log_total)

    @property
    def direct(self) -> Float[np.ndarray, "B T"]:
        """The norm of the direct part; see ``log_direct``."""
        return _exp(self.log_direct)

    @property
    def recurrent(self) -> Float[np.ndarray, "B T"]:
        """The norm of the recurrent part; see ``log_recurrent``."""
        return _exp(self.log_recurrent)

    def slope(self, first: int = 0, last: int | None = None) -> Float[np.ndarray, "B"]:  # noqa: F821
        """Growth of ln ‖dL/dh_t‖ per step of distance from the end, by least squares over t in [first, last).

        Positive where the gradient explodes on its way back, negative where it vanishes.

        Returns:
            Nats per timestep, one per sample.
        """
        curves = self.log_total[:, first:last]
        t = np.arange(curves.shape[1], dtype=float)
        t -= t.mean()
        return -(curves @ t) / (t @ t)


def _exp(log: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(log)


@dataclass(frozen=True, eq=False)
class GradientFlow(Sounding):
    """|dL/dh_t| at every timestep of every recurrent layer, in forward order.

    The *direct* part reaches h_t through the layers above; the *recurrent* part through h_{t+1}. The gradient of a
    layer's output tensor is the direct part only.
    """

    layers: tuple[LayerFlow, ...]

    @property
    def verdict(self) -> Verdict:
        """Per layer, by how much the gradient changes per step on its way from the last timestep to the first."""
        parts = []
        for layer in self.layers:
            slope = float(np.median(layer.slope())) if layer.log_total.shape[1] > 1 else 0.0
            first, last = (float(np.median(layer.log_total[:, t])) / LN10 for t in (0, -1))
            parts.append(
                f"{layer.name}: the gradient {_change(slope)}, from 10^{last:.1f} at the last timestep to "
                f"10^{first:.1f} at the first"
            )
        return Verdict("; ".join(parts))

    def table(self) -> "pd.DataFrame":
        """One row per layer, sample and timestep.

        Columns: ``layer``, ``sample``, ``t``, ``log10_total``, ``log10_direct``, ``log10_recurrent``,
        ``log10_input`` (base-10 logarithms of norms), ``hidden_norm``.
        """
        import pandas as pd

        frames = []
        for layer in self.layers:
            samples, time = layer.log_total.shape
            frames.append(
                pd.DataFrame(
                    {
                        "layer": layer.name,
                        "sample": np.repeat(np.arange(samples), time),
                        "t": np.tile(np.arange(1, time + 1), samples),
                        "log10_total": layer.log_total.ravel() / LN10,
                        "log10_direct": layer.log_direct.ravel() / LN10,
                        "log10_recurrent": layer.log_recurrent.ravel() / LN10,
                        "log10_input": layer.log_input.ravel() / LN10,
                        "hidden_norm": layer.hidden_norm.ravel(),
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    def figure(self) -> "go.Figure":
        """Gradient norms by timestep on a logarithmic axis, the median over the batch."""
        from leadline.recurrent.figure import flow_figure

        return flow_figure(self)


def _change(slope: float) -> str:
    if abs(slope) < 0.01:
        return "keeps its size"
    factor = math.exp(min(abs(slope), 700))
    return f"{'grows' if slope > 0 else 'shrinks'} {factor:.3g}-fold per step back"
