"""How the soundings of recurrent networks are drawn."""

import numpy as np
import plotly.graph_objects as go

from leadline.figures import log_lines
from leadline.recurrent.flow import LN10, GradientFlow


def flow_figure(flow: GradientFlow) -> go.Figure:
    """Total and direct gradient norm by timestep, the median over the batch, one colour per layer."""
    curves = {}
    for layer in flow.layers:
        curves[f"{layer.title}: total"] = np.nanmedian(layer.log_total, axis=0) / LN10
        curves[f"{layer.title}: direct part"] = np.nanmedian(layer.log_direct, axis=0) / LN10
    return log_lines(
        np.arange(1, flow.layers[0].log_total.shape[1] + 1),
        curves,
        title="How much gradient arrives",
        x_label="timestep t",
        y_label="‖dL/dh<sub>t</sub>‖",
        dashed=tuple(name for name in curves if name.endswith("direct part")),
    )
