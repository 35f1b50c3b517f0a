"""An encoder of patches at every place of an image: what an autoencoder of patches becomes when it is used."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from leadline.autoencoders._tensors import check_generator
from leadline.autoencoders.models._dense import aligned_linear, drawn_linear
from leadline.autoencoders.models._patches import MOST_NUMBERS, PatchGrid, Size, check_size, pair
from leadline.errors import InputError
from leadline.storage import record

FLOOR = 1e-3
"""What is added to an average before its root is taken, whose slope at zero would be infinite."""


@record("autoencoders.LocalArchitecture")
@dataclass(frozen=True)
class LocalArchitecture:
    """Sizes of a local encoder.

    Every patch of an image goes through the same layer, ``relu(W (x - c) + b)``; patches overlap, and beyond the rim
    ``x - c`` is zero. The image is cut into ``cells x cells`` equal cells, and a unit's answers are averaged in each.
    These averages ``a`` are the code; or, with ``components``, as many numbers ``P sqrt(a + 0.001) + q`` are. The root
    takes from the few averages that are large their weight in distances.

    Args:
        image_size: height and width in pixels, or one number for both.
        patch_size: height and width of a patch, or one number for both; at most the image's.
        channels: 1 for grey, 3 for colour.
        width: units that look at a patch.
        stride: pixels from one patch to the next.
        cells: cells along each side; at most as many as there are patches.
        components: numbers in a code; ``None``: the averages themselves.

    >>> LocalArchitecture(28, 10, width=64, cells=3).output_size
    576
    >>> LocalArchitecture(28, 10, width=64, cells=3, components=100).output_size
    100

    References: Coates, Lee & Ng, *An analysis of single-layer networks in unsupervised feature learning*, 2011;
    Arandjelovic & Zisserman, *Three things everyone should know to improve object retrieval*, 2012 (on the root).
    """

    image_size: Size
    patch_size: Size
    channels: int = 1
    width: int = 128
    stride: int = 2
    cells: int = 4
    components: int | None = None

    block_rows: ClassVar[int] = 64
    """Images that are encoded at once."""

    def __post_init__(self):
        grid = PatchGrid(self.image_size, 1, self.channels)
        object.__setattr__(self, "image_size", grid.sides)
        object.__setattr__(self, "channels", grid.channels)
        object.__setattr__(self, "patch_size", pair(self.patch_size, "patch_size"))
        for name in ("width", "stride", "cells"):
            object.__setattr__(self, name, check_size(getattr(self, name), name))
        if self.components is not None:
            object.__setattr__(self, "components", check_size(self.components, "components"))
        sides = list(
            zip(pair(self.image_size, ""), pair(self.patch_size, ""), self.places, strict=True)
        )
        if any(patch > image or self.cells > places for image, patch, places in sides):
            raise InputError(
                "patches must fit into the image, and a cell must hold at least one",
                got=f"image_size = {self.image_size}, patch_size = {self.patch_size}, stride = {self.stride}, "
                f"cells = {self.cells}",
                cure="choose smaller patches, a smaller stride or fewer cells",
            )
        if self.averages * (self.components or 1) > MOST_NUMBERS:
            raise InputError(
                f"a layer has at most {MOST_NUMBERS} weights",
                got=f"width = {self.width}, cells = {self.cells}, components = {self.components}",
            )

    @property
    def margins(self) -> tuple[int, int]:
        """Pixels by which patches may stand over the rim, above and at the left."""
        height, width = pair(self.patch_size, "patch_size")
        return height // 2, width // 2

    @property
    def places(self) -> tuple[int, int]:
        """Patches below each other and side by side."""
        sides = zip(pair(self.image_size, ""), pair(self.patch_size, ""), self.margins, strict=True)
        down, along = (
            (size + 2 * margin - patch) // self.stride + 1 for size, patch, margin in sides
        )
        return down, along

    @property
    def grid(self) -> PatchGrid:
        """The image as single pixels."""
        return PatchGrid(self.image_size, 1, self.channels)

    @property
    def input_size(self) -> int:
        """Numbers in a flattened image."""
        return self.grid.features

    @property
    def averages(self) -> int:
        """Averages of an image: one for each unit and cell."""
        return self.width * self.cells**2

    @property
    def output_size(self) -> int:
        """Numbers in a representation."""
        return self.averages if self.components is None else self.components

    def encoder(self, generator: torch.Generator | None = None) -> "LocalEncoder":
        """The encoder with the weights that PyTorch would draw."""
        return LocalEncoder(self, check_generator(generator))

    def encoder_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The names and shapes of the encoder's weights, told without making them."""
        yield "weight", (self.width, self.channels, *pair(self.patch_size, "patch_size"))
        yield "bias", (self.width,)
        yield "centre", (self.input_size,)
        if self.components is not None:
            yield "projection.weight", (self.components, self.averages)
            yield "projection.bias", (self.components,)


class LocalEncoder(nn.Module):
    """From images to averages by cell of what the units say of the patches, or to components of their roots."""

    down: Tensor
    along: Tensor

    def __init__(self, architecture: LocalArchitecture, generator: torch.Generator | None):
        super().__init__()
        self.architecture = architecture
        shape = (architecture.width, architecture.channels, *pair(architecture.patch_size, ""))
        reach = (shape[1] * shape[2] * shape[3]) ** -0.5
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-reach, reach, generator=generator))
        self.bias = nn.Parameter(torch.empty(shape[0]).uniform_(-reach, reach, generator=generator))
        self.centre = nn.Parameter(torch.zeros(architecture.input_size))
        self.projection = None
        if architecture.components is not None:
            self.projection = drawn_linear(
                architecture.averages, architecture.components, generator
            )
        down, along = (_averages(places, architecture.cells) for places in architecture.places)
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("along", along, persistent=False)

    def forward(self, x: Tensor) -> Float[Tensor, "batch code"]:
        """Codes of images, flat or of shape (batch, channels, height, width)."""
        architecture = self.architecture
        images = (x.flatten(1) - self.centre).unflatten(
            1, (architecture.channels, *architecture.grid.sides)
        )
        top, left = architecture.margins
        answers = conv2d(
            pad(images, (left, left, top, top)), self.weight, self.bias, architecture.stride
        ).relu()
        averages = (self.down @ answers @ self.along.T).flatten(1)
        return (
            averages
            if self.projection is None
            else aligned_linear(self.projection, (averages + FLOOR).sqrt())
        )


def _averages(places: int, cells: int) -> Float[Tensor, "cells places"]:
    """The matrix that averages places in cells of equal length; a place between two cells is shared."""
    edges = torch.linspace(0, places, cells + 1, dtype=torch.float64)
    begin, end = torch.arange(places), torch.arange(1, places + 1)
    shares = torch.minimum(edges[1:, None], end) - torch.maximum(edges[:-1, None], begin)
    return (shares.clamp(min=0) * cells / places).float()
