"""How the soundings of recurrent networks are drawn."""

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from leadline.figures import ACCENT, COLOURS, NEUTRAL, heat_map, log_lines, panels, plain
from leadline.recurrent.flow import LN10, GradientFlow
from leadline.recurrent.influence import LayerInfluence
from leadline.recurrent.training import Training

if TYPE_CHECKING:
    from leadline.recurrent.stability import LayerStability


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


def stability_figure(layer: "LayerStability") -> go.Figure:
    """Eigenvalues of ``W_h`` beside the unit circle, and predictions beside what is measured, on one axis."""
    axes = [
        ("eigenvalues of W_h", "real part", "imaginary part"),
        ("prediction against truth", "growth per step back, in nats", ""),
    ]
    figure = panels(f"{layer.title}: why the gradient {_REGIMES[layer.regime]}", axes, height=440)
    _draw_eigenvalues(figure, layer)
    _draw_rates(figure, layer)
    return figure


_REGIMES = {
    "vanishes": "vanishes",
    "explodes": "explodes",
    "stable": "is stable",
    "undecided": "may vanish or explode",
}


def _draw_eigenvalues(figure: go.Figure, layer: "LayerStability") -> None:
    angle = np.linspace(0, 2 * np.pi, 181)
    figure.add_scatter(
        x=np.cos(angle), y=np.sin(angle), mode="lines", line={"color": NEUTRAL, "dash": "dot"}, name="unit circle",
        hoverinfo="skip",
    )  # fmt: skip
    for gate, values, colour in zip(layer.gates, layer.eigenvalues, COLOURS, strict=False):
        figure.add_scatter(
            x=values.real,
            y=values.imag,
            mode="markers",
            marker={"color": colour, "size": 7, "opacity": 0.75},
            name=f"gate {gate}" if gate else "eigenvalues",
            hovertemplate="%{x:.3f} %{y:+.3f}i",
            showlegend=bool(gate),
        )
    reach = 1.1 * max(1.0, float(layer.spectral_radius.max()))
    figure.update_layout(
        xaxis={"range": [-reach, reach], "constrain": "domain"},
        yaxis={"range": [-reach, reach], "scaleanchor": "x", "constrain": "domain"},
    )


def _draw_rates(figure: go.Figure, layer: "LayerStability") -> None:
    """One row per way to tell; what is minus infinity stands at the left edge as a triangle."""
    rows = layer.rates
    values = np.concatenate([value for _, value, _ in rows])
    finite = values[np.isfinite(values)]
    low, high = finite.min(initial=0), finite.max(initial=0)
    edge = low - 0.12 * max(high - low, 0.1)
    names = [plain(name).replace("value ×", "<br>value ×") for name, _, _ in rows]
    for (_, value, error), name, (colour, symbol) in zip(rows, names, _MARKS, strict=False):
        known = np.isfinite(value)
        count = np.arange(1, len(value) + 1)
        for where, at, shape, text in [
            (known, value, symbol, "%{x:.4f} nats per step"),
            (np.isneginf(value), np.full(len(value), edge), "triangle-left-open", "minus infinity"),
        ]:
            if where.any():
                figure.add_scatter(
                    x=at[where],
                    y=[name] * int(where.sum()),
                    xaxis="x2",
                    yaxis="y2",
                    mode="markers",
                    marker={"color": colour, "symbol": shape, "size": 9, "opacity": 0.85},
                    error_x={"array": error[where], "color": colour, "visible": bool(np.isfinite(error[where]).any())},
                    customdata=count[where],
                    hovertemplate=f"%{{customdata}}: {text}",
                    name=name,
                    showlegend=False,
                )
    figure.add_shape(
        type="line", x0=0, x1=0, y0=0, y1=1, xref="x2", yref="y2 domain", line={"color": NEUTRAL, "dash": "dot"}
    )
    figure.update_layout(
        yaxis2={"categoryorder": "array", "categoryarray": names[::-1], "range": [-0.5, len(names) - 0.5]}
    )


_MARKS = [(NEUTRAL, "diamond"), (NEUTRAL, "diamond"), (ACCENT, "circle"), (COLOURS[1], "star")]
"""Predictions from weights alone are grey; what is measured has colours."""
