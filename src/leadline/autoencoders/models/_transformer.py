"""The masked patch transformer: an encoder that is given visible patches only, and a light decoder for the rest."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leadline import checks
from leadline.autoencoders._corruption import Corruption, CountedLoss, PatchMask
from leadline.autoencoders._tensors import check_generator, check_like, check_tensor
from leadline.autoencoders.models._attention import EPSILON, select
from leadline.autoencoders.models._dense import copied_state
from leadline.autoencoders.models._patches import MOST_NUMBERS, PatchGrid, Size, check_size
from leadline.autoencoders.models._tokens import PatchDecoder, PatchEncoder, Pooling, first_of
from leadline.errors import InputError
from leadline.randomness import torch_generator
from leadline.storage import record

MOST_PATCHES = 2**16
"""Patches of the largest image: attention compares each with each."""

DEEPEST = 2**12
"""Blocks of the deepest encoder or decoder."""


@record("autoencoders.PatchArchitecture")
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
        object.__setattr__(self, "channels", grid.channels)
        for prefix in ("", "decoder_"):
            self._check_sizes(prefix)
        object.__setattr__(self, "normalise", checks.flag(self.normalise, "normalise"))
        if not isinstance(self.pooling, str) or self.pooling not in ("mean", "class", "none"):
            raise InputError(
                "an image is represented by the 'mean' of its tokens, by its 'class' token, or by all ('none')",
                got=f"pooling = {checks.shown(self.pooling)}",
            )
        if grid.num_patches > MOST_PATCHES:
            raise InputError(
                f"an image has at most {MOST_PATCHES} patches: attention compares each with each",
                got=f"image_size = {grid.sides}, patch_size = {grid.patch_sides}: {grid.num_patches} patches",
                cure="choose larger patches",
            )
        if self.normalise and grid.patch_features == 1:
            raise InputError(
                "a patch that is normalised needs at least two numbers",
                got="patches of 1",
                cure="normalise=False",
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
        """The c to which training moves the model: the mean over all pixels, as all patches share their weights."""
        check_tensor(mean, "mean", features=self.input_size, ndim=1)
        return mean.mean().expand_as(mean)

    def moved(
        self, state: Mapping[str, Tensor], centre: Float[Tensor, " features"]
    ) -> dict[str, Tensor]:
        """The model ``f(x - c) + c`` as one on x: biases of embedding and prediction absorb c. Copies."""
        check_tensor(centre, "centre", features=self.input_size, ndim=1)
        moved = copied_state(state, self._moved_shapes, centre)
        moved["encoder.embed.bias"] -= moved["encoder.embed.weight"].sum(1) * centre[0]
        if not self.normalise:
            moved["decoder.predict.bias"] += centre[0]
        return moved

    def encoder(self, generator: torch.Generator | None = None) -> PatchEncoder:
        """The encoder, newly initialised."""
        generator = check_generator(generator)
        return PatchEncoder(self.grid, self.width, self.depth, self.heads, self.pooling, generator)

    def encoder_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The names and shapes of the encoder's weights, told without making them."""
        width = self.width
        yield "class_token", (width,)
        yield "embed.weight", (width, self.grid.patch_features)
        yield "embed.bias", (width,)
        layers = {
            "qkv": (3 * width, width),
            "out": (width, width),
            "up": (4 * width, width),
            "down": (width, 4 * width),
        }
        for block in range(self.depth):
            for name, shape in layers.items():
                yield f"blocks.{block}.{name}.weight", shape
                yield f"blocks.{block}.{name}.bias", shape[:1]
            for name in ("norm1", "norm2"):
                yield f"blocks.{block}.{name}.weight", (width,)
                yield f"blocks.{block}.{name}.bias", (width,)
        yield "norm.weight", (width,)
        yield "norm.bias", (width,)

    def autoencoder(self, corruption: Corruption) -> "MaskedPatchTransformer":
        """A model of this shape."""
        mask = checks.instance(corruption, "corruption", PatchMask, wanted="a PatchMask")
        return MaskedPatchTransformer(**asdict(self), mask_ratio=mask.ratio, loss=mask.loss, seed=0)

    @property
    def _moved_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters that absorb c."""
        numbers = self.grid.patch_features
        return {
            "encoder.embed.weight": (self.width, numbers),
            "encoder.embed.bias": (self.width,),
            "decoder.predict.bias": (numbers,),
        }

    def _check_sizes(self, prefix: str) -> None:
        """Check width, depth and heads of the encoder (no prefix) or of the decoder, and keep plain numbers."""
        names = {name: f"{prefix}{name}" for name in ("width", "depth", "heads")}
        width, depth, heads = (check_size(getattr(self, name), name) for name in names.values())
        if width % 4 or width % heads:
            step = math.lcm(4, heads)
            raise InputError(
                f"{prefix}width must be a multiple of 4, for the positions, and of {prefix}heads",
                got=f"{prefix}width = {width}, {prefix}heads = {heads}",
                cure=f"{prefix}width={max(step, round(width / step) * step)}",
            )
        if depth > DEEPEST:
            raise InputError(
                f"{prefix}depth must be at most {DEEPEST}", got=f"{prefix}depth = {depth}"
            )
        if width * max(4 * width, self.grid.patch_features) > MOST_NUMBERS:
            raise InputError(
                f"a layer has at most {MOST_NUMBERS} weights", got=f"{prefix}width = {width}"
            )
        for name, value in zip(names.values(), (width, depth, heads), strict=True):
            object.__setattr__(self, name, value)


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
        architecture = PatchArchitecture(
            image_size, patch_size, channels, *sizes, normalise, pooling
        )
        self.architecture = architecture
        self.corruption = PatchMask(mask_ratio, patch_size, image_size, channels, loss, drop=True)
        generator = torch_generator(checks.optional_seed(seed), "autoencoders.weights")
        self.encoder = architecture.encoder(generator)
        self.decoder = PatchDecoder(
            architecture.grid,
            architecture.width,
            architecture.decoder_width,
            architecture.decoder_depth,
            architecture.decoder_heads,
            generator,
        )

    def encode(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """The representation of clean images; nothing is masked.

        Args:
            x: images; or a list of images of shape (channels, height, width) whose sizes may differ, which are padded:
                padding changes no representation.

        Returns:
            Shape (n, width); or (n, tokens, width) with ``pooling="none"``, zero where an image has fewer tokens.
        """
        if isinstance(x, (list, tuple)):
            items = checks.items(x, "x", least=1, of="images")
            return self.encoder.encode_padded(
                [self._image(image, f"x[{i}]") for i, image in enumerate(items)]
            )
        images = check_tensor(x, "x")
        if images.ndim == 4:
            self._image(images[0] if len(images) else images.flatten(0, 1), "x[0]")
        else:
            self._rows(images, "x")
        return self.encoder(images)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of images of the size that is trained on, of the same shape; what is NaN counts as hidden.

        With ``normalise`` it predicts normalised patches.
        """
        grid = self.architecture.grid
        self._rows(x, "x")
        return grid.unpatchify(self._predict(grid.patchify(x), None)).view_as(x)

    def target(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch patches numbers"]:
        """The patches to predict, normalised if the model predicts them so."""
        check_tensor(x, "x", features=self.architecture.input_size, ndim=2)
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
        given = {"seen": seen, "target": target}
        if counts is not None:
            given["counts"] = counts
        for name, tensor in given.items():
            check_tensor(tensor, name, features=grid.features, ndim=2)
            check_like(tensor, name, self.encoder.class_token)
        if len({len(tensor) for tensor in given.values()}) > 1:
            raise InputError(
                "seen, target and counts must have the same rows",
                got=f"{len(seen)} and {len(target)} rows",
            )
        patches = grid.patchify(seen)
        true = self.target(target)
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
        x = self._rows(x, "x").flatten(1)
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

    def _rows(self, x: Any, name: str) -> Tensor:
        """Images of the size that is trained on: flat, or of shape (n, channels, height, width)."""
        grid = self.architecture.grid
        check_tensor(x, name)
        check_like(x, name, self.encoder.class_token)
        if tuple(x.shape[1:]) not in ((grid.features,), (grid.channels, *grid.sides)) or not len(x):
            raise InputError(
                f"{name} must be at least one image, flat or of shape (n, channels, height, width)",
                got=f"{name} of shape {tuple(x.shape)}; the model takes images of {(grid.channels, *grid.sides)}",
            )
        return x

    def _image(self, x: Any, name: str) -> Tensor:
        """One image of any size that is a multiple of the patch's."""
        grid = self.architecture.grid
        check_tensor(x, name)
        check_like(x, name, self.encoder.class_token)
        sides = tuple(x.shape[1:])
        is_image = x.ndim == 3 and len(x) == grid.channels and min(sides) > 0
        if not is_image or any(
            side % patch for side, patch in zip(sides, grid.patch_sides, strict=True)
        ):
            raise InputError(
                f"{name} must be an image of shape (channels, height, width) whose sides are multiples of the patch's",
                got=f"{name} of shape {tuple(x.shape)} for {grid.channels} channels and patches of {grid.patch_sides}",
            )
        return x
