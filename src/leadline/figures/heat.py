"""Matrices as heat maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Num

from leadline.figures.theme import Drawing, new_figure, new_layout, plain


def heat_map(
    values: Num[np.ndarray, "rows columns"],
    *,
    title: str,
    x_label: str,
    y_label: str,
    scale_label: str,
    power_of_ten: bool = False,
    **layout: Any,
) -> Drawing:
    """A matrix by colour, rows and columns counted from 1. What is not finite stays blank and says so when hovered.

    Args:
        values: shape (rows, columns); row 0 is drawn at the bottom.
        title: what the figure shows; plain text.
        x_label: what the columns are; markup.
        y_label: what the rows are; markup.
        scale_label: what the colours are, with unit; markup.
        power_of_ten: values are base-10 logarithms, and the scale is labelled with powers of ten.
        layout: further Plotly layout.

    >>> heat_map(np.eye(2), title="", x_label="t", y_label="k", scale_label="")["data"][0]["x"].tolist()
    [1, 2]
    """
    rows, columns = values.shape
    ticks = {"tickprefix": "10<sup>", "ticksuffix": "</sup>"} if power_of_ten else {}
    is_finite = np.isfinite(values)
    cells = {
        "type": "heatmap",
        "z": np.where(is_finite, values, np.nan),
        "x": np.arange(1, columns + 1),
        "y": np.arange(1, rows + 1),
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": scale_label, "side": "right"}, "thickness": 14, "outlinewidth": 0, **ticks},
        "text": np.where(is_finite, "", np.where(np.isnan(values), "not a number", "exactly zero or infinite")),
        "hovertemplate": f"{y_label} %{{y}}, {x_label} %{{x}}: %{{z:.2f}} %{{text}}<extra></extra>",
        "hoverongaps": True,
    }
    return {"data": [cells], "layout": new_layout(title, x_label, y_label, **{"height": 460, **layout})}


def matrix(
    values: Num[np.ndarray, "rows columns"],
    texts: Sequence[Sequence[str]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    x_label: str,
    y_label: str,
    scale_label: str,
    **layout: Any,
) -> go.Figure:
    """A small matrix of differences with a text in each cell: blue above zero, red below, pale at zero.

    Args:
        values: shape (rows, columns); row 0 is drawn at the top.
        texts: what stands in each cell; markup.
        rows: name of each row, all different; plain text.
        columns: name of each column, all different; plain text.
        title: what the figure shows; plain text.
        x_label: what the columns are; markup.
        y_label: what the rows are; markup.
        scale_label: what the colours are, with unit; markup.
        layout: further Plotly layout.

    >>> names = {"rows": ["a", "b"], "columns": ["c"], "title": "", "x_label": "", "y_label": "", "scale_label": ""}
    >>> matrix(np.array([[1.0], [-2.0]]), [["+1"], ["-2"]], **names).data[0].zmax
    2.0
    """
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
    figure = new_figure(title, x_label, y_label, **{"height": 150 + 52 * len(rows), **layout})
    figure.add_heatmap(
        z=np.where(np.isfinite(values), values, np.nan),
        x=[plain(name) for name in columns],
        y=[plain(name) for name in rows],
        zmin=-largest,
        zmax=largest,
        colorscale="RdBu",
        text=texts,
        texttemplate="%{text}",
        xgap=2,
        ygap=2,
        colorbar={
            "title": {"text": scale_label, "side": "right", "font": {"size": 13}},
            "thickness": 14,
            "outlinewidth": 0,
        },
        hovertemplate="%{y}, %{x}: %{z:.2f}<extra></extra>",
    )
    figure.update_xaxes(showgrid=False, showline=False, ticks="")
    return figure.update_yaxes(autorange="reversed", showgrid=False, showline=False, ticks="")
