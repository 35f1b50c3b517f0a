"""Several panels side by side under one title."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from leadline.figures.theme import AXIS_STYLE, new_figure, plain


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
    figure = new_figure(title, **layout)
    gap, width = 0.12, (1 - 0.12 * (len(axes) - 1)) / len(axes)
    for i, (heading, x_label, y_label) in enumerate(axes):
        suffix = "" if i == 0 else str(i + 1)
        left = i * (width + gap)
        figure.update_layout(
            {
                f"xaxis{suffix}": {**AXIS_STYLE, "domain": [left, left + width], "anchor": f"y{suffix}"},
                f"yaxis{suffix}": {**AXIS_STYLE, "anchor": f"x{suffix}"},
                f"xaxis{suffix}_title_text": x_label,
                f"yaxis{suffix}_title_text": y_label,
            }
        )
        figure.add_annotation(
            text=f"<b>{plain(heading)}</b>",
            x=left,
            y=1.0,
            xref="paper",
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font_size=12,
        )
    return figure.update_layout(margin_t=64, legend={"y": -0.22, "yanchor": "top", "x": 0, "xanchor": "left"})
