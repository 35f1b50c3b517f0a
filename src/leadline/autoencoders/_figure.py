"""How the soundings of autoencoders look."""

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from leadline.figures import COLOURS, NEUTRAL, bands, image_strip, mean_and_range, new_figure

if TYPE_CHECKING:
    from leadline.autoencoders._examples import Examples
    from leadline.autoencoders.training._curves import TrainingCurves
    from leadline.autoencoders.training._pretrained import Pretrained


def training_curves(pretrained: "Pretrained") -> go.Figure:
    """Errors by epoch, with a mark at the epoch whose weights were kept."""
    figure = new_figure("Pretraining", "epoch", "squared error per row", hovermode="x unified")
    epochs = np.arange(len(pretrained.training_error) + 1)
    figure.add_scatter(
        x=epochs[1:], y=pretrained.training_error, name="training", line_color=NEUTRAL
    )
    curves = {"validation, clean": pretrained.clean_error}
    if not np.array_equal(pretrained.clean_error, pretrained.own_error):
        curves["validation, corrupted"] = pretrained.own_error
    for (name, error), colour in zip(curves.items(), COLOURS, strict=False):
        if error.size:
            figure.add_scatter(x=epochs, y=error, name=name, line_color=colour)
    figure.add_vline(
        x=pretrained.best_epoch, line_dash="dot", line_color=NEUTRAL, annotation_text="kept"
    )
    return figure.update_yaxes(type="log")


def population_curves(found: "TrainingCurves") -> go.Figure:
    """Errors by epoch: mean over the models inside their range, and those of training grey."""
    curves = {"training": found.training, "validation, clean": found.clean}
    if not np.array_equal(found.clean, found.own, equal_nan=True):
        curves["validation, corrupted"] = found.own
    figure = bands(
        np.arange(found.training.shape[1]),
        {
            name: mean_and_range(errors)
            for name, errors in curves.items()
            if np.isfinite(errors).any()
        },
        title=f"Pretraining: mean and range of {len(found.training)}",
        x_label="epoch",
        y_label="squared error per row",
        baselines=["training"],
        yaxis_type="log",
    )
    return figure.update_traces(mode="lines").update_xaxes(range=[0, found.epochs])


def pictures(found: "Examples") -> dict[str, np.ndarray]:
    """Stages as images (n, h, w) or (n, h, w, 3); a row that is no image is a stripe, a third as high as it is long."""
    n, d = found.rows.shape
    stages = {}
    for name, rows in found.stages.items():
        if found.image_size is None:
            stages[name] = np.broadcast_to(rows[:, None], (n, max(1, d // 3), d))
        else:
            images = rows.reshape(n, found.channels, *found.image_size)
            stages[name] = images[:, 0] if found.channels == 1 else np.moveaxis(images, 1, -1)
    return {name: np.nan_to_num(images) for name, images in stages.items()}


def examples_strip(found: "Examples") -> go.Figure:
    """Examples in columns, stages in rows."""
    return image_strip(pictures(found), title="What the encoder is shown, and what comes back")
