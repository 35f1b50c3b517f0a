"""Images in rows and columns: what happens to the same examples, stage by stage."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from leadline.figures.theme import new_figure, plain

LEAST_IMAGE = 36
"""Width in pixels below which an image is not made out: a page of less room should let the strip scroll."""


def image_strip(stages: Mapping[str, np.ndarray], *, title: str, **layout: Any) -> go.Figure:
    """One row of images per stage, the same examples below one another, on one scale of grey or of colour.

    Args:
        stages: name -> images of shape (n, h, w), or (n, h, w, 3) for colour; names are plain text. The first stage's
            least and largest value are black and white; what lies beyond is clipped.
        title: what the figure shows; plain text.
        layout: further Plotly layout.

    >>> figure = image_strip({"input": np.zeros((3, 4, 5)), "output": np.ones((3, 4, 5))}, title="")
    >>> figure.layout.yaxis.ticktext
    ('input', 'output')
    """
    images = np.stack([np.asarray(stage, dtype=float) for stage in stages.values()])
    images = images if images.ndim == 5 else np.repeat(images[..., None], 3, axis=-1)
    rows, columns, height, width, _ = images.shape
    low, high = images[0].min(), images[0].max()
    pixels = np.clip((images - low) / ((high - low) or 1), 0, 1) * 255
    gap = max(1, width // 8)
    mosaic = np.zeros((rows, height + gap, columns, width + gap, 4), np.uint8)
    mosaic[:, :height, :, :width, :3] = pixels.round().transpose(0, 2, 1, 3, 4)
    mosaic[:, :height, :, :width, 3] = 255
    flat = mosaic.reshape(rows * (height + gap), columns * (width + gap), 4)
    least = round(8 * max(map(len, stages)) + LEAST_IMAGE * columns * (1 + gap / width))
    figure = new_figure(title, **{"height": 60 + 56 * rows, "meta": {"min_width": least}, **layout})
    figure.add_image(source=_png(flat), hoverinfo="skip")
    figure.update_xaxes(visible=False, constrain="domain")
    middles = [row * (height + gap) + height / 2 - 0.5 for row in range(rows)]
    return figure.update_yaxes(
        tickvals=middles,
        ticktext=[plain(name) for name in stages],
        showgrid=False,
        zeroline=False,
        showline=False,
        ticks="",
        constrain="domain",
    )


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    image = Image.fromarray(pixels, "RGBA")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
