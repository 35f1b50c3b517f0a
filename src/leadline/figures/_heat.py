"""Matrices as heat maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Num

from leadline import checks
from leadline.errors import InputError
from leadline.figures._arguments import heights, labels
from leadline.figures._arguments import texts as texts_of
from leadline.figures._theme import Drawing, merged, new_drawing, plain

_DIVERGING = (
    "rgb(103,0,31)",
    "rgb(178,24,43)",
    "rgb(214,96,77)",
    "rgb(244,165,130)",
    "rgb(253,219,199)",
    "rgb(247,247,247)",
    "rgb(209,229,240)",
    "rgb(146,197,222)",
    "rgb(67,147,195)",
    "rgb(33,102,172)",
    "rgb(5,48,97)",
)

RED_TO_BLUE = [[i / 10, colour] for i, colour in enumerate(_DIVERGING)]
"""ColorBrewer's RdBu. Plotly's script has another scale under that name, so it is spelled out."""


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
    """Return a matrix as a heat map, with rows and columns counted from 1.

    A value that is not finite stays blank; the hover text names it.

    Args:
        values: shape (rows, columns); row 0 is drawn at the bottom.
        title: title of the figure; plain text.
        x_label: label of the columns; markup.
        y_label: label of the rows; markup.
        scale_label: label of the colour scale, with its unit; markup.
        power_of_ten: the values are base-10 logarithms; label the scale with powers of ten.
        layout: further properties of Plotly's layout.

    >>> texts = {"title": "", "x_label": "t", "y_label": "k", "scale_label": ""}
    >>> heat_map(np.eye(2), **texts)["data"][0]["x"].tolist()
    [1, 2]
    """
    labels(title=title, x_label=x_label, y_label=y_label, scale_label=scale_label)
    are_powers = checks.flag(power_of_ten, "power_of_ten")
    values = _matrix(values)
    rows, columns = values.shape
    ticks = {"tickprefix": "10<sup>", "ticksuffix": "</sup>"} if are_powers else {}
    lowest = "exactly zero" if are_powers else "minus infinity"
    exceptions = [np.isnan(values), values == np.inf, values == -np.inf]
    names = ["not a number", "infinite", lowest]
    cells = {
        "type": "heatmap",
        "z": np.where(np.isfinite(values), values, np.nan),
        "x": np.arange(1, columns + 1),
        "y": np.arange(1, rows + 1),
        "colorscale": "Viridis",
        "colorbar": {
            "title": {"text": scale_label, "side": "right"},
            "thickness": 14,
            "outlinewidth": 0,
            **ticks,
        },
        "text": np.select(exceptions, names, ""),
        "hovertemplate": f"{y_label} %{{y}}, {x_label} %{{x}}: %{{z:.2f}} %{{text}}<extra></extra>",
        "hoverongaps": True,
    }
    drawing = new_drawing(title, x_label, y_label, **{"height": 460, **layout})
    return {**drawing, "data": [cells]}


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
) -> Drawing:
    """Return a small matrix of differences with a text in each cell.

    Cells are blue above zero, red below zero and pale at zero.

    Args:
        values: shape (rows, columns); row 0 is drawn at the top.
        texts: text of each cell, row by row; markup.
        rows: name of each row, all different; plain text.
        columns: name of each column, all different; plain text.
        title: title of the figure; plain text.
        x_label: label of the columns; markup.
        y_label: label of the rows; markup.
        scale_label: label of the colour scale, with its unit; markup.
        layout: further properties of Plotly's layout.

    >>> labels = {"title": "", "x_label": "", "y_label": "", "scale_label": ""}
    >>> values = np.array([[1.0], [-2.0]])
    >>> drawing = matrix(values, [["+1"], ["-2"]], rows=["a", "b"], columns=["c"], **labels)
    >>> drawing["data"][0]["zmax"]
    2.0
    """
    labels(title=title, x_label=x_label, y_label=y_label, scale_label=scale_label)
    values = _matrix(values)
    row_names = texts_of(rows, "rows", length=len(values))
    column_names = texts_of(columns, "columns", length=values.shape[1])
    for name, names in (("rows", row_names), ("columns", column_names)):
        if len(set(names)) < len(names):
            repeated = next(text for text in names if names.count(text) > 1)
            raise InputError(f"{name} must have different names", got=f"{repeated!r} twice")
    lines = checks.items(texts, "texts", of="rows of texts")
    if len(lines) != len(values):
        raise InputError(f"texts must have {len(values)} rows", got=f"texts has {len(lines)}")
    cell_texts = [
        texts_of(line, f"texts[{i}]", length=values.shape[1]) for i, line in enumerate(lines)
    ]
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
    cells = {
        "type": "heatmap",
        "z": np.where(np.isfinite(values), values, np.nan),
        "x": [plain(name) for name in column_names],
        "y": [plain(name) for name in row_names],
        "zmin": -largest,
        "zmax": largest,
        "colorscale": RED_TO_BLUE,
        "text": cell_texts,
        "texttemplate": "%{text}",
        "xgap": 2,
        "ygap": 2,
        "colorbar": {
            "title": {"text": scale_label, "side": "right", "font": {"size": 13}},
            "thickness": 14,
            "outlinewidth": 0,
        },
        "hovertemplate": "%{y}, %{x}: %{z:.2f}<extra></extra>",
    }
    # Plotly reads names such as "10" or "2020-01-01" as numbers and dates unless the type is set.
    axis_style = {"type": "category", "showgrid": False, "showline": False, "ticks": ""}
    overrides = {"xaxis": axis_style, "yaxis": {**axis_style, "autorange": "reversed"}}
    height = 150 + 52 * len(row_names)
    drawing = new_drawing(title, x_label, y_label, **{"height": height, **layout})
    return {"data": [cells], "layout": merged(drawing["layout"], overrides)}


def _matrix(values: Any) -> np.ndarray:
    """Return the values, checked to be a matrix that is not empty."""
    matrix = heights(values, "values", ndim=2)
    if not matrix.size:
        raise InputError(
            "values must have at least one row and one column",
            got=f"values of shape {matrix.shape}",
        )
    return matrix
