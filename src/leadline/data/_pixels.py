"""Scaling of pixels, and flattening of images to rows."""

import numpy as np

from leadline.errors import InputError

DIVIDED = "pixels from 0 to 255 were divided by 255"
"""Note in a result whose pixels :func:`scale_pixels` has divided."""


def scale_pixels(X: np.ndarray, name: str = "X") -> np.ndarray:
    """Divide pixels from 0 to 255 by 255.

    Images of whole numbers and all arrays of dtype uint8 are divided, unless they contain only 0
    and 1. Other arrays are returned unchanged.

    Raises:
        InputError: whole numbers outside 0 to 255 in images.

    >>> scale_pixels(np.array([[0, 51, 255]], np.uint8)).tolist()
    [[0.0, 0.20000000298023224, 1.0]]
    """
    return X.astype(np.float32) / 255 if are_bytes(X, name) else X


def are_bytes(X: np.ndarray, name: str = "X") -> bool:
    """True if an array contains pixels from 0 to 255.

    The values of a memory map are read, but not copied.

    Raises:
        InputError: whole numbers outside 0 to 255 in images.
    """
    is_pixels = X.dtype == np.uint8 or (X.ndim in (3, 4) and X.dtype.kind in "iu")
    if not is_pixels or X.size == 0:
        return False
    low = X.min()
    high = X.max()
    if low < 0 or high > 255:
        index = np.unravel_index(int(np.argmax((X < 0) | (X > 255))), X.shape)
        raise InputError(
            f"{name} must hold values from 0 to 255 if it holds images of whole numbers",
            got=f"{name}[{', '.join(map(str, index))}] = {X[index]}",
            cause="images of 16 bits",
            cure="scale them to [0, 1] and save them as float32",
        )
    return bool(high > 1)


def refuse_other_range(images: np.ndarray, name: str) -> None:
    """Refuse floating-point images with values outside [0, 1].

    Raises:
        InputError: a value is below 0 or above 1.
    """
    if not images.size:
        return
    low = float(images.min())
    high = float(images.max())
    if low < 0 or high > 1:
        raise InputError(
            f"{name} must lie between 0 and 1 if it holds floating-point images",
            got=f"{name} from {low:g} to {high:g}",
            cause="standardised images, or pixels from 0 to 255 as floating-point numbers",
            cure=f"divide them by 255 or by their range; or pass flat rows, "
            f"{name}.reshape(len({name}), -1), which are not rescaled",
        )


def flatten_images(X: np.ndarray, name: str = "X") -> tuple[np.ndarray, tuple[int, int], int]:
    """Flatten images to rows in the order (channels, H, W).

    The images have shape (n, H, W), (n, H, W, C) or (n, C, H, W), where C is 1 or 3.

    Returns:
        The rows, (height, width), and the number of channels.

    Raises:
        InputError: the array has another shape.

    >>> flatten_images(np.zeros((5, 4, 6, 3)))[0].shape
    (5, 72)
    """
    if X.ndim == 3:
        X = X[:, None]
    elif X.ndim == 4 and X.shape[-1] in (1, 3):
        X = np.moveaxis(X, -1, 1)
    elif X.ndim != 4 or X.shape[1] not in (1, 3):
        raise InputError(
            f"{name} must hold images of 1 or 3 channels, on the second or on the last axis",
            got=f"{name} of shape {X.shape}",
            cure="save grey or red-green-blue images, or a matrix of shape (n, features)",
        )
    n, channels, height, width = X.shape
    return X.reshape(n, channels * height * width), (height, width), channels
