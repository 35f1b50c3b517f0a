"""Folders of images: subfolders are the classes, or all lie flat and are unlabelled."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from leadline.data.dataset import Dataset
from leadline.data.labels import Labels, Read
from leadline.data.pixels import DIVIDED
from leadline.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
"""Files in a folder that count as images; others are passed over."""


def load_folder(path: Path, labels: str | None) -> Read:
    """Images of one size, in rows; grey where all are, else red, green and blue."""
    if labels is not None:
        raise InputError(
            "the labels of a folder of images are its subfolders", got=f"labels = {labels!r}", cure="leave labels out"
        )
    classes = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    flat = _images_in(path)
    if classes and flat:
        raise InputError(
            "a folder holds images, or one subfolder per class, not both",
            got=f"image {flat[0].name} beside subfolder {classes[0].name}",
            cure="move the images into subfolders, or the subfolders away",
        )
    files = {folder.name: _images_in(folder) for folder in classes} if classes else {"": flat}
    empty = [name for name, images in files.items() if not images]
    if empty:
        raise InputError(
            "a folder of images needs at least one image" + (" per class" if classes else ""),
            got=f"no image in {path / empty[0]}",
            cause="another folder was meant, or the images lie one level deeper",
            cure=f"images end in {', '.join(IMAGE_SUFFIXES)}",
        )
    paths = [image for images in files.values() for image in images]
    X, image_size, channels = _read_images(paths)
    dataset = Dataset(X, None, path.resolve().name, image_size, channels, notes=(DIVIDED,), divisor=255)
    names = np.array([name for name, images in files.items() for _ in images])
    return dataset, Labels(names, "subfolders") if classes else None


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
    )


def _read_images(paths: Sequence[Path]) -> tuple[np.ndarray, tuple[int, int], int]:
    """Grey where every image is grey, else red, green and blue (transparency is dropped); in [0, 1]."""
    images = [_read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape[1:] != images[0].shape[1:]:
            sizes = [f"{p} is {i.shape[2]} x {i.shape[1]}" for p, i in ((paths[0], images[0]), (path, image))]
            raise InputError(
                "images must be of one size",
                got=" and ".join(sizes) + " pixels",
                cure="resize or crop them to one size",
            )
    channels = max(len(image) for image in images)
    X = np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images])
    return X.reshape(len(X), -1), images[0].shape[1:], channels


def _read_image(path: Path) -> Float32[np.ndarray, "channels H W"]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # grey of 16 bits, which Pillow's own conversion would clip
                return np.asarray(image, dtype=np.float32)[None] / 65535
            if image.mode == "F":
                return np.asarray(image)[None]
            is_grey = image.mode in ("1", "L", "LA")
            pixels = np.asarray(image.convert("L" if is_grey else "RGB"), dtype=np.float32) / 255
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            "every image must be readable",
            got=f"{path}: {error}",
            cause="a damaged or half-copied file",
            cure="replace or remove it",
        ) from error
    return pixels[None] if is_grey else np.moveaxis(pixels, -1, 0)
