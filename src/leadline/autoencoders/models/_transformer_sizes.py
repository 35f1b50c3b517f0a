"""Checks of the sizes of a patch transformer, and the shapes of its encoder's weights."""

import math
from collections.abc import Iterator
from typing import Any

from leadline import checks
from leadline.autoencoders.models._patches import MOST_NUMBERS, PatchGrid, check_size
from leadline.errors import InputError

MOST_PATCHES = 2**16
"""Maximum number of patches of an image: attention compares all pairs of patches."""

DEEPEST = 2**12
"""Maximum number of blocks of an encoder or decoder."""


def check_layers(
    width: Any, depth: Any, heads: Any, *, prefix: str, patch_features: int
) -> tuple[int, int, int]:
    """Return the width, depth and number of heads of an encoder or decoder as plain numbers.

    Args:
        width: Features of a token.
        depth: Number of blocks.
        heads: Attention heads of each block.
        prefix: Prefix of the arguments' names in messages: empty or ``"decoder_"``.
        patch_features: Numbers in a patch.

    Raises:
        InputError: A size is out of range, or sizes do not match.
    """
    width = check_size(width, f"{prefix}width")
    depth = check_size(depth, f"{prefix}depth")
    heads = check_size(heads, f"{prefix}heads")
    if width % 4 or width % heads:
        step = math.lcm(4, heads)
        raise InputError(
            f"{prefix}width must be a multiple of 4 and of {prefix}heads",
            got=f"{prefix}width = {width}, {prefix}heads = {heads}",
            cure=f"{prefix}width={max(step, round(width / step) * step)}",
        )
    if depth > DEEPEST:
        raise InputError(f"{prefix}depth must be at most {DEEPEST}", got=f"{prefix}depth = {depth}")
    if width * max(4 * width, patch_features) > MOST_NUMBERS:
        raise InputError(
            f"{prefix}width must give layers of at most {MOST_NUMBERS} weights",
            got=f"{prefix}width = {width}",
        )
    return width, depth, heads


def check_pooling(pooling: Any) -> None:
    """Refuse an unknown pooling."""
    if not isinstance(pooling, str) or pooling not in ("mean", "class", "none"):
        raise InputError(
            "pooling must be 'mean', 'class' or 'none' (all tokens)",
            got=f"pooling = {checks.shown(pooling)}",
        )


def check_patches(grid: PatchGrid, normalise: bool) -> None:
    """Refuse too many patches, and the normalisation of patches of one number."""
    if grid.num_patches > MOST_PATCHES:
        raise InputError(
            f"image_size and patch_size must give at most {MOST_PATCHES} patches",
            got=f"image_size = {grid.sides}, patch_size = {grid.patch_sides}: "
            f"{grid.num_patches} patches",
            cure="choose larger patches",
        )
    if normalise and grid.patch_features == 1:
        raise InputError(
            "normalise=True needs patches of two or more numbers",
            got="patches of 1 number",
            cure="normalise=False",
        )


def encoder_shapes(
    width: int, depth: int, patch_features: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of the encoder's weights without allocating them."""
    yield "class_token", (width,)
    yield "embed.weight", (width, patch_features)
    yield "embed.bias", (width,)
    layers = {
        "qkv": (3 * width, width),
        "out": (width, width),
        "up": (4 * width, width),
        "down": (width, 4 * width),
    }
    for block in range(depth):
        for name, shape in layers.items():
            yield f"blocks.{block}.{name}.weight", shape
            yield f"blocks.{block}.{name}.bias", shape[:1]
        for name in ("norm1", "norm2"):
            yield f"blocks.{block}.{name}.weight", (width,)
            yield f"blocks.{block}.{name}.bias", (width,)
    yield "norm.weight", (width,)
    yield "norm.bias", (width,)
