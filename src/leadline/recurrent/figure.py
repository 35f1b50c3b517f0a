"""How the soundings of recurrent networks are drawn."""

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import plotly.graph_objects as go

from leadline.figures import ACCENT, COLOURS, NEUTRAL, heat_map, log_lines, panels, plain
from leadline.recurrent.flow import LN10, GradientFlow, LayerFlow, median, overflow, underflow
from leadline.recurrent.influence import LayerInfluence
from leadline.recurrent.terms import WeightTerms
from leadline.recurrent.training import Training

if TYPE_CHECKING:
    from leadline.recurrent.stability import LayerStability


def flow_figure(flow: GradientFlow) -> go.Figure:
    """Gradient norms, total and direct, beside the norms of the hidden states; one colour per layer.

    Medians over the batch. A cross marks where float32 loses the gradient.
    """
    axes = [("gradient", "timestep t", "‖dL/dh<sub>t</sub>‖"), ("hidden state", "timestep t", "‖h<sub>t</sub>‖")]
    figure = panels("How much gradient arrives", axes, height=420, hovermode="x unified")
    for layer, colour in zip(flow.layers, cycle(COLOURS)):
        total = median(layer.log_total)
        gradients = {f"{layer.title}: total": total, f"{layer.title}: direct part": median(layer.log_direct)}
        _draw(figure, "", gradients, colour)
        _mark_float32(figure, layer, total, colour)
        with np.errstate(divide="ignore"):
            _draw(figure, "2", {f"{layer.title}: state": np.log(median(layer.hidden_norm))}, colour)
    return figure.update_yaxes(tickprefix="10<sup>", ticksuffix="</sup>")


def _draw(figure: go.Figure, panel: str, logs: Mapping[str, np.ndarray], colour: str) -> None:
    """Lines over all timesteps in one panel, the direct part dashed; the legend shows the first panel's."""
    (time,) = {len(curve) for curve in logs.values()}
    dashed = tuple(name for name in logs if name.endswith("direct part"))
    in_decades = {name: curve / LN10 for name, curve in logs.items()}
    drawn = log_lines(np.arange(1, time + 1), in_decades, title="", x_label="", y_label="", dashed=dashed)
    for trace in cast("tuple[Any, ...]", drawn.data):
        is_line = trace.mode == "lines"
        trace.update({"line" if is_line else "marker": {"color": colour}, "xaxis": f"x{panel}", "yaxis": f"y{panel}"})
        figure.add_trace(trace.update(showlegend=is_line and not panel))


def _mark_float32(figure: go.Figure, layer: LayerFlow, total: np.ndarray, colour: str) -> None:
    """Where the way back from the loss leaves the range of float32."""
    for what, find in (("underflows", underflow), ("overflows", overflow)):
        t = int(find(total[None], layer.direction)[0])
        if t:
            figure.add_scatter(
                x=[t],
                y=[total[t - 1] / LN10],
                mode="markers",
                marker={"color": colour, "symbol": "x", "size": 11},
                name=plain(f"{layer.title}: float32 {what} at t = {t}"),
                hovertemplate=f"float32 {what}",
            )


def remedies_figure(layers: Mapping[str, LayerFlow]) -> go.Figure:
    """One layer's gradient norms before and after each cure, medians over the batch; as it is, dashed."""
    untreated = next(iter(layers))
    return log_lines(
        np.arange(1, 1 + layers[untreated].log_total.shape[1]),
        {
            name: median(layers[name].log_total) / LN10 for name in [*list(layers)[1:], untreated]
        },  # on top of the others
        title=f"{layers[untreated].title}: what each cure does to the gradient",
        x_label="timestep t",
        y_label="‖dL/dh<sub>t</sub>‖",
        dashed=(untreated,),
        margin_t=64,
    )


def terms_figure(terms: WeightTerms) -> go.Figure:
    """The norm of what each timestep adds to the gradient of every layer's recurrent weights."""
    curves = {f"{layer.title}: W_h": layer.log_norms["W_h"] / LN10 for layer in terms.layers}
    return log_lines(
        np.arange(1, 1 + max(map(len, curves.values()))),
        curves,
        title="What each timestep adds to the gradient of the shared weights",
        x_label="timestep t",
        y_label="‖dL/dh<sub>t</sub> dh<sub>t</sub>/dW<sub>h</sub>‖",
        margin_t=64,
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
