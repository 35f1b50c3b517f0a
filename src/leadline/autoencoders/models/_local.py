"""An encoder that applies an autoencoder of patches at every place of an image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from leadline.autoencoders._tensors import check_generator
from leadline.autoencoders.models._architecture import Architecture
from leadline.autoencoders.models._dense import aligned_linear, drawn_linear
from leadline.autoencoders.models._patches import MOST_NUMBERS, PatchGrid, Size, check_size, pair
from leadline.errors import InputError
from leadline.storage import record

FLOOR = 1e-3
"""Added to an average before its square root, whose slope at zero is infinite."""


@record("autoencoders.LocalArchitecture")
@dataclass(frozen=True)
class LocalArchitecture(Architecture, kind="local"):
    """Sizes of a local encoder.

    One layer, ``relu(W (x - c) + b)``, is applied to all patches of an image. Patches overlap;
    outside the image ``x - c`` is zero. The image is divided into ``cells x cells`` equal cells,
    and the outputs of each unit are averaged in each cell. These averages ``a`` are the code. With
    ``components``, the code is ``P sqrt(a + 0.001) + q`` instead. The root reduces the weight of
    the few large averages in distances.

    Args:
        image_size: Height and width in pixels, or one number for both.
        patch_size: Height and width of a patch, or one number for both; at most the image's.
        channels: 1 for grey, 3 for colour.
        width: Number of units of the layer.
        stride: Distance of neighbouring patches in pixels.
        cells: Number of cells along each side; at most the number of patches along it.
        components: Features of a code; ``None`` for the averages themselves.

    Raises:
        InputError: A size is out of range, or sizes do not match.

    >>> LocalArchitecture(28, 10, width=64, cells=3).output_size
    576
    >>> LocalArchitecture(28, 10, width=64, cells=3, components=100).output_size
    100

    References: Coates, Lee & Ng, *An analysis of single-layer networks in unsupervised feature
    learning*, 2011; Arandjelovic & Zisserman, *Three things everyone should know to improve object
    retrieval*, 2012 (on the root).
    """

    image_size: Size
    patch_size: Size
    channels: int = 1
    width: int = 128
    stride: int = 2
    cells: int = 4
    components: int | None = None

    block_rows: ClassVar[int] = 64

    def __post_init__(self):
        grid = PatchGrid(self.image_size, 1, self.channels)
        object.__setattr__(self, "image_size", grid.sides)
        object.__setattr__(self, "channels", grid.channels)
        object.__setattr__(self, "patch_size", pair(self.patch_size, "patch_size"))
        for name in ("width", "stride", "cells"):
            object.__setattr__(self, name, check_size(getattr(self, name), name))
        if self.components is not None:
            object.__setattr__(self, "components", check_size(self.components, "components"))
        image_sides = pair(self.image_size, "image_size")
        patch_sides = pair(self.patch_size, "patch_size")
        sides = zip(image_sides, patch_sides, self.places, strict=True)
        if any(patch > image or self.cells > places for image, patch, places in sides):
            raise InputError(
                "patch_size must be at most image_size, and each cell must contain a patch",
                got=f"image_size = {self.image_size}, patch_size = {self.patch_size}, "
                f"stride = {self.stride}, cells = {self.cells}",
                cure="choose smaller patches, a smaller stride or fewer cells",
            )
        if self.averages * (self.components or 1) > MOST_NUMBERS:
            raise InputError(
                f"width, cells and components must give at most {MOST_NUMBERS} weights",
                got=f"width = {self.width}, cells = {self.cells}, components = {self.components}",
            )

    @property
    def margins(self) -> tuple[int, int]:
        """Pixels by which patches may reach beyond the image, at the top and at the left."""
        height, width = pair(self.patch_size, "patch_size")
        return height // 2, width // 2

    @property
    def places(self) -> tuple[int, int]:
        """Number of rows and columns of patches."""
        height, width = pair(self.image_size, "image_size")
        p, q = pair(self.patch_size, "patch_size")
        top, left = self.margins
        rows = (height + 2 * top - p) // self.stride + 1
        columns = (width + 2 * left - q) // self.stride + 1
        return rows, columns

    @property
    def grid(self) -> PatchGrid:
        """The image as single pixels."""
        return PatchGrid(self.image_size, 1, self.channels)

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Numbers in a flattened image."""
        return self.grid.features

    @property
    def averages(self) -> int:
        """Number of averages of an image: one for each unit and cell."""
        return self.width * self.cells**2

    @property
    def output_size(self) -> int:
        """Features of a representation."""
        return self.averages if self.components is None else self.components

    def encoder(self, generator: torch.Generator | None = None) -> "LocalEncoder":
        """Return a newly initialised encoder."""
        return LocalEncoder(self, check_generator(generator))

    def encoder_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the names and shapes of the encoder's weights without allocating them."""
        yield "weight", (self.width, self.channels, *pair(self.patch_size, "patch_size"))
        yield "bias", (self.width,)
        yield "centre", (self.input_size,)
        if self.components is not None:
            yield "projection.weight", (self.components, self.averages)
            yield "projection.bias", (self.components,)


class LocalEncoder(nn.Module):
    """Encodes images as cell averages of unit outputs, or as projections of their roots."""

    down: Tensor
    along: Tensor

    def __init__(self, architecture: LocalArchitecture, generator: torch.Generator | None):
        super().__init__()
        self.architecture = architecture
        patch_sides = pair(architecture.patch_size, "patch_size")
        shape = (architecture.width, architecture.channels, *patch_sides)
        bound = (shape[1] * shape[2] * shape[3]) ** -0.5
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(shape[0]).uniform_(-bound, bound, generator=generator))
        self.centre = nn.Parameter(torch.zeros(architecture.input_size))
        self.projection = None
        if architecture.components is not None:
            self.projection = drawn_linear(
                architecture.averages, architecture.components, generator
            )
        rows, columns = architecture.places
        self.register_buffer("down", _averages(rows, architecture.cells), persistent=False)
        self.register_buffer("along", _averages(columns, architecture.cells), persistent=False)

    def forward(self, x: Tensor) -> Float[Tensor, "batch code"]:
        """Return the codes of images, flat or of shape (batch, channels, height, width)."""
        architecture = self.architecture
        image_shape = (architecture.channels, *architecture.grid.sides)
        images = (x.flatten(1) - self.centre).unflatten(1, image_shape)
        top, left = architecture.margins
        padded = pad(images, (left, left, top, top))
        outputs = conv2d(padded, self.weight, self.bias, architecture.stride).relu()
        averages = (self.down @ outputs @ self.along.T).flatten(1)
        if self.projection is None:
            return averages
        return aligned_linear(self.projection, (averages + FLOOR).sqrt())


def _averages(places: int, cells: int) -> Float[Tensor, "cells places"]:
    """Return the matrix that averages places in equal cells; border places count in parts."""
    edges = torch.linspace(0, places, cells + 1, dtype=torch.float64)
    begin = torch.arange(places)
    end = begin + 1
    shares = torch.minimum(edges[1:, None], end) - torch.maximum(edges[:-1, None], begin)
    return (shares.clamp(min=0) * cells / places).float()
