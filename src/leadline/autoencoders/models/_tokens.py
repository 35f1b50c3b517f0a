"""The encoder of visible patches, and the decoder that predicts all patches."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import embedding, pad

from leadline.autoencoders.models._attention import EPSILON, Block, linear_layer
from leadline.autoencoders.models._patches import PatchGrid

Pooling = Literal["mean", "class", "none"]
"""Representation of an image: the mean of its patch tokens, its class token, or all tokens."""


class PatchEncoder(nn.Module):
    """Encodes visible patches as tokens. Called with images, it pools their tokens."""

    positions: Tensor

    def __init__(
        self,
        grid: PatchGrid,
        width: int,
        depth: int,
        heads: int,
        pooling: Pooling,
        generator: torch.Generator | None,
    ):
        super().__init__()
        self.grid = grid
        self.pooling = pooling
        self.embed = linear_layer(grid.patch_features, width, generator)
        self.class_token = nn.Parameter(torch.empty(width).normal_(std=0.02, generator=generator))
        self.blocks = nn.ModuleList([Block(width, heads, generator) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.register_buffer("positions", sinusoidal_positions(grid.shape, width), persistent=False)

    def tokens(
        self,
        patches: Float[Tensor, "batch patches numbers"],
        positions: Float[Tensor, "*batch patches width"],
        present: Bool[Tensor, "batch patches"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Return the class token and the tokens of the visible patches.

        Args:
            patches: The visible patches.
            positions: Their position embeddings.
            present: False where a patch is padding; ``None`` if there is no padding.
        """
        x = self.embed(patches) + positions
        x = torch.cat([self.class_token.expand(x.shape[0], 1, -1), x], 1)
        attended = _attended(present)
        for block in self.blocks:
            x = block(x, attended=attended)
        return self.norm(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the representation of clean images.

        Args:
            x: Flat rows of the training size, or images of shape (n, channels, height, width).
        """
        patches, positions = self._cut(x)
        return self._pooled(self.tokens(patches, positions), None)

    def encode_padded(self, images: Sequence[Tensor]) -> Tensor:
        """Encode images of shape (channels, height, width) and any size as one padded batch."""
        cut = [self._cut(image.unsqueeze(0)) for image in images]
        patches = nn.utils.rnn.pad_sequence([patches[0] for patches, _ in cut], batch_first=True)
        positions = nn.utils.rnn.pad_sequence([positions for _, positions in cut], batch_first=True)
        lengths = torch.tensor([len(positions) for _, positions in cut], device=patches.device)
        present = torch.arange(patches.shape[1], device=patches.device) < lengths.unsqueeze(1)
        return self._pooled(self.tokens(patches, positions, present), present)

    def _cut(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the patches of images and their position embeddings."""
        if x.ndim == 2 or tuple(x.shape[2:]) == self.grid.sides:
            return self.grid.patchify(x), self.positions
        grid = replace(self.grid, image_size=(x.shape[2], x.shape[3]))
        positions = sinusoidal_positions(grid.shape, self.positions.shape[1])
        return grid.patchify(x), positions.to(self.positions)

    def _pooled(self, tokens: Tensor, present: Tensor | None) -> Tensor:
        if self.pooling == "class":
            return tokens[:, 0]
        patches = tokens[:, 1:]
        if present is not None:
            patches = patches.masked_fill(~present.unsqueeze(2), 0)
        if self.pooling == "none":
            return patches
        return patches.mean(1) if present is None else patches.sum(1) / present.sum(1, keepdim=True)


class PatchDecoder(nn.Module):
    """Predicts the pixels of all patches from the tokens of the visible patches."""

    positions: Tensor

    def __init__(
        self,
        grid: PatchGrid,
        encoder_width: int,
        width: int,
        depth: int,
        heads: int,
        generator: torch.Generator | None,
    ):
        super().__init__()
        self.embed = linear_layer(encoder_width, width, generator)
        self.mask_token = nn.Parameter(torch.empty(width).normal_(std=0.02, generator=generator))
        self.blocks = nn.ModuleList([Block(width, heads, generator) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.predict = linear_layer(width, grid.patch_features, generator)
        self.register_buffer("positions", sinusoidal_positions(grid.shape, width), persistent=False)

    def forward(
        self, tokens: Tensor, index: Tensor, present: Tensor | None, wanted: Tensor | None
    ) -> Tensor:
        """Return the predicted patches, shape (batch, wanted, numbers of a patch).

        Args:
            tokens: The encoder's tokens, class token first, shape (batch, 1 + visible, width).
            index: Indices of the visible patches, shape (batch, visible).
            present: False where a patch is padding, shape (batch, visible); or ``None``.
            wanted: Indices of the patches to predict, shape (batch, wanted); ``None`` for all.
        """
        num_patches = len(self.positions)
        batch, numbers = tokens.shape[:2]
        # The class token has place 0.
        place = pad(index + 1, (1, 0))
        shown = self.embed(tokens) + pad(self.positions, (0, 0, 1, 0))[place]
        # The mask token at a place is equal in all images: the table has one row for each place,
        # followed by the visible tokens.
        rows = torch.cat([pad(self.mask_token + self.positions, (0, 0, 1, 0)), shown.flatten(0, 1)])
        number = torch.arange(num_patches + 1, len(rows), device=rows.device).view(batch, numbers)
        places = torch.arange(num_patches + 2, device=rows.device).repeat(batch, 1)
        if present is not None:
            # Padding goes to an extra place that is cut off below.
            place = place.masked_fill(pad(~present, (1, 0)), num_patches + 1)
        places = places.scatter_(1, place, number)[:, : num_patches + 1]
        if len(self.blocks) > 1:
            x = embedding(places, rows)
            for block in self.blocks[:-1]:
                x = block(x)
            rows = x.flatten(0, 1)
            places = torch.arange(places.numel(), device=x.device).view_as(places)
        wanted = places[:, 1:] if wanted is None else places.gather(1, wanted + 1)
        return self.predict(self.norm(self.blocks[-1](rows, places=places, wanted=wanted)))


def sinusoidal_positions(shape: tuple[int, int], width: int) -> Float[Tensor, "patches width"]:
    """Return sinusoidal embeddings of a patch's column (first half) and row (second half).

    Formula: ``sin(p w_i), cos(p w_i)`` with ``w_i = 10000^(-4i / width)``, where i runs from 0 to
    ``width / 4 - 1`` and p is the row or column, counted in patches.

    >>> sinusoidal_positions((1, 2), 4).numpy().round(3).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8410000205039978, 0.5400000214576721, 0.0, 1.0]]

    Reference: Chen et al., *An empirical study of training self-supervised vision transformers*,
    2021.
    """
    frequency = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = (
        axis.reshape(-1, 1) * frequency
        for axis in torch.meshgrid(*map(_count, shape), indexing="ij")
    )
    return torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], 1).float()


def _count(length: int) -> Tensor:
    return torch.arange(length, dtype=torch.float64)


def first_of(chosen: Bool[Tensor, "batch patches"]) -> tuple[Tensor, Tensor | None]:
    """Return the indices of the chosen patches of each image.

    Returns:
        Indices of shape (batch, most), and booleans that are false where an index is padding. The
        booleans are ``None`` if all images have equally many chosen patches.
    """
    numbers = chosen.sum(1)
    most = int(numbers.max())
    if most == int(numbers.min()):
        return chosen.nonzero()[:, 1].view(len(chosen), most), None
    index = chosen.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return index, torch.arange(most, device=chosen.device) < numbers.unsqueeze(1)


def _attended(present: Tensor | None) -> Tensor | None:
    """Return the attention mask: true for the class token and for patches without padding."""
    return None if present is None else pad(present, (1, 0), value=True)[:, None, None]
