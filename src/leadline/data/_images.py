"""Images from scikit-learn: handwritten digits, and crops of two photographs."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.data._dataset import Dataset
from leadline.data._memory import refuse_too_large
from leadline.errors import InputError

PHOTOGRAPHS = ("china", "flower")
"""The two photographs, in the order of their labels."""

REGIONS = {"all": (0.0, 1.0), "left": (0.0, 0.5), "right": (0.5, 1.0)}
"""Named parts of a photograph: their left and right edges, as shares of the width."""

_LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey image, from ITU-R BT.601."""


def digits() -> Dataset:
    """Load the 1,797 handwritten digits of scikit-learn: 8 x 8 pixels, grey, in [0, 1] (ink is 1).

    Returns:
        A data set with ``X`` of shape (1797, 64), and the digits as ``y`` of shape (1797,).

    >>> data = digits()
    >>> data.X.shape, data.num_classes, float(data.X.max())
    ((1797, 64), 10, 1.0)

    Reference: Alpaydin and Kaynak, *Optical recognition of handwritten digits*, UCI repository,
    1998.
    """
    with _unmoved_generator():
        from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return Dataset(
        np.asarray(X) / 16,
        np.asarray(y),
        "digits",
        image_size=(8, 8),
        class_names=tuple("0123456789"),
    )


def photograph_patches(
    num: int,
    size: int,
    *,
    seed: int,
    channels: Literal[1, 3] = 1,
    region: Literal["all", "left", "right"] | tuple[float, float] = "all",
) -> Dataset:
    """Draw random crops of scikit-learn's two sample photographs, with values in [0, 1].

    The photographs show a Chinese palace and a flower. The position of a crop is uniform over all
    positions at which it fits, so crops can overlap. The regions ``left`` and ``right`` are the
    halves of each photograph. Crops of different halves share no pixels, so they can serve as
    independent pretraining and test data.

    Args:
        num: number of crops, at least 2; half of them come from each photograph.
        size: side of a crop in pixels, 1 to 320 for a half and 1 to 427 for the whole photograph.
        seed: seed of the photographs and positions.
        channels: 1 for grey (BT.601 luma), 3 for red, green and blue.
        region: the part of each photograph from which crops are taken. A pair (start, stop) gives
            the edges of a vertical strip as shares of the width. Strips that do not overlap share
            no pixels.

    Returns:
        A data set with ``X`` of shape (num, channels * size * size). ``y`` is the photograph: 0 for
        china, 1 for flower.

    >>> photograph_patches(6, 12, seed=0, channels=3, region="left").images.shape
    (6, 3, 12, 12)
    """
    num = checks.whole_number(num, "num", least=2)
    size = checks.whole_number(size, "size", least=1)
    seed = checks.seed(seed)
    channels = _check_channels(channels)
    start, stop = _check_region(region)
    photographs = [_strip(photograph, start, stop) for photograph in _photographs(channels)]
    height, width = photographs[0].shape[1:]
    if size > min(height, width):
        raise InputError(
            "size must be at most the sides of the region",
            got=f"size = {size} in a region of {height} x {width} pixels",
            cure=f"ask for size at most {min(height, width)}",
        )
    what = f"photograph_patches() of {num} crops of {size} x {size} pixels"
    refuse_too_large(12 * num * channels * size**2, what, cure="ask for fewer or smaller crops")
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(num) % len(photographs))
    tops = rng.integers(height - size + 1, size=num)
    lefts = rng.integers(width - size + 1, size=num)
    crops = np.empty((num, channels, size, size), dtype=np.float32)
    for i, (label, top, left) in enumerate(zip(y, tops, lefts, strict=True)):
        crops[i] = photographs[label][:, top : top + size, left : left + size]
    name = (
        "photographs" if isinstance(region, str) and region == "all" else f"photographs ({region})"
    )
    return Dataset(crops.reshape(num, -1), y, name, (size, size), channels, PHOTOGRAPHS)


def _check_channels(channels: Any) -> Literal[1, 3]:
    plain = checks.whole_number(channels, "channels")
    if plain == 1 or plain == 3:
        return plain
    raise InputError("channels must be 1 (grey) or 3 (colour)", got=f"channels = {plain}")


def _check_region(region: Any) -> tuple[float, float]:
    """Return the edges of the region as shares of the width."""
    rule = (
        "region must be 'all', 'left' or 'right', or the edges of a strip, 0 <= start < stop <= 1"
    )
    if isinstance(region, str):
        if region not in REGIONS:
            raise InputError(rule, got=f"region = {region!r}")
        return REGIONS[region]
    edges = checks.items(region, "region", least=2, of="two edges")
    start, stop = (checks.number(edge, f"region[{i}]") for i, edge in enumerate(edges[:2]))
    if len(edges) != 2 or not 0 <= start < stop <= 1:
        raise InputError(rule, got=f"region = {checks.shown(region)}")
    return start, stop


def _photographs(channels: int) -> list[np.ndarray]:
    with _unmoved_generator():
        from sklearn.datasets import load_sample_image

    photographs = []
    for name in PHOTOGRAPHS:
        pixels = load_sample_image(f"{name}.jpg") / 255.0
        pixels = pixels @ _LUMA[:, None] if channels == 1 else pixels
        photographs.append(np.moveaxis(pixels, -1, 0).astype(np.float32))
    return photographs


@contextmanager
def _unmoved_generator() -> Iterator[None]:
    """Restore the state of Python's random generator after the block.

    Importing scikit-learn may import rich, which draws a random number when it is imported.
    """
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def _strip(
    photograph: Float[np.ndarray, "channels H W"], start: float, stop: float
) -> Float[np.ndarray, "channels H part"]:
    width = photograph.shape[2]
    return photograph[..., round(start * width) : round(stop * width)]
