"""How the soundings of probing look."""

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from leadline.figures import bands

if TYPE_CHECKING:
    from leadline.probing.efficiency import LabelEfficiency


def label_efficiency_curves(study: "LabelEfficiency") -> go.Figure:
    """Accuracy of each representation by label count; baselines grey."""
    from leadline.probing.efficiency import BASELINES

    curves = {}
    for name in study.names:
        intervals = [study.interval(name, labels) for labels in study.budgets.tolist()]
        curves[name] = tuple(np.array([getattr(i, end) for i in intervals]) for end in ("estimate", "low", "high"))
    return bands(
        study.budgets,
        curves,
        title="What a label is worth",
        x_label="labels",
        y_label="test accuracy, %" if study.measure == "accuracy" else "variance explained, test rows, %",
        log_x=True,
        baselines=[name for name in study.names if name in BASELINES],
    )
