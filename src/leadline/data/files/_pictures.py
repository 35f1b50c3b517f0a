"""Decoding of an image file to an array of upright pixels without transparency.

Only formats that Pillow decodes without starting another program are allowed.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from leadline.data._pixels import DIVIDED
from leadline.data.files._regular import open_regular, refusing_damage
from leadline.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""Formats that Pillow decodes by itself. PPM includes PGM.

PostScript is not among them, because Pillow would start another program to decode it.
"""

MOST_PIXELS = 2**30 // 12
"""Maximum number of pixels of an image, equal to Pillow's own limit: 1 GiB as RGB in float32."""

UPRIGHT = "images were turned upright as their EXIF orientation says"
ON_WHITE = "transparent pixels of images were laid on white"
DIVIDED_16 = "pixels from 0 to 65535 were divided by 65535"

_ORIENTATION = 0x0112
"""Number of the EXIF entry for the orientation."""

_TURNED = range(2, 9)
"""Values of the EXIF orientation for images that are not upright."""

_GREY = ("1", "L", "LA", "La")
_REPLACE = "replace or remove it"


@dataclass(frozen=True)
class Picture:
    """The pixels of an image file, and notes about changes to them."""

    pixels: Float32[np.ndarray, "channels H W"]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Frame:
    """The header of an image file."""

    num_pixels: int
    num_channels: int


def read_frame(path: Path) -> Frame:
    """Read the header of an image without decoding its pixels.

    Raises:
        InputError: the file is not an image of an allowed format, is damaged or too large, or
            contains several frames.
    """
    with _opened(path) as image:
        is_grey = image.mode in _GREY or image.mode.startswith("I") or image.mode == "F"
        return Frame(image.width * image.height, 1 if is_grey else 3)


def read_picture(path: Path) -> Picture:
    """Decode an image: grey images have one channel, all others have three (RGB).

    Raises:
        InputError: as for :func:`read_frame`.
    """
    with _opened(path) as image:
        # Pillow rotates TIFF images during decoding, so the orientation must be read before.
        is_turned_by_pillow = image.getexif().get(_ORIENTATION) in _TURNED
        image.load()
        upright, was_turned = _upright(image)
        was_turned = was_turned or is_turned_by_pillow
        if upright.mode.startswith("I"):
            pixels = _sixteen_bits(upright, path)
            notes = [DIVIDED_16]
        elif upright.mode == "F":
            pixels = np.asarray(upright, dtype=np.float32)[None]
            notes = []
        else:
            opaque, was_transparent = _opaque(upright)
            numbers = (
                np.asarray(opaque.convert("L" if opaque.mode in _GREY else "RGB"), dtype=np.float32)
                / 255
            )
            pixels = numbers[None] if numbers.ndim == 2 else np.moveaxis(numbers, -1, 0)
            notes = [DIVIDED, *([ON_WHITE] if was_transparent else [])]
    if not np.isfinite(pixels).all():
        raise InputError(
            "pixels must be finite", got=f"{path} holds NaN or infinite values", cure=_REPLACE
        )
    return Picture(pixels, tuple([*notes, UPRIGHT] if was_turned else notes))


@contextmanager
def _opened(path: Path) -> Iterator["Image.Image"]:
    from PIL import Image

    Image.init()
    # Some installations of Pillow do not support WebP.
    formats = [name for name in FORMATS if name in Image.OPEN]
    with (
        open_regular(path) as file,
        refusing_damage(str(path), cure=_REPLACE),
        warnings.catch_warnings(),
    ):
        # Warnings about damaged metadata are harmless, and the size of the image is checked below.
        warnings.simplefilter("ignore")
        with _identified(file, path, formats) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"an image must have at most {MOST_PIXELS} pixels",
                    got=f"{path} is {image.width} x {image.height}",
                    cause="a damaged or malicious file, or a scan that is meant to be cut up",
                    cure="resize it or crop it",
                )
            # MPO is the JPEG of a camera with a second image, which is not needed.
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise InputError(
                    "an image file must hold a single image",
                    got=f"{path} holds several, as an animation or as pages",
                    cure="save each of them as a file of its own",
                )
            yield image


def _identified(file: object, path: Path, formats: list[str]) -> "Image.Image":
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file, formats=formats)  # type: ignore[arg-type]
    except UnidentifiedImageError:
        raise InputError(
            "every image must be readable",
            got=f"{path}: no image in one of the formats {', '.join(formats)}",
            cause="a damaged or half-copied file, or a file of another format under this name",
            cure=_REPLACE,
        ) from None


def _upright(image: "Image.Image") -> tuple["Image.Image", bool]:
    """Rotate the image by its EXIF orientation. Pillow has already rotated TIFF images."""
    from PIL.Image import Transpose

    methods = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    orientation = image.getexif().get(_ORIENTATION)
    method = methods.get(orientation) if isinstance(orientation, int) else None
    return (image, False) if method is None else (image.transpose(method), True)


def _opaque(image: "Image.Image") -> tuple["Image.Image", bool]:
    """Replace transparency by a white background."""
    from PIL import Image

    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return image, False
    is_grey = image.mode in _GREY
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    layered = image.convert("LA" if is_grey else "RGBA")
    alpha = layered.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return layered.convert("L" if is_grey else "RGB"), False
    white = Image.new("L" if is_grey else "RGB", layered.size, "white")
    white.paste(layered.convert(white.mode), mask=alpha)
    return white, True


def _sixteen_bits(image: "Image.Image", path: Path) -> Float32[np.ndarray, "1 H W"]:
    """Return a grey image of 16 bits as an array. Pillow's own conversion would clip its values."""
    if "transparency" in image.info:
        raise InputError(
            "grey images of 16 bits must have no transparent colour",
            got=str(path),
            cure="save it with 8 bits",
        )
    numbers = np.asarray(image)
    if numbers.min() < 0 or numbers.max() > 65535:
        raise InputError(
            "grey images of whole numbers have values from 0 to 65535",
            got=f"{path} has values from {numbers.min()} to {numbers.max()}",
            cure="save it as float32",
        )
    return np.asarray(numbers, dtype=np.float32)[None] / 65535
