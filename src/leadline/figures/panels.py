"""Several panels side by side under one title."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from leadline.figures.theme import AXIS_STYLE, merged, new_figure, plain


def panels(title: str, axes: Sequence[tuple[str, str, str]], **layout: Any) -> go.Figure:
    """An empty figure with panels in a row; panel i is drawn on axes ``x{i}`` and ``y{i}`` (``x`` and ``y`` for 1).

    Args:
        title: what the figure shows; plain text.
        axes: per panel, its heading (plain text) and the labels of its two axes (markup).
        layout: further Plotly layout.

    >>> figure = panels("Two views", [("left", "t", "norm"), ("right", "t", "norm")])
    >>> figure.layout.xaxis2.anchor
    'y2'
    """
    gap, width = 0.12, (1 - 0.12 * (len(axes) - 1)) / len(axes)
    placed: dict[str, Any] = {
        "margin": {"t": 64},
        "legend": {"y": -0.22, "yanchor": "top", "x": 0, "xanchor": "left"},
        "annotations": [],
    }
    for i, (heading, x_label, y_label) in enumerate(axes):
        suffix = "" if i == 0 else str(i + 1)
        left = i * (width + gap)
        x = {"domain": [left, left + width], "anchor": f"y{suffix}", "title": {"text": x_label}}
        placed[f"xaxis{suffix}"] = merged(AXIS_STYLE, x)
        placed[f"yaxis{suffix}"] = merged(AXIS_STYLE, {"anchor": f"x{suffix}", "title": {"text": y_label}})
        placed["annotations"].append(
            {
                "text": f"<b>{plain(heading)}</b>",
                "x": left,
                "y": 1.0,
                "xref": "paper",
                "yref": "paper",
                "xanchor": "left",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 12},
            }
        )
    return new_figure(title, **merged(placed, layout))
