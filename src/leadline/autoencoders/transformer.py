"""The masked patch transformer: an encoder that is given visible patches only, and a light decoder for the rest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from leadline.autoencoders.attention import EPSILON, select
from leadline.autoencoders.corruption import Corruption, CountedLoss, PatchMask
from leadline.autoencoders.patches import PatchGrid, Size, check_images
from leadline.autoencoders.tokens import PatchDecoder, PatchEncoder, Pooling, first_of
from leadline.errors import InputError
from leadline.randomness import torch_generator


@dataclass(frozen=True)
class PatchArchitecture:
    """Sizes of a masked patch transformer; see :class:`MaskedPatchTransformer`."""

    image_size: Size
    patch_size: Size
    channels: int = 1
    width: int = 128
    depth: int = 4
    heads: int = 4
    decoder_width: int = 64
    decoder_depth: int = 1
    decoder_heads: int = 2
    normalise: bool = False
    pooling: Pooling = "mean"

    block_rows: ClassVar[int] = 16
    """Images that are encoded at once."""

    def __post_init__(self):
        grid = PatchGrid(self.image_size, self.patch_size, self.channels)
        object.__setattr__(self, "image_size", grid.sides)
        object.__setattr__(self, "patch_size", grid.patch_sides)
        _check_width(self.width, self.depth, self.heads, "")
        _check_width(self.decoder_width, self.decoder_depth, self.decoder_heads, "decoder_")
        if self.pooling not in ("mean", "class", "none"):
            raise InputError(
                "an image is represented by the 'mean' of its tokens, by its 'class' token, or by all ('none')",
                got=f"pooling = {self.pooling!r}",
            )
        if self.normalise and grid.patch_features == 1:
            raise InputError(
                "a patch that is normalised needs at least two numbers", got="patches of 1", cure="normalise=False"
            )

    @property
    def grid(self) -> PatchGrid:
        """The patches of an image of the size that is trained on."""
        return PatchGrid(self.image_size, self.patch_size, self.channels)

    @property
    def input_size(self) -> int:
        """Numbers in a flattened image."""
        return self.grid.features

    @property
    def output_size(self) -> int:
        """Numbers in a representation, or in each token of one."""
        return self.width

    def centre(self, mean: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
        """Where training moves the model to: the mean over all pixels, as all patches share their weights."""
        return mean.mean().expand_as(mean)

    def moved(self, state: Mapping[str, Tensor], centre: Float[Tensor, " features"]) -> dict[str, Tensor]:
        """The model ``f(x - c) + c`` as one on x: biases of embedding and prediction absorb c. Copies."""
        moved = {name: tensor.clone() for name, tensor in state.items()}
        moved["encoder.embed.bias"] -= moved["encoder.embed.weight"].sum(1) * centre[0]
        if not self.normalise:
            moved["decoder.predict.bias"] += centre[0]
        return moved

    def encoder(self, generator: torch.Generator | None = None) -> PatchEncoder:
        """The encoder, newly initialised."""
        return PatchEncoder(self.grid, self.width, self.depth, self.heads, self.pooling, generator)

    def autoencoder(self, corruption: Corruption) -> "MaskedPatchTransformer":
        """A model of this shape."""
        assert isinstance(corruption, PatchMask)
        return MaskedPatchTransformer(**asdict(self), mask_ratio=corruption.ratio, loss=corruption.loss, seed=0)


class MaskedPatchTransformer(nn.Module):
    """A masked autoencoder on the patches of images; hidden patches never enter its encoder.

    Each visible patch becomes a token: a linear map of its pixels plus the sines and cosines of its place. Transformer
    blocks (normalisation first) work on these tokens and a class token. For the decoder, a narrower transformer, a
    learned token stands at every hidden place. It predicts the pixels of all patches.

    Images are flat rows in the order (channels, height, width) or have the shape (n, channels, height, width); the
    encoder takes any height and width that are multiples of the patch's.

    Args:
        image_size: height and width in pixels of the images to train on, or one number for both.
        patch_size: height and width of a patch in pixels, or one number for both; must divide the image's.
        channels: 1 for grey, 3 for colour.
        width: numbers in a token of the encoder; a multiple of 4 and of ``heads``.
        depth: blocks of the encoder.
        heads: attention heads in each of them.
        decoder_width: numbers in a token of the decoder; a multiple of 4 and of ``decoder_heads``.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads in each of them.
        mask_ratio: share of the patches that are hidden in training, in [0, 1); see :class:`PatchMask`.
        loss: where the loss counts: on ``"masked"`` patches, on ``"visible"`` ones, or on ``"all"``; everywhere if
            nothing is hidden.
        normalise: predict each patch with its mean subtracted, divided by its standard deviation.
        pooling: what :meth:`encode` gives: the ``"mean"`` of the patch tokens, the ``"class"`` token, or all patch
            tokens (``"none"``).
        seed: draws the weights from a stream of their own; without it they come from PyTorch's global generator.

    >>> model = MaskedPatchTransformer((8, 12), 4, width=16, depth=1, decoder_width=8, seed=0)
    >>> model(torch.zeros(5, 96)).shape, model.encode(torch.zeros(5, 1, 16, 16)).shape
    (torch.Size([5, 96]), torch.Size([5, 16]))

    Reference: He et al., *Masked autoencoders are scalable vision learners*, 2022.
    """

    def __init__(
        self,
        image_size: Size,
        patch_size: Size,
        channels: int = 1,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        decoder_width: int = 64,
        decoder_depth: int = 1,
        decoder_heads: int = 2,
        mask_ratio: float = 0.75,
        loss: CountedLoss = "masked",
        normalise: bool = False,
        pooling: Pooling = "mean",
        seed: int | None = None,
    ):
        super().__init__()
        sizes = (width, depth, heads, decoder_width, decoder_depth, decoder_heads)
        self.architecture = PatchArchitecture(image_size, patch_size, channels, *sizes, normalise, pooling)
        self.corruption = PatchMask(mask_ratio, patch_size, image_size, channels, loss, drop=True)
        generator = torch_generator(seed, "autoencoders.weights")
        self.encoder = self.architecture.encoder(generator)
        grid = self.architecture.grid
        self.decoder = PatchDecoder(grid, width, decoder_width, decoder_depth, decoder_heads, generator)

    def encode(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """The representation of clean images; nothing is masked.

        Args:
            x: images; or a list of images of shape (channels, height, width) whose sizes may differ, which are padded:
                padding changes no representation.

        Returns:
            Shape (n, width); or (n, tokens, width) with ``pooling="none"``, zero where an image has fewer tokens.
        """
        return self.encoder(x) if isinstance(x, Tensor) else self.encoder.encode_padded(x)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of images of the size that is trained on, of the same shape; what is NaN counts as hidden.

        With ``normalise`` it predicts normalised patches.
        """
        grid = self.architecture.grid
        return grid.unpatchify(self._predict(grid.patchify(x), None)).view_as(x)

    def target(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch patches numbers"]:
        """What is to be predicted: the patches of an image, normalised if the model predicts them so."""
        patches = self.architecture.grid.patchify(x)
        if not self.architecture.normalise:
            return patches
        variance, mean = torch.var_mean(patches, 2, keepdim=True)
        return (patches - mean) / (variance + EPSILON).sqrt()

    def squared_error(
        self,
        seen: Float[Tensor, "batch features"],
        target: Float[Tensor, "batch features"],
        counts: Float[Tensor, "batch features"] | None,
    ) -> Float[Tensor, ""]:
        """Squared error of the predictions from what was seen, summed over the patches that count and over the batch.

        Only what counts is predicted.
        """
        grid = self.architecture.grid
        patches, true = grid.patchify(seen), self.target(target)
        if counts is None:
            return (self._predict(patches, None) - true).square().sum()
        wanted, present = first_of(grid.of_patches(counts) != 0)
        squares = (self._predict(patches, wanted) - select(true, wanted)).square()
        return (squares if present is None else squares * present.unsqueeze(2)).sum()

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """The loss of a batch: the mean over samples of the squared error, summed over the numbers that count.

        Args:
            x: clean images of the size that is trained on.
            generator: hides patches as in training; without it the encoder sees all and everything counts.
        """
        x = x.flatten(1)
        seen, counts = (x, None) if generator is None else self.corruption.corrupt(x, generator)
        return self.squared_error(seen, x, counts) / len(x)

    def _predict(self, patches: Tensor, wanted: Tensor | None) -> Tensor:
        """The predictions of all patches, or of those that are wanted by index, from the patches without NaN."""
        index, present = first_of(~patches.isnan().any(2))
        visible = select(patches, index)
        if present is not None:
            visible = visible.masked_fill(~present.unsqueeze(2), 0)
        tokens = self.encoder.tokens(visible, self.encoder.positions[index], present)
        return self.decoder(tokens, index, present, wanted)


def _check_width(width: int, depth: int, heads: int, prefix: str) -> None:
    for name, value in (("width", width), ("depth", depth), ("heads", heads)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise InputError(f"{prefix}{name} must be a whole number of at least 1", got=f"{prefix}{name} = {value!r}")
    if width % 4 or width % heads:
        step = math.lcm(4, heads)
        raise InputError(
            f"{prefix}width must be a multiple of 4, for the positions, and of {prefix}heads",
            got=f"{prefix}width = {width}, {prefix}heads = {heads}",
            cure=f"{prefix}width={max(step, round(width / step) * step)}",
        )


def images_for(architecture: PatchArchitecture, X: Any, name: str, dtype: type[np.floating]) -> np.ndarray:
    """Images for training, flattened: all of the size that the model was built for."""
    return check_images(X, architecture.grid, name, dtype=dtype).reshape(-1, architecture.input_size)
