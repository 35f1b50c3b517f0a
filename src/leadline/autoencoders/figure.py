"""How the soundings of autoencoders look."""

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from leadline.figures import COLOURS, NEUTRAL, new_figure

if TYPE_CHECKING:
    from leadline.autoencoders.pretrained import Pretrained


def training_curves(pretrained: "Pretrained") -> go.Figure:
    """Errors by epoch, with a mark at the epoch whose weights were kept."""
    figure = new_figure("Pretraining", "epoch", "squared error per row", hovermode="x unified")
    epochs = np.arange(len(pretrained.training_error) + 1)
    figure.add_scatter(x=epochs[1:], y=pretrained.training_error, name="training", line_color=NEUTRAL)
    curves = {"validation, clean": pretrained.clean_error}
    if not np.array_equal(pretrained.clean_error, pretrained.own_error):
        curves["validation, corrupted"] = pretrained.own_error
    for (name, error), colour in zip(curves.items(), COLOURS, strict=False):
        if error.size:
            figure.add_scatter(x=epochs, y=error, name=name, line_color=colour)
    figure.add_vline(x=pretrained.best_epoch, line_dash="dot", line_color=NEUTRAL, annotation_text="kept")
    return figure.update_yaxes(type="log")
