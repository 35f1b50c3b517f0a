"""Lines over many decades, on which zeros and infinities stay visible."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from leadline.figures.theme import COLOURS, new_figure, plain


def log_lines(
    x: np.ndarray,
    log10: Mapping[str, np.ndarray],
    *,
    title: str,
    x_label: str,
    y_label: str,
    dashed: tuple[str, ...] = (),
    **layout: Any,
) -> go.Figure:
    """Lines given by their base-10 logarithms, so that 1e-1000 and 1e+1000 can be drawn.

    A value of zero (``-inf``) is drawn as a downward triangle on the lower edge, an infinite one as an upward triangle
    on the upper edge, NaN as a cross on the lower edge: never dropped, never joined to their neighbours.

    Args:
        x: shape (n,), shared by the lines.
        log10: name -> base-10 logarithms, shape (n,); names are plain text.
        title: what the figure shows; plain text.
        x_label: horizontal axis, with unit; markup.
        y_label: vertical axis, with unit; markup.
        dashed: names of lines to draw dashed: predictions beside measurements.
        layout: further Plotly layout.

    >>> figure = log_lines(np.arange(3), {"h": np.array([0.0, -400, -np.inf])}, title="", x_label="t", y_label="norm")
    >>> [trace.marker.symbol for trace in figure.data]
    [None, 'triangle-down-open']
    """
    figure = new_figure(title, x_label, y_label, **layout)
    finite = np.concatenate([values[np.isfinite(values)] for values in log10.values()] or [np.zeros(0)])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (-1.0, 1.0)
    margin = max(0.5, 0.06 * (high - low))
    edges = {"zero": (low - margin, "triangle-down-open"), "infinite": (high + margin, "triangle-up-open")}
    for i, (name, values) in enumerate(log10.items()):
        colour = COLOURS[i % len(COLOURS)]
        figure.add_scatter(
            x=x,
            y=np.where(np.isfinite(values), values, np.nan),
            name=plain(name),
            legendgroup=name,
            mode="lines",
            line={"color": colour, "dash": "dash" if name in dashed else "solid", "width": 2},
            connectgaps=False,
            hovertemplate="10^%{y:.2f}",
        )
        marks = {"zero": values == -np.inf, "infinite": values == np.inf, "not a number": np.isnan(values)}
        for kind, where in marks.items():
            if where.any():
                height, symbol = edges.get(kind, (low - margin, "x-open"))
                figure.add_scatter(
                    x=np.asarray(x)[where],
                    y=np.full(int(where.sum()), height),
                    name=plain(f"{name}: {kind}"),
                    legendgroup=name,
                    showlegend=False,
                    mode="markers",
                    marker={"color": colour, "symbol": symbol, "size": 8},
                    hovertemplate=kind,
                )
    figure.update_yaxes(tickprefix="10<sup>", ticksuffix="</sup>")
    return figure.update_layout(hovermode="x unified")
