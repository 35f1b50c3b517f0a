"""The drawing of a gradient flow: gradient norms beside norms of the hidden states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from leadline.figures import COLOURS, NEUTRAL, Drawing, log_ticks, log_traces, panels, plain

DIRECT = "direct part"
"""Name of the gradient that enters at the timestep itself."""

CELL = "gradient of the cell"
"""Name of the gradient of an LSTM's cell."""


@dataclass(frozen=True, eq=False)
class FlowCurves:
    """The curves of one layer by timestep, as base-10 logarithms."""

    title: str
    """Name of the layer."""
    gradients: Mapping[str, np.ndarray]
    """The total gradient under the empty name, its direct part and, of an LSTM, the cell's."""
    state: np.ndarray
    """Norm of the hidden state."""
    float32_losses: Mapping[str, int]
    """Timestep, from 1, at which the gradient ``"underflows"`` or ``"overflows"`` float32."""


def flow_drawing(layers: Sequence[FlowCurves]) -> Drawing:
    """Return the gradient norms and the norms of the hidden states, one colour for each layer.

    The total is solid, the direct part dashed, and the gradient of an LSTM's cell dotted. A cross
    marks the timestep at which float32 loses the gradient.
    """
    axes = [
        ("", "timestep t", "gradient ‖dL/dh<sub>t</sub>‖"),
        ("", "timestep t", "hidden state ‖h<sub>t</sub>‖"),
    ]
    gradients = [values for layer in layers for values in layer.gradients.values()]
    states = [layer.state for layer in layers]
    traces: list[dict[str, Any]] = []
    for layer, colour in zip(layers, cycle(COLOURS), strict=False):
        traces += _gradient_traces(layer, colour, gradients, is_alone=len(layers) == 1)
        traces += _float32_marks(layer, colour)
        traces += log_traces(
            np.arange(1, 1 + len(layer.state)),
            {layer.title: layer.state},
            colours=[colour],
            among=states,
            showlegend=False,
            legendgroup=layer.title,
            xaxis="x2",
            yaxis="y2",
        )
    steps = {"range": [0.5, max(map(len, states)) + 0.5]}
    drawing = panels(
        "How much gradient arrives",
        axes,
        height=420,
        hovermode="x unified",
        xaxis=steps,
        xaxis2=steps,
        yaxis=log_ticks(*gradients),
        yaxis2=log_ticks(*states),
    )
    return {**drawing, "data": [*traces, *_legend(layers)]}


def _gradient_traces(
    layer: FlowCurves, colour: str, gradients: Sequence[np.ndarray], *, is_alone: bool
) -> list[dict[str, Any]]:
    """Return the gradients of a layer; if it is alone, the legend explains each of them."""
    traces = []
    for part, values in layer.gradients.items():
        if not part:
            name = layer.title
        else:
            name = part if is_alone else f"{layer.title}: {part}"
        traces += log_traces(
            np.arange(1, 1 + len(values)),
            {name: values},
            colours=[colour],
            dashed=(name,) if part == DIRECT else (),
            dotted=(name,) if part == CELL else (),
            among=gradients,
            showlegend=is_alone or not part,
            legendgroup=layer.title,
            xaxis="x",
            yaxis="y",
        )
    return traces


def _legend(layers: Sequence[FlowCurves]) -> list[dict[str, Any]]:
    """Return entries that explain dashes and symbols once for all layers."""
    parts = {part for layer in layers for part in layer.gradients}
    values = np.concatenate([curve for layer in layers for curve in layer.gradients.values()])
    entries: dict[str, dict[str, Any]] = {}
    if len(layers) > 1 and DIRECT in parts:
        entries[DIRECT] = {"mode": "lines", "line": {"color": NEUTRAL, "dash": "dash"}}
    if len(layers) > 1 and CELL in parts:
        entries[CELL] = {"mode": "lines", "line": {"color": NEUTRAL, "dash": "dot"}}
    if np.isneginf(values).any():
        entries["exactly zero"] = _mark("triangle-down-open")
    if np.isposinf(values).any():
        entries["infinite"] = _mark("triangle-up-open")
    return [
        {"type": "scatter", "x": [None], "y": [None], "name": name, "hoverinfo": "skip", **entry}
        for name, entry in entries.items()
    ]


def _mark(symbol: str) -> dict[str, Any]:
    """Return the looks of an entry of the legend: one grey symbol."""
    return {"mode": "markers", "marker": {"color": NEUTRAL, "symbol": symbol, "size": 8}}


def _float32_marks(layer: FlowCurves, colour: str) -> list[dict[str, Any]]:
    """Return a cross for each timestep at which the gradient leaves the range of float32."""
    return [
        {
            "type": "scatter",
            "x": [t],
            "y": [float(layer.gradients[""][t - 1])],
            "mode": "markers",
            "marker": {"color": colour, "symbol": "x", "size": 11},
            "name": plain(f"{layer.title}: float32 {verb} at t = {t}"),
            "hovertemplate": f"float32 {verb}",
        }
        for verb, t in layer.float32_losses.items()
    ]
