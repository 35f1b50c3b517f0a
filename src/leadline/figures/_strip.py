"""Images in rows and columns: the same examples at several stages."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from leadline.errors import InputError
from leadline.figures._arguments import labels, named, numbers
from leadline.figures._theme import Drawing, merged, new_drawing, plain

LEAST_IMAGE = 36
"""Width in pixels that an image needs. A narrower page should let the strip scroll."""


def image_strip(stages: Mapping[str, np.ndarray], *, title: str, **layout: Any) -> Drawing:
    """Return one row of images for each stage, with the same example in each column.

    All images share one scale, of grey or of colour: the smallest finite value of the first stage
    is black and the largest is white. Values beyond are clipped, and a NaN pixel is transparent.

    Args:
        stages: name -> images of shape (n, h, w), or (n, h, w, 3) for colour; names are plain text.
        title: title of the figure; plain text.
        layout: further properties of Plotly's layout.

    Raises:
        InputError: there is no stage or no image, or the shapes of the stages differ.

    >>> stages = {"input": np.zeros((3, 4, 5)), "output": np.ones((3, 4, 5))}
    >>> image_strip(stages, title="")["layout"]["yaxis"]["ticktext"]
    ['input', 'output']
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
    height_and_width = {"height": 60 + 56 * rows, "meta": {"min_width": least}}
    drawing = new_drawing(title, **{**height_and_width, **layout})
    overrides = {
        "xaxis": {"visible": False, "constrain": "domain"},
        "yaxis": {
            "tickvals": [row * (height + gap) + height / 2 - 0.5 for row in range(rows)],
            "ticktext": [plain(name) for name in stages],
            "showgrid": False,
            "zeroline": False,
            "showline": False,
            "ticks": "",
            "constrain": "domain",
        },
    }
    image = {"type": "image", "source": _png(flat), "hoverinfo": "skip"}
    return {"data": [image], "layout": merged(drawing["layout"], overrides)}


def _images(stages: Mapping[str, Any]) -> np.ndarray:
    """Return all stages in colour, shape (stages, n, h, w, 3), float."""
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
                got=f"stages[{name!r}]: {_sizes(images)}; before it: {_sizes(found[0])}",
            )
        found.append(images)
    return np.stack(found)


def _sizes(images: np.ndarray) -> str:
    return f"{len(images)} images of {images.shape[1]} x {images.shape[2]} pixels"


def _grey_levels(images: np.ndarray) -> np.ndarray:
    """Return levels from 0 to 255, on the scale of the first stage's finite values."""
    finite = images[0][np.isfinite(images[0])]
    # The difference of two very large numbers overflows; that of their halves does not.
    low = finite.min() / 2 if finite.size else 0.0
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
