"""Grids of patches: the places of patches in flattened images, and checks of images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from leadline import checks
from leadline.autoencoders._row_form import RowForm
from leadline.data import Dataset, check_features, refuse_other_range
from leadline.errors import InputError

Size = int | tuple[int, int]
"""Height and width, or one number for both."""

LONGEST_SIDE = 2**20
"""Maximum height and width of an image in pixels."""

MOST_NUMBERS = 2**31 - 1
"""Maximum number of pixels of an image, and of weights of a layer."""


@dataclass(frozen=True)
class PatchGrid:
    """A grid of patches without overlap, for images of one size.

    Patches are numbered row by row. A patch holds its pixels in the order (channels, height,
    width), as a flattened image does.

    Args:
        image_size: Height and width in pixels, or one number for both; multiples of those of the
            patch.
        patch_size: Height and width of a patch in pixels, or one number for both.
        channels: 1 for grey, 3 for colour.

    >>> grid = PatchGrid((4, 6), 2)
    >>> grid.shape, grid.num_patches, grid.patch_features
    ((2, 3), 6, 4)
    """

    image_size: Size
    patch_size: Size
    channels: int = 1

    def __post_init__(self):
        object.__setattr__(self, "image_size", pair(self.image_size, "image_size"))
        object.__setattr__(self, "patch_size", pair(self.patch_size, "patch_size"))
        object.__setattr__(self, "channels", check_size(self.channels, "channels"))
        if self.channels * self.sides[0] * self.sides[1] > MOST_NUMBERS:
            raise InputError(
                f"image_size must give images of at most {MOST_NUMBERS} numbers",
                got=f"image_size = {self.image_size}, channels = {self.channels}",
            )
        for size, patch, side in zip(
            self.sides, self.patch_sides, ("height", "width"), strict=True
        ):
            if size % patch:
                below = max(patch, size // patch * patch)
                above = -(-size // patch) * patch
                divisors = [str(p) for p in range(1, min(size, 999) + 1) if size % p == 0]
                raise InputError(
                    "image_size must be a multiple of patch_size",
                    got=f"{side} {size}, patches of {patch}",
                    cure=f"crop or pad the images to {below} or {above} pixels, "
                    f"or choose a patch size that divides {size}: {', '.join(divisors)}",
                )

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return pair(self.image_size, "image_size")

    @property
    def patch_sides(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return pair(self.patch_size, "patch_size")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns of patches."""
        height, width = self.sides
        p, q = self.patch_sides
        return height // p, width // q

    @property
    def num_patches(self) -> int:
        """Number of patches of an image."""
        return self.shape[0] * self.shape[1]

    @property
    def patch_features(self) -> int:
        """Numbers in a patch."""
        return self.channels * self.patch_sides[0] * self.patch_sides[1]

    @property
    def features(self) -> int:
        """Numbers in an image."""
        return self.num_patches * self.patch_features

    def patchify(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch patches numbers"]:
        """Cut images, flattened or of shape (batch, channels, height, width), into patches."""
        rows, columns = self.shape
        p, q = self.patch_sides
        cut = x.reshape(-1, self.channels, rows, p, columns, q).permute(0, 2, 4, 1, 3, 5)
        return cut.reshape(-1, self.num_patches, self.patch_features)

    def unpatchify(
        self, patches: Float[Tensor, "batch patches numbers"]
    ) -> Float[Tensor, "batch features"]:
        """Return flattened images; the inverse of :meth:`patchify`."""
        rows, columns = self.shape
        p, q = self.patch_sides
        cut = patches.reshape(-1, rows, columns, self.channels, p, q).permute(0, 3, 1, 4, 2, 5)
        return cut.reshape(-1, self.features)

    def of_patches(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch patches"]:
        """Return the first number of each patch; the inverse of :meth:`spread`."""
        rows, columns = self.shape
        p, q = self.patch_sides
        return x.view(-1, self.channels, rows, p, columns, q)[:, 0, :, 0, :, 0].flatten(1)

    def spread(self, of_patch: Bool[Tensor, "batch patches"]) -> Bool[Tensor, "batch features"]:
        """Repeat a value for each patch at all numbers of the patch in a flattened image."""
        rows, columns = self.shape
        p, q = self.patch_sides
        cut = of_patch.view(-1, 1, rows, 1, columns, 1).expand(-1, self.channels, -1, p, -1, q)
        return cut.reshape(-1, self.features)


def pair(size: Any, name: str) -> tuple[int, int]:
    """Return a size as (height, width).

    Raises:
        InputError: The size is not one or two whole numbers in range.
    """
    is_pair = isinstance(size, (tuple, list)) or getattr(size, "ndim", 0) == 1
    sides = checks.items(size, name) if is_pair else (size, size)
    if len(sides) != 2:
        raise InputError(
            f"{name} must be one whole number or (height, width)",
            got=f"{name} = {checks.shown(size)}",
        )
    height = checks.whole_number(sides[0], name)
    width = checks.whole_number(sides[1], name)
    if min(height, width) < 1:
        raise InputError(f"{name} must be at least 1", got=f"{name} = {checks.shown(size)}")
    if max(height, width) > LONGEST_SIDE:
        raise InputError(
            f"{name} must be at most {LONGEST_SIDE}", got=f"{name} = {checks.shown(size)}"
        )
    return height, width


def check_size(value: Any, name: str) -> int:
    """Return a count, such as of units or layers: a whole number from 1 to 2^31 - 1.

    Raises:
        InputError: The value is something else.
    """
    plain = checks.whole_number(value, name, least=1)
    if plain <= MOST_NUMBERS:
        return plain
    return checks.whole_number(plain, name, least=1, most=MOST_NUMBERS)


def check_images(
    X: Any,
    grid: PatchGrid,
    name: str = "X",
    *,
    any_size: bool = False,
    dtype: type[np.floating] = np.float32,
    first_row: int = 0,
    form: RowForm | None = None,
) -> Float[np.ndarray, "n channels height width"]:
    """Return images of shape (n, channels, height, width).

    Flat rows of floating-point numbers may have any range. Floating-point numbers in arrays that
    are shaped like images must lie between 0 and 1, because another scale may be a mistake.

    Args:
        X: Flat rows of shape (n, features), or images of shape (n, height, width),
            (n, channels, height, width) or (n, height, width, channels).
        grid: The grid that the model was built for.
        name: The argument's name in messages.
        any_size: True to allow images whose sides are other multiples of the patch's.
        dtype: Number type of the result.
        first_row: Number of the first image in messages, for a part of a larger array.
        form: Determines the divisor of whole numbers; by default 255, or 1 if all are 0 or 1.

    Raises:
        InputError: Another shape or scale, or numbers that are not finite.
    """
    form = RowForm.of(X, name) if form is None else form
    array = form.apply(X, name)
    if isinstance(X, Dataset) and X.image_size is not None:
        size = (X.channels, *X.image_size)
        if size != (grid.channels, *grid.sides):
            array = array.reshape(len(array), *size)
    if array.ndim <= 2:
        rows = check_features(array, name, dtype=dtype, first_row=first_row)
        if rows.shape[1] != grid.features:
            height, width = grid.sides
            raise InputError(
                f"{name} must have channels x height x width features",
                got=f"{name} has {rows.shape[1]} features, "
                f"the model takes {grid.channels} x {height} x {width} = {grid.features}",
                cause="images of another size or with other channels",
                cure="pass images of another size in the shape (n, channels, height, width)",
            )
        return rows.reshape(len(rows), grid.channels, *grid.sides)
    images = array[:, None] if array.ndim == 3 else array
    if images.ndim == 4 and images.shape[1] != grid.channels == images.shape[3]:
        images = np.moveaxis(images, 3, 1)
    if images.ndim != 4 or images.shape[1] != grid.channels or 0 in images.shape:
        raise InputError(
            f"{name} must have the shape (n, {grid.channels}, height, width)",
            got=f"{name} of shape {array.shape}",
            cure=f"convert the images to {grid.channels} channel(s)",
        )
    if images.shape[2:] != grid.sides:
        if not any_size:
            raise InputError(
                f"{name} must be images of the size that the model was built for",
                got=f"{name} of {images.shape[2]} x {images.shape[3]} pixels, "
                f"the model takes {grid.sides[0]} x {grid.sides[1]}",
                cure=f"build the model with image_size=({images.shape[2]}, {images.shape[3]})",
            )
        PatchGrid((images.shape[2], images.shape[3]), grid.patch_size, grid.channels)
    flat = check_features(images.reshape(len(images), -1), name, dtype=dtype, first_row=first_row)
    if form.scale != "whole" and not isinstance(X, Dataset):
        refuse_other_range(flat, name)
    return flat.reshape(images.shape)
