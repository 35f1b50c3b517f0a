"""Images in rows and columns: what happens to the same examples, stage by stage."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from leadline.errors import InputError
from leadline.figures._arguments import labels, named, numbers
from leadline.figures._theme import new_figure, plain

LEAST_IMAGE = 36
"""Width in pixels below which an image is not made out: a page of less room should let the strip scroll."""


def image_strip(stages: Mapping[str, np.ndarray], *, title: str, **layout: Any) -> go.Figure:
    """One row of images per stage, the same examples below one another, on one scale of grey or of colour.

    Args:
        stages: name -> images of shape (n, h, w), or (n, h, w, 3) for colour; names are plain text. The first stage's
            least and largest finite value are black and white; what lies beyond is clipped, and a pixel that is no
            number stays blank.
        title: what the figure shows; plain text.
        layout: further Plotly layout.

    Raises:
        InputError: no stage, no image, or stages of different shapes.

    >>> figure = image_strip({"input": np.zeros((3, 4, 5)), "output": np.ones((3, 4, 5))}, title="")
    >>> figure.layout.yaxis.ticktext
    ('input', 'output')
    """
    labels(title=title)
    images = _images(named(stages, "stages"))
    rows, columns, height, width, _ = images.shape
    is_number = np.all(~np.isnan(images), axis=-1)
    pixels = _grey_levels(images)
    gap = max(1, width // 8)
    mosaic = np.zeros((rows, height + gap, columns, width + gap, 4), np.uint8)
    mosaic[:, :height, :, :width, :3] = pixels.transpose(0, 2, 1, 3, 4)
    mosaic[:, :height, :, :width, 3] = 255 * np.transpose(is_number, (0, 2, 1, 3))
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


def _images(stages: Mapping[str, Any]) -> np.ndarray:
    """All stages in colour, shape (stages, n, h, w, 3), float."""
    if not stages:
        raise InputError("stages must hold at least one stage", got="stages is empty")
    found = []
    for name, stage in stages.items():
        images = numbers(stage, f"stages[{name!r}]").astype(float)
        images = np.repeat(images[..., None], 3, axis=-1) if images.ndim == 3 else images
        if images.ndim != 4 or images.shape[-1] != 3 or not images.size:
            raise InputError(
                f"stages[{name!r}] must be images of shape (n, h, w), or (n, h, w, 3) for colour",
                got=f"shape {np.shape(stage)}",
            )
        if found and images.shape != found[0].shape:
            raise InputError(
                "stages must be of the same images, in one size",
                got=f"stages[{name!r}] of {len(images)} images, {images.shape[1]} x {images.shape[2]} pixels, "
                f"after {len(found[0])} of {found[0].shape[1]} x {found[0].shape[2]}",
            )
        found.append(images)
    return np.stack(found)


def _grey_levels(images: np.ndarray) -> np.ndarray:
    """From 0 to 255 between the least and the largest finite value of the first stage."""
    finite = images[0][np.isfinite(images[0])]
    low = (
        finite.min() / 2 if finite.size else 0.0
    )  # halves: the difference of the largest numbers overflows
    high = finite.max() / 2 if finite.size else 0.5
    halves = np.where(np.isnan(images), low, images / 2)
    shares = np.clip((halves - low) / ((high - low) or 0.5), 0, 1)
    return (shares * 255).round()


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    image = Image.fromarray(pixels, "RGBA")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
