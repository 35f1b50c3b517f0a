"""Patches as tokens: the encoder of those that are visible, and the decoder that predicts the others."""

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
"""What stands for an image: the mean of its patch tokens, the class token, or all patch tokens."""


class PatchEncoder(nn.Module):
    """From visible patches to tokens; pooled when it is called with images."""

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
        self.grid, self.pooling = grid, pooling
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
        """Class token and patch tokens of what is visible; ``present`` is false where a patch is padding."""
        x = self.embed(patches) + positions
        x = torch.cat([self.class_token.expand(x.shape[0], 1, -1), x], 1)
        attended = _attended(present)
        for block in self.blocks:
            x = block(x, attended=attended)
        return self.norm(x)

    def forward(self, x: Tensor) -> Tensor:
        """The representation of clean images: flat rows of the size trained on, or (n, channels, height, width)."""
        patches, positions = self._cut(x)
        return self._pooled(self.tokens(patches, positions), None)

    def encode_padded(self, images: Sequence[Tensor]) -> Tensor:
        """The representations of images of any sizes, (channels, height, width) each, encoded as one padded batch."""
        cut = [self._cut(image.unsqueeze(0)) for image in images]
        patches = nn.utils.rnn.pad_sequence([patches[0] for patches, _ in cut], batch_first=True)
        positions = nn.utils.rnn.pad_sequence([positions for _, positions in cut], batch_first=True)
        lengths = torch.tensor([len(positions) for _, positions in cut], device=patches.device)
        present = torch.arange(patches.shape[1], device=patches.device) < lengths.unsqueeze(1)
        return self._pooled(self.tokens(patches, positions, present), present)

    def _cut(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Patches and the positions of their grid."""
        if x.ndim == 2 or tuple(x.shape[2:]) == self.grid.sides:
            return self.grid.patchify(x), self.positions
        grid = replace(self.grid, image_size=(x.shape[2], x.shape[3]))
        return grid.patchify(x), sinusoidal_positions(grid.shape, self.positions.shape[1]).to(
            self.positions
        )

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
    """From the tokens of visible patches to the pixels of all patches."""

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
        """Predictions of patches.

        Args:
            tokens: of the encoder, class token first, shape (batch, 1 + visible, width).
            index: where its patch tokens stand, shape (batch, visible).
            present: false where one is padding, shape (batch, visible), or ``None``.
            wanted: indices of the patches to predict, shape (batch, wanted), or ``None`` for all.

        Returns:
            Shape (batch, wanted, numbers of a patch).
        """
        num_patches, (batch, numbers) = len(self.positions), tokens.shape[:2]
        place = pad(index + 1, (1, 0))  # the class token stands first
        shown = self.embed(tokens) + pad(self.positions, (0, 0, 1, 0))[place]
        # Hidden patches of one place are the same token in all images: a row for each place, then what is shown.
        rows = torch.cat([pad(self.mask_token + self.positions, (0, 0, 1, 0)), shown.flatten(0, 1)])
        number = torch.arange(num_patches + 1, len(rows), device=rows.device).view(batch, numbers)
        places = torch.arange(num_patches + 2, device=rows.device).repeat(batch, 1)
        if present is not None:  # padding is written to a place of its own, which is then cut off
            place = place.masked_fill(pad(~present, (1, 0)), num_patches + 1)
        places = places.scatter_(1, place, number)[:, : num_patches + 1]
        if len(self.blocks) > 1:
            x = embedding(places, rows)
            for block in self.blocks[:-1]:
                x = block(x)
            rows, places = (
                x.flatten(0, 1),
                torch.arange(places.numel(), device=x.device).view_as(places),
            )
        wanted = places[:, 1:] if wanted is None else places.gather(1, wanted + 1)
        return self.predict(self.norm(self.blocks[-1](rows, places=places, wanted=wanted)))


def sinusoidal_positions(shape: tuple[int, int], width: int) -> Float[Tensor, "patches width"]:
    """Sines and cosines of a patch's column (first half of the numbers) and row (second half), in patches.

    Formula: ``sin(p w_i), cos(p w_i)`` with ``w_i = 10000^(-4i / width)``, i from 0 to ``width / 4 - 1``.

    >>> sinusoidal_positions((1, 2), 4).numpy().round(3).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8410000205039978, 0.5400000214576721, 0.0, 1.0]]

    Reference: Chen et al., *An empirical study of training self-supervised vision transformers*, 2021.
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
    """Indices of the chosen patches of each image; and which of them are there, where images have unequally many."""
    numbers = chosen.sum(1)
    most = int(numbers.max())
    if most == int(numbers.min()):
        return chosen.nonzero()[:, 1].view(len(chosen), most), None
    index = chosen.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return index, torch.arange(most, device=chosen.device) < numbers.unsqueeze(1)


def _attended(present: Tensor | None) -> Tensor | None:
    """What tokens may attend to: the class token, and patches that are there."""
    return None if present is None else pad(present, (1, 0), value=True)[:, None, None]
