"""The drawing of a layer's stability: eigenvalues, and growth rates on one axis."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leadline.figures import ACCENT, COLOURS, NEUTRAL, Drawing, markers, panels, plain
from leadline.sounding import decimals

_MARKERS = [(NEUTRAL, "diamond"), (NEUTRAL, "diamond"), (ACCENT, "circle"), (COLOURS[1], "star")]
"""Colour and symbol of each row: predictions from weights are grey, measured rates coloured."""

_MARGIN = 1.1
"""The axes of the eigenvalues end at this multiple of the largest absolute value."""

_LEFT_GAP = 0.12
"""Distance of a triangle for minus infinity from the lowest rate, as a share of the axis."""

_SHORTEST_AXIS = 0.1
"""Least range of rates, in nats per step, from which that distance is computed."""


def stability_drawing(
    title: str,
    eigenvalues: Mapping[str, np.ndarray],
    rates: Sequence[tuple[str, np.ndarray, np.ndarray]],
    *,
    least_range: float,
) -> Drawing:
    """Return eigenvalues beside the unit circle, and growth rates on one axis.

    Args:
        title: title of the figure; plain text.
        eigenvalues: gate -> complex eigenvalues of its recurrent weights; a layer without gates has
            one empty name.
        rates: for each row its name, its rates in nats per step, and their errors (NaN for none).
        least_range: smallest range of the axis of rates, so it does not zoom into rounding.
    """
    axes = [
        ("", "real part of W<sub>h</sub>’s eigenvalues", "imaginary part"),
        ("", "growth per step back, in nats", ""),
    ]
    largest = max(float(np.abs(values).max()) for values in eigenvalues.values())
    reach = _MARGIN * max(1.0, largest)
    square = {"range": [-reach, reach], "constrain": "domain"}
    names = [_in_two_lines(name) for name, _, _ in rates]
    trace = _rates(rates)
    circle = {"type": "circle", "x0": -1, "x1": 1, "y0": -1, "y1": 1, "xref": "x", "yref": "y"}
    drawing = panels(
        title,
        axes,
        height=440,
        xaxis=square,
        yaxis={**square, "scaleanchor": "x"},
        xaxis2={"zerolinecolor": NEUTRAL, **_range_of_rates(trace, least_range)},
        yaxis2={
            "categoryorder": "array",
            "categoryarray": names[::-1],
            "range": [-0.5, len(names) - 0.5],
        },
        shapes=[{**circle, "line": {"color": NEUTRAL, "dash": "dot"}}],
    )
    return {**drawing, "data": [*_eigenvalues(eigenvalues), trace]}


def _range_of_rates(trace: Mapping[str, Any], least_range: float) -> dict[str, Any]:
    """Return a range around the rates if they span less than ``least_range``; otherwise nothing."""
    errors = np.nan_to_num(trace["error_x"]["array"])
    low = float((trace["x"] - errors).min())
    high = float((trace["x"] + errors).max())
    if high - low >= least_range:
        return {}
    middle = (low + high) / 2
    return {"range": [middle - least_range / 2, middle + least_range / 2]}


def _in_two_lines(name: str) -> str:
    return plain(name).replace("value ×", "<br>value ×")


def _eigenvalues(eigenvalues: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return one cloud of points in the complex plane for each gate."""
    return [
        markers(
            np.real(values),
            np.imag(values),
            name=f"gate {gate}" if gate else "eigenvalues",
            colour=colour,
            size=7,
            opacity=0.75,
            hovertemplate="%{x:.3f} %{y:+.3f}i",
            showlegend=bool(gate),
        )
        for (gate, values), colour in zip(eigenvalues.items(), COLOURS, strict=False)
    ]


def _rates(rates: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return one row of points for each kind of rate; minus infinity is a triangle at the left."""
    all_rates = np.concatenate([values for _, values, _ in rates])
    finite = all_rates[np.isfinite(all_rates)]
    low = finite.min(initial=0)
    high = finite.max(initial=0)
    edge = low - _LEFT_GAP * max(high - low, _SHORTEST_AXIS)
    points = []
    for (name, values, errors), (colour, symbol) in zip(rates, _MARKERS, strict=False):
        row = _in_two_lines(name)
        for i, (value, error) in enumerate(zip(values, errors, strict=True), 1):
            if np.isfinite(value):
                text = f"{i}: {decimals(value, '.4f')} nats per step"
                points.append((value, row, error, colour, symbol, text))
            elif np.isneginf(value):
                text = f"{i}: minus infinity"
                points.append((edge, row, np.nan, colour, "triangle-left-open", text))
    x, rows, errors, colours, symbols, texts = zip(*points, strict=True)
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
