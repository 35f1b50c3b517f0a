"""Loading of images from a folder, with or without a subfolder for each class."""

import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leadline.data._dataset import Dataset
from leadline.data._memory import refuse_too_large
from leadline.data._pixels import DIVIDED
from leadline.data.files._labels import Labels, Read
from leadline.data.files._pictures import DIVIDED_16, read_frame, read_picture
from leadline.data.files._regular import entries, kind_of, unreachable
from leadline.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
"""File name extensions of images. Other files in a folder are ignored."""


def load_folder(path: Path, labels: str | None) -> Read:
    """Load images of the same size as rows: grey if all images are grey, RGB otherwise."""
    if labels is not None:
        raise InputError(
            "the labels of a folder of images are its subfolders",
            got=f"labels = {labels!r}",
            cure="leave labels out",
        )
    classes = [entry for entry in entries(path) if _is_folder(entry)]
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
    X, image_size, channels, notes = _read_images(paths)
    divisor = 255 if DIVIDED in notes and DIVIDED_16 not in notes else None
    dataset = Dataset(
        X, None, path.resolve().name, image_size, channels, notes=notes, divisor=divisor
    )
    names = np.array([name for name, images in files.items() for _ in images])
    return dataset, Labels(names, "subfolders") if classes else None


def _images_in(folder: Path) -> list[Path]:
    """Return the image files of a folder. A broken link with the name of an image is an error."""
    named = [entry for entry in entries(folder) if entry.suffix.lower() in IMAGE_SUFFIXES]
    return [entry for entry in named if kind_of(entry) == "file"]


def _is_folder(entry: Path) -> bool:
    """True for a folder, false for a broken link. Only images must be regular files."""
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreachable(entry, error) from None


def _read_images(paths: Sequence[Path]) -> tuple[np.ndarray, tuple[int, int], int, tuple[str, ...]]:
    """Read images in grey if all images are grey, and in RGB otherwise.

    All headers are read before any pixel is decoded.
    """
    frames = [read_frame(path) for path in paths]
    channels = max(frame.num_channels for frame in frames)
    numbers = max(frame.num_pixels for frame in frames) * channels
    needed = 4 * numbers * (len(frames) + 2)
    refuse_too_large(
        needed, f"{len(frames)} images of {numbers // channels} pixels", cure="resize the images"
    )
    notes: dict[str, None] = {}
    X = np.empty((0, 0), np.float32)
    shape = (0, 0)
    for i, path in enumerate(paths):
        picture = read_picture(path)
        height, width = picture.pixels.shape[1:]
        if i == 0:
            shape = (height, width)
            X = np.empty((len(paths), channels * height * width), np.float32)
        if (height, width) != shape:
            raise InputError(
                "images must be of one size",
                got=f"{paths[0]} is {shape[1]} x {shape[0]} and {path} is {width} x {height} "
                "pixels",
                cure="resize or crop them to one size",
            )
        if len(picture.pixels) > channels:
            raise InputError(
                "every image must be readable",
                got=f"{path} has colours, and its header says that it is grey",
                cure="replace or remove it",
            )
        X[i] = np.broadcast_to(picture.pixels, (channels, height, width)).ravel()
        notes |= dict.fromkeys(picture.notes)
    return X, shape, channels, tuple(notes)
