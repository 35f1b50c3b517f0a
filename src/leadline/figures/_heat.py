"""Matrices as heat maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Num

from leadline import checks
from leadline.errors import InputError
from leadline.figures._arguments import heights, labels
from leadline.figures._arguments import texts as texts_of
from leadline.figures._theme import Drawing, new_figure, new_layout, plain


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
    """A matrix by colour, rows and columns counted from 1. A value that is not finite stays blank and is told on hover.

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
    labels(title=title, x_label=x_label, y_label=y_label, scale_label=scale_label)
    are_powers = checks.flag(power_of_ten, "power_of_ten")
    values = _matrix(values)
    rows, columns = values.shape
    ticks = {"tickprefix": "10<sup>", "ticksuffix": "</sup>"} if are_powers else {}
    is_finite = np.isfinite(values)
    exceptions = [(np.isnan(values), "not a number"), (values == np.inf, "infinite")]
    exceptions += [(values == -np.inf, "exactly zero" if are_powers else "minus infinity")]
    cells = {
        "type": "heatmap",
        "z": np.where(is_finite, values, np.nan),
        "x": np.arange(1, columns + 1),
        "y": np.arange(1, rows + 1),
        "colorscale": "Viridis",
        "colorbar": {
            "title": {"text": scale_label, "side": "right"},
            "thickness": 14,
            "outlinewidth": 0,
            **ticks,
        },
        "text": np.select([where for where, _ in exceptions], [text for _, text in exceptions], ""),
        "hovertemplate": f"{y_label} %{{y}}, {x_label} %{{x}}: %{{z:.2f}} %{{text}}<extra></extra>",
        "hoverongaps": True,
    }
    return {
        "data": [cells],
        "layout": new_layout(title, x_label, y_label, **{"height": 460, **layout}),
    }


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
    labels(title=title, x_label=x_label, y_label=y_label, scale_label=scale_label)
    values = _matrix(values)
    row_names = texts_of(rows, "rows", length=len(values))
    column_names = texts_of(columns, "columns", length=values.shape[1])
    for name, names in (("rows", row_names), ("columns", column_names)):
        if len(set(names)) < len(names):
            twice = next(text for text in names if names.count(text) > 1)
            raise InputError(f"{name} must have different names", got=f"{twice!r} twice")
    lines = checks.items(texts, "texts", of="rows of texts")
    if len(lines) != len(values):
        raise InputError(f"texts must have {len(values)} rows", got=f"texts has {len(lines)}")
    inside = [texts_of(line, f"texts[{i}]", length=values.shape[1]) for i, line in enumerate(lines)]
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
    figure = new_figure(title, x_label, y_label, **{"height": 150 + 52 * len(row_names), **layout})
    figure.add_heatmap(
        z=np.where(np.isfinite(values), values, np.nan),
        x=[plain(name) for name in column_names],
        y=[plain(name) for name in row_names],
        zmin=-largest,
        zmax=largest,
        colorscale="RdBu",
        text=inside,
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
    # Plotly takes names such as "10" or "2020-01-01" for numbers and dates, unless it is told.
    look = {"type": "category", "showgrid": False, "showline": False, "ticks": ""}
    return figure.update_xaxes(**look).update_yaxes(**look, autorange="reversed")


def _matrix(values: Any) -> np.ndarray:
    matrix = heights(values, "values", ndim=2)
    if not matrix.size:
        raise InputError(
            "values must have at least one row and one column",
            got=f"values of shape {matrix.shape}",
        )
    return matrix
