"""How the soundings of recurrent networks are drawn."""

import numpy as np
import plotly.graph_objects as go

from leadline.figures import heat_map, log_lines
from leadline.recurrent.flow import LN10, GradientFlow
from leadline.recurrent.influence import LayerInfluence
from leadline.recurrent.training import Training


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


def influence_figure(layer: LayerInfluence) -> go.Figure:
    """The influence matrix as a heat map of powers of ten."""
    return heat_map(
        layer.log_norms / LN10,
        title=f"{layer.title}: how much the loss at k tells the state at t",
        x_label="timestep t",
        y_label="loss at timestep k",
        scale_label="‖dL<sub>k</sub>/dh<sub>t</sub>‖",
        power_of_ten=True,
    )


def training_figure(training: Training) -> go.Figure:
    """What is left of the zero predictor's error, by optimiser step: the median model and the worst."""
    share = np.log10(training.validation_error / training.zero_error[:, None])
    return log_lines(
        training.steps,
        {"median": np.median(share, axis=0), "worst": share.max(axis=0)},
        title="How the running average is learned",
        x_label="optimiser steps",
        y_label="validation error over the zero predictor's",
    )
