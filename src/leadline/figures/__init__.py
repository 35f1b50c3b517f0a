"""The drawing vocabulary: arrays in, Plotly figures or parts of them out. Knows no instrument and no sounding."""

from leadline.figures._bands import bands, mean_and_range
from leadline.figures._heat import heat_map, matrix
from leadline.figures._lines import log_lines, log_ticks, log_traces
from leadline.figures._panels import panel_layout, panels, stacked
from leadline.figures._scatter import Cloud, scatter
from leadline.figures._strip import image_strip
from leadline.figures._theme import (
    ACCENT,
    COLOURS,
    NEUTRAL,
    Drawing,
    merged,
    new_figure,
    new_layout,
    plain,
)
from leadline.figures._tree import tree

__all__ = [
    "ACCENT",
    "COLOURS",
    "NEUTRAL",
    "Cloud",
    "Drawing",
    "bands",
    "heat_map",
    "image_strip",
    "log_lines",
    "log_ticks",
    "log_traces",
    "matrix",
    "mean_and_range",
    "merged",
    "new_figure",
    "new_layout",
    "panel_layout",
    "panels",
    "plain",
    "scatter",
    "stacked",
    "tree",
]
