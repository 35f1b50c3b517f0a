"""How a study of representations looks."""

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from leadline.figures import bands, image_strip, mean_and_range

if TYPE_CHECKING:
    from leadline.representation.study import RepresentationStudy


def training_curves(study: "RepresentationStudy") -> go.Figure:
    """Validation errors by epoch, as shares of those at the start: of what each kind is trained for, and clean."""
    curves = {}
    for k, kind in enumerate(study.kinds):
        own, clean = (error[k] / error[k, :, :1] for error in (study.own_error, study.clean_error))
        curves[f"{kind}, corrupted" if kind != "vanilla" else kind] = mean_and_range(own)
        if kind != "vanilla":
            curves[f"{kind}, clean"] = mean_and_range(clean)
    return bands(
        np.arange(study.own_error.shape[2]),
        curves,
        title="Held-out rows",
        x_label="epoch",
        y_label="error, share of that at the start",
        yaxis_rangemode="tozero",
    )


def strip(study: "RepresentationStudy") -> go.Figure:
    """Examples in columns; in rows what they are, what each kind is shown, and what it makes of it."""
    names = ["input"] + [f"{kind}: {what}" for kind in study.kinds for what in ("shown", "reconstructed")]
    stages = {
        name: images
        for name, images in zip(names, study.samples, strict=True)
        if name != "vanilla: shown"  # which is the input
    }
    return image_strip(stages, title="What the autoencoders are shown, and what they make of it")
