"""How a study of representations looks."""

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from leadline.autoencoders import pictures
from leadline.figures import bands, image_strip, mean_and_range

if TYPE_CHECKING:
    from leadline.representation._study import RepresentationStudy


def training_curves(study: "RepresentationStudy") -> go.Figure:
    """Validation errors by epoch, as shares of those at the start: of what each kind is trained for, and clean."""
    longest = max(found.own.shape[1] for found in study.curves.values())
    curves = {}
    for kind, found in study.curves.items():
        own, clean = (_shares(error, longest) for error in (found.own, found.clean))
        curves[f"{kind}, corrupted" if kind != "vanilla" else kind] = mean_and_range(own)
        if kind != "vanilla":
            curves[f"{kind}, clean"] = mean_and_range(clean)
    return bands(
        np.arange(longest),
        curves,
        title="Held-out rows",
        x_label="epoch",
        y_label="error, share of that at the start",
        yaxis_rangemode="tozero",
    )


def _shares(
    error: Float[np.ndarray, "seeds epochs"], length: int
) -> Float[np.ndarray, "seeds length"]:
    """Of the error at the start, with NaN at the end where another kind went on."""
    return np.pad(
        error / error[:, :1], ((0, 0), (0, length - error.shape[1])), constant_values=np.nan
    )


def strip(study: "RepresentationStudy") -> go.Figure:
    """Examples in columns; in rows what they are, what each kind is shown, and what it makes of it."""
    stages = {}
    for kind, found in study.examples.items():
        images = pictures(found)
        stages["input"] = images["input"]
        if kind != "vanilla":  # which is shown the input
            stages[f"{kind}: shown"] = images["shown"]
        stages[f"{kind}: reconstructed"] = images["reconstructed"]
    return image_strip(stages, title="What the autoencoders are shown, and what they make of it")
