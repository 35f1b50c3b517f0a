"""How the soundings of recurrent networks are drawn."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from leadline.figures import (
    ACCENT,
    COLOURS,
    NEUTRAL,
    Drawing,
    heat_map,
    log_lines,
    log_ticks,
    log_traces,
    panel_layout,
    plain,
)
from leadline.gradients.soundings._flow import (
    LN10,
    GradientFlow,
    LayerFlow,
    median,
    overflow,
    underflow,
)
from leadline.gradients.soundings._flow_verdict import KEEPS
from leadline.gradients.soundings._influence import LayerInfluence
from leadline.gradients.soundings._weight_terms import WeightTerms
from leadline.sounding import decimals

if TYPE_CHECKING:
    from leadline.gradients.soundings._stability import LayerStability


def flow_drawing(flow: GradientFlow) -> Drawing:
    """Gradient norms, total and direct, beside the norms of the hidden states; one colour per layer.

    Medians over the batch; what an LSTM's cells receive is dotted. A cross marks where float32 loses the gradient.
    """
    axes = [
        ("", "timestep t", "gradient ‖dL/dh<sub>t</sub>‖"),
        ("", "timestep t", "hidden state ‖h<sub>t</sub>‖"),
    ]
    is_alone = len(flow.layers) == 1
    gradients = [_gradients(layer) for layer in flow.layers]
    with np.errstate(divide="ignore"):
        states = [np.log10(median(layer.hidden_norm)) for layer in flow.layers]
    drawn = [values for own in gradients for values in own.values()]
    traces: list[dict[str, Any]] = []
    for layer, own, state, colour in zip(
        flow.layers, gradients, states, cycle(COLOURS), strict=False
    ):
        t = np.arange(1, 1 + layer.log_total.shape[1])
        look = {"colours": [colour], "legendgroup": layer.title}
        for part, values in own.items():
            name, is_total = (
                (part if is_alone else f"{layer.title}: {part}") if part else layer.title,
                not part,
            )
            dashes = {
                "dashed": (name,) if part == DIRECT else (),
                "dotted": (name,) if part == CELL else (),
            }
            traces += log_traces(
                t,
                {name: values},
                among=drawn,
                showlegend=is_total or is_alone,
                xaxis="x",
                yaxis="y",
                **dashes,
                **look,
            )
        traces += _float32_marks(layer, own[""], colour)
        traces += log_traces(
            t, {layer.title: state}, among=states, showlegend=False, xaxis="x2", yaxis="y2", **look
        )
    steps = {"range": [0.5, max(map(len, states)) + 0.5]}
    ticks = {
        "xaxis": steps,
        "xaxis2": steps,
        "yaxis": log_ticks(*drawn),
        "yaxis2": log_ticks(*states),
    }
    layout = panel_layout(
        "How much gradient arrives", axes, height=420, hovermode="x unified", **ticks
    )
    return {"data": [*traces, *_legend(gradients)], "layout": layout}


DIRECT, CELL = "direct part", "what the cell receives"


def _gradients(layer: LayerFlow) -> dict[str, np.ndarray]:
    """The curves of a layer, medians over the batch: the total under no name, the direct part, and dL/dc_t."""
    found = {"": median(layer.log_known) / LN10, DIRECT: median(layer.log_direct) / LN10}
    return (
        found
        if layer.log_cell_total is None
        else found | {CELL: median(layer.log_cell_total) / LN10}
    )


def _legend(gradients: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """What dashes and marks say, once for all layers; of one alone, its own dashes say it."""
    are_many = len(gradients) > 1
    parts = {part for own in gradients for part in own}
    values = np.concatenate([values for own in gradients for values in own.values()])
    looks = [
        (
            DIRECT,
            {"mode": "lines", "line": {"color": NEUTRAL, "dash": "dash"}},
            are_many and DIRECT in parts,
        ),
        (
            CELL,
            {"mode": "lines", "line": {"color": NEUTRAL, "dash": "dot"}},
            are_many and CELL in parts,
        ),
        ("exactly zero", _mark("triangle-down-open"), bool(np.isneginf(values).any())),
        ("infinite", _mark("triangle-up-open"), bool(np.isposinf(values).any())),
    ]
    return [
        {"type": "scatter", "x": [None], "y": [None], "name": name, "hoverinfo": "skip", **look}
        for name, look, is_there in looks
        if is_there
    ]


def _mark(symbol: str) -> dict[str, Any]:
    return {"mode": "markers", "marker": {"color": NEUTRAL, "symbol": symbol, "size": 8}}


def _float32_marks(layer: LayerFlow, log10_total: np.ndarray, colour: str) -> list[dict[str, Any]]:
    """Where the way back from the loss leaves the range of float32."""
    found = []
    for what, find in (("underflows", underflow), ("overflows", overflow)):
        t = int(find(log10_total[None] * LN10, layer.direction)[0])
        if not t and what == "underflows" and layer.lost is not None:
            known = np.flatnonzero(np.isfinite(log10_total))
            t = (
                1 + int(known[0]) if len(known) else 0
            )  # the last timestep on the way back that is known
        if t:
            found.append(
                {
                    "type": "scatter",
                    "x": [t],
                    "y": [float(log10_total[t - 1])],
                    "mode": "markers",
                    "marker": {"color": colour, "symbol": "x", "size": 11},
                    "name": plain(f"{layer.title}: float32 {what} at t = {t}"),
                    "hovertemplate": f"float32 {what}",
                }
            )
    return found


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


def influence_drawing(layer: LayerInfluence) -> Drawing:
    """The influence matrix as a heat map of powers of ten."""
    return heat_map(
        layer.log_norms / LN10,
        title=f"{layer.title}: how much loss term k tells the state at t",
        x_label="timestep t",
        y_label="loss term k",
        scale_label="‖dL<sub>k</sub>/dh<sub>t</sub>‖",
        power_of_ten=True,
    )


def stability_drawing(layer: "LayerStability") -> Drawing:
    """Eigenvalues of ``W_h`` beside the unit circle, and predictions beside what is measured, on one axis."""
    axes = [
        ("", "real part of W<sub>h</sub>’s eigenvalues", "imaginary part"),
        ("", "growth per step back, in nats", ""),
    ]
    reach = 1.1 * max(1.0, float(layer.spectral_radius.max()))
    names = [_in_two_lines(name) for name, _, _ in layer.rates]
    rates = _rates(layer)
    circle = {"type": "circle", "x0": -1, "x1": 1, "y0": -1, "y1": 1, "xref": "x", "yref": "y"}
    layout = panel_layout(
        f"{layer.title}: why the gradient {_REGIMES[layer.regime]}",
        axes,
        height=440,
        xaxis={"range": [-reach, reach], "constrain": "domain"},
        yaxis={"range": [-reach, reach], "constrain": "domain", "scaleanchor": "x"},
        yaxis2={
            "categoryorder": "array",
            "categoryarray": names[::-1],
            "range": [-0.5, len(names) - 0.5],
        },
        xaxis2={"zerolinecolor": NEUTRAL} | _range_of_rates(rates, layer.time),
        shapes=[{**circle, "line": {"color": NEUTRAL, "dash": "dot"}}],
    )
    return {"data": [*_eigenvalues(layer), rates], "layout": layout}


def _range_of_rates(rates: Mapping[str, Any], time: int) -> dict[str, Any]:
    """A range for rates that differ less than would change the verdict, so that rounding is not magnified."""
    errors = np.nan_to_num(rates["error_x"]["array"])
    low = float((rates["x"] - errors).min())
    high = float((rates["x"] + errors).max())
    least = 2 * math.log(KEEPS) / time
    if high - low >= least:
        return {}
    middle = (low + high) / 2
    return {"range": [middle - least / 2, middle + least / 2]}


def _in_two_lines(name: str) -> str:
    return plain(name).replace("value ×", "<br>value ×")


_REGIMES = {
    "vanishes": "vanishes",
    "explodes": "explodes",
    "stable": "is stable",
    "undecided": "may vanish or explode",
}


def _eigenvalues(layer: "LayerStability") -> list[dict[str, Any]]:
    return [
        {
            "type": "scatter",
            "x": values.real,
            "y": values.imag,
            "mode": "markers",
            "marker": {"color": colour, "size": 7, "opacity": 0.75},
            "name": f"gate {gate}" if gate else "eigenvalues",
            "hovertemplate": "%{x:.3f} %{y:+.3f}i",
            "showlegend": bool(gate),
        }
        for gate, values, colour in zip(layer.gates, layer.eigenvalues, COLOURS, strict=False)
    ]


def _rates(layer: "LayerStability") -> dict[str, Any]:
    """One row per way to tell; what is minus infinity stands at the left edge as a triangle."""
    known = np.concatenate([value for _, value, _ in layer.rates])
    finite = known[np.isfinite(known)]
    low, high = finite.min(initial=0), finite.max(initial=0)
    edge = low - 0.12 * max(high - low, 0.1)
    drawn = []
    for (name, values, errors), (colour, symbol) in zip(layer.rates, _MARKS, strict=False):
        for i, (value, error) in enumerate(zip(values, errors, strict=True), 1):
            if np.isfinite(value):
                text = f"{i}: {decimals(value, '.4f')} nats per step"
                drawn.append((value, _in_two_lines(name), error, colour, symbol, text))
            elif np.isneginf(value):
                text = f"{i}: minus infinity"
                drawn.append(
                    (edge, _in_two_lines(name), np.nan, colour, "triangle-left-open", text)
                )
    x, rows, errors, colours, symbols, texts = zip(*drawn, strict=True)
    return {
        "type": "scatter",
        "x": np.array(x),
        "y": list(rows),
        "xaxis": "x2",
        "yaxis": "y2",
        "mode": "markers",
        "marker": {"color": list(colours), "symbol": list(symbols), "size": 9, "opacity": 0.85},
        "error_x": {"array": np.array(errors), "color": NEUTRAL},
        "text": list(texts),
        "hovertemplate": "%{text}<extra>%{y}</extra>",
        "name": "rates",
        "showlegend": False,
    }


_MARKS = [(NEUTRAL, "diamond"), (NEUTRAL, "diamond"), (ACCENT, "circle"), (COLOURS[1], "star")]
"""Predictions from weights alone are grey; what is measured has colours."""
