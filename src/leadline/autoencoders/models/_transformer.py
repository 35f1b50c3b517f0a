"""The masked patch transformer: an encoder of visible patches, and a light decoder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from leadline import checks
from leadline.autoencoders._corruption import Corruption, CountedLoss, PatchMask
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders._rows import AS_THEY_ARE, Rows
from leadline.autoencoders._tensors import check_generator, check_like, check_tensor
from leadline.autoencoders.models._architecture import (
    WEIGHTS,
    Architecture,
    BuiltModule,
    TrainableArchitecture,
    check_width,
    copied_state,
)
from leadline.autoencoders.models._attention import EPSILON, select
from leadline.autoencoders.models._patches import PatchGrid, Size, check_images
from leadline.autoencoders.models._tokens import PatchDecoder, PatchEncoder, Pooling, first_of
from leadline.autoencoders.models._transformer_sizes import (
    check_layers,
    check_patches,
    check_pooling,
    encoder_shapes,
)
from leadline.errors import InputError
from leadline.randomness import torch_generator
from leadline.storage import record


@record("autoencoders.PatchArchitecture")
@dataclass(frozen=True)
class PatchArchitecture(Architecture, TrainableArchitecture, kind="patches"):
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
    takes_any_size: ClassVar[bool] = True

    def __post_init__(self):
        grid = PatchGrid(self.image_size, self.patch_size, self.channels)
        object.__setattr__(self, "image_size", grid.sides)
        object.__setattr__(self, "patch_size", grid.patch_sides)
        object.__setattr__(self, "channels", grid.channels)
        for prefix in ("", "decoder_"):
            names = (f"{prefix}width", f"{prefix}depth", f"{prefix}heads")
            given = (getattr(self, name) for name in names)
            sizes = check_layers(*given, prefix=prefix, patch_features=grid.patch_features)
            for name, size in zip(names, sizes, strict=True):
                object.__setattr__(self, name, size)
        object.__setattr__(self, "normalise", checks.flag(self.normalise, "normalise"))
        check_pooling(self.pooling)
        check_patches(grid, self.normalise)

    @property
    def grid(self) -> PatchGrid:
        """The patches of a training image."""
        return PatchGrid(self.image_size, self.patch_size, self.channels)

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Numbers in a flattened image."""
        return self.grid.features

    @property
    def output_size(self) -> int:
        """Features of a representation, or of each token."""
        return self.width

    @property
    def has_tokens(self) -> bool:
        """True if a representation consists of all patch tokens."""
        return self.pooling == "none"

    def with_pooling(self, pooling: Any) -> Self:
        """Return the architecture with another pooling of its tokens."""
        return replace(self, pooling=pooling)

    def centre(self, mean: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
        """Return c in ``f(x - c) + c``: the mean of all pixels, as all patches share weights."""
        check_tensor(mean, "mean", features=self.input_size, ndim=1)
        return mean.mean().expand_as(mean)

    def moved(
        self, state: Mapping[str, Tensor], centre: Float[Tensor, " features"]
    ) -> dict[str, Tensor]:
        """Return the weights of ``f(x - c) + c`` as a model of x.

        The biases of embedding and prediction absorb c.

        Args:
            state: The weights of f, by name; they are copied.
            centre: The vector c, shape (features,).
        """
        check_tensor(centre, "centre", features=self.input_size, ndim=1)
        moved = copied_state(state, self._moved_shapes, centre)
        moved["encoder.embed.bias"] -= moved["encoder.embed.weight"].sum(1) * centre[0]
        if not self.normalise:
            moved["decoder.predict.bias"] += centre[0]
        return moved

    def encoder(self, generator: torch.Generator | None = None) -> PatchEncoder:
        """Return a newly initialised encoder."""
        generator = check_generator(generator)
        return PatchEncoder(self.grid, self.width, self.depth, self.heads, self.pooling, generator)

    def encoder_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Return the names and shapes of the encoder's weights without allocating them."""
        return encoder_shapes(self.width, self.depth, self.grid.patch_features)

    def autoencoder(self, corruption: Corruption) -> "MaskedPatchTransformer":
        """Return a newly initialised model of this architecture."""
        mask = checks.instance(corruption, "corruption", PatchMask, wanted="a PatchMask")
        return MaskedPatchTransformer(**asdict(self), mask_ratio=mask.ratio, loss=mask.loss, seed=0)

    def squared_errors(
        self, module: nn.Module, seen: Tensor, target: Tensor, loss_mask: Tensor | None
    ) -> Tensor:
        """Return the squared errors of the counted patches; only these are predicted."""
        return cast(MaskedPatchTransformer, module)._squared_errors(seen, target, loss_mask)

    def open_rows(
        self,
        X: Any,
        name: str,
        dtype: type[np.floating],
        device: torch.device,
        form: RowForm | None = None,
    ) -> Rows:
        """Return flattened images for training; files must hold flat rows."""
        if isinstance(X, (str, PathLike, np.memmap)):
            return super().open_rows(X, name, dtype, device, form)
        if form is None:
            form = RowForm.of(X, name)
        images = check_images(X, self.grid, name, dtype=dtype, form=form)
        flat = images.reshape(len(images), -1)
        return replace(super().open_rows(flat, name, dtype, device, AS_THEY_ARE), form=form)

    def check_rows(self, model: nn.Module, rows: Rows, name: str) -> None:
        """Refuse rows of another width."""
        check_width(rows, name, self.input_size)

    @property
    def _moved_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters that absorb c."""
        numbers = self.grid.patch_features
        return {
            "encoder.embed.weight": (self.width, numbers),
            "encoder.embed.bias": (self.width,),
            "decoder.predict.bias": (numbers,),
        }


class MaskedPatchTransformer(BuiltModule):
    """A masked autoencoder on the patches of images; hidden patches never enter its encoder.

    The encoder turns each visible patch into a token: a linear map of its pixels, plus a sinusoidal
    position embedding. Pre-normalised transformer blocks process these tokens and a class token.
    The decoder is a narrower transformer with a learned mask token at every hidden patch. It
    predicts the pixels of all patches.

    Images are flat rows in the order (channels, height, width), or have the shape
    (n, channels, height, width). ``encode`` takes any height and width that are multiples of the
    patch's.

    Args:
        image_size: Height and width of the training images in pixels, or one number for both.
        patch_size: Height and width of a patch in pixels, or one number for both; it must divide
            the size of the image.
        channels: 1 for grey, 3 for colour.
        width: Features of a token of the encoder; a multiple of 4 and of ``heads``.
        depth: Number of encoder blocks.
        heads: Attention heads of each encoder block.
        decoder_width: Features of a token of the decoder; a multiple of 4 and of
            ``decoder_heads``.
        decoder_depth: Number of decoder blocks.
        decoder_heads: Attention heads of each decoder block.
        mask_ratio: Share of the patches that are hidden in training, in [0, 1); see
            :class:`PatchMask`.
        loss: Patches where the loss counts: ``"masked"``, ``"visible"`` or ``"all"``; all if
            nothing is hidden.
        normalise: True to predict each patch with its mean subtracted, divided by its standard
            deviation.
        pooling: Representation of an image: the ``"mean"`` of its patch tokens, its ``"class"``
            token, or all patch tokens (``"none"``).
        seed: Seed of the weights. By default they come from PyTorch's global generator.

    Raises:
        InputError: A size is out of range, or sizes do not match.

    >>> model = MaskedPatchTransformer((8, 12), 4, width=16, depth=1, decoder_width=8, seed=0)
    >>> model(torch.zeros(5, 96)).shape, model.encode(torch.zeros(5, 1, 16, 16)).shape
    (torch.Size([5, 96]), torch.Size([5, 16]))

    Reference: He et al., *Masked autoencoders are scalable vision learners*, 2022.
    """

    architecture: PatchArchitecture

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
        architecture = PatchArchitecture(
            image_size,
            patch_size,
            channels,
            width,
            depth,
            heads,
            decoder_width,
            decoder_depth,
            decoder_heads,
            normalise,
            pooling,
        )
        self.architecture = architecture  # pyright: ignore[reportIncompatibleVariableOverride]
        self.corruption = PatchMask(mask_ratio, patch_size, image_size, channels, loss, drop=True)
        generator = torch_generator(checks.optional_seed(seed), WEIGHTS)
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
        """Return the representation of clean images; nothing is masked.

        Args:
            x: Images; or a list of images of shape (channels, height, width) of different sizes.
                The list is padded, which changes no representation.

        Returns:
            Shape (n, width); or (n, tokens, width) with ``pooling="none"``, padded with zeros where
            an image has fewer tokens.
        """
        if isinstance(x, (list, tuple)):
            items = checks.items(x, "x", least=1, of="images")
            images = [self._image(image, f"x[{i}]") for i, image in enumerate(items)]
            return self.encoder.encode_padded(images)
        images = check_tensor(x, "x")
        if images.ndim == 4:
            self._image(images[0] if len(images) else images.flatten(0, 1), "x[0]")
        else:
            self._rows(images, "x")
        return self.encoder(images)

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction of images, in their shape; patches with NaN count as hidden.

        With ``normalise`` the predicted patches are normalised.

        Args:
            x: Images of the training size.
        """
        grid = self.architecture.grid
        self._rows(x, "x")
        return grid.unpatchify(self._predict(grid.patchify(x), None)).view_as(x)

    def target(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch patches numbers"]:
        """Return the patches to predict, normalised if the model predicts normalised patches."""
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
        loss_mask: Float[Tensor, "batch features"] | None,
    ) -> Float[Tensor, ""]:
        """Return the squared error, summed over the counted patches and over the batch.

        Only counted patches are predicted.

        Args:
            seen: The corrupted rows; hidden patches are NaN.
            target: The clean rows.
            loss_mask: 1 where the loss counts and 0 elsewhere, constant on each patch; ``None`` if
                it counts everywhere.
        """
        return self._squared_errors(seen, target, loss_mask).sum()

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Return the loss of a batch: the squared error, summed over counted numbers, per sample.

        Args:
            x: Clean images of the training size.
            generator: Hides patches as in training. By default the encoder sees all patches and
                the loss counts everywhere.
        """
        x = self._rows(x, "x").flatten(1)
        seen, loss_mask = (x, None) if generator is None else self.corruption.corrupt(x, generator)
        return self.squared_error(seen, x, loss_mask) / len(x)

    def _squared_errors(
        self, seen: Tensor, target: Tensor, loss_mask: Tensor | None
    ) -> Float[Tensor, "batch wanted numbers"]:
        """Return the squared errors of the counted patches; see :meth:`squared_error`."""
        grid = self.architecture.grid
        batches = {"seen": seen, "target": target}
        if loss_mask is not None:
            batches["loss_mask"] = loss_mask
        for name, tensor in batches.items():
            check_tensor(tensor, name, features=grid.features, ndim=2)
            check_like(tensor, name, self.encoder.class_token)
        if len({len(tensor) for tensor in batches.values()}) > 1:
            raise InputError(
                "seen, target and loss_mask must have the same number of rows",
                got=f"{len(seen)} and {len(target)} rows",
            )
        patches = grid.patchify(seen)
        true = self.target(target)
        if loss_mask is None:
            return (self._predict(patches, None) - true).square()
        wanted, present = first_of(grid.of_patches(loss_mask) != 0)
        squares = (self._predict(patches, wanted) - select(true, wanted)).square()
        return squares if present is None else squares * present.unsqueeze(2)

    def _predict(self, patches: Tensor, wanted: Tensor | None) -> Tensor:
        """Predict all patches, or the wanted ones by index, from the patches without NaN."""
        index, present = first_of(~patches.isnan().any(2))
        visible = select(patches, index)
        if present is not None:
            visible = visible.masked_fill(~present.unsqueeze(2), 0)
        tokens = self.encoder.tokens(visible, self.encoder.positions[index], present)
        return self.decoder(tokens, index, present, wanted)

    def _rows(self, x: Any, name: str) -> Tensor:
        """Return images of the training size: flat, or of shape (n, channels, height, width)."""
        grid = self.architecture.grid
        check_tensor(x, name)
        check_like(x, name, self.encoder.class_token)
        image_shape = (grid.channels, *grid.sides)
        if tuple(x.shape[1:]) not in ((grid.features,), image_shape) or not len(x):
            raise InputError(
                f"{name} must be one or more images, flat or (n, channels, height, width)",
                got=f"{name} of shape {tuple(x.shape)}; the model takes images of {image_shape}",
            )
        return x

    def _image(self, x: Any, name: str) -> Tensor:
        """Return an image of any size that is a multiple of the patch's."""
        grid = self.architecture.grid
        check_tensor(x, name)
        check_like(x, name, self.encoder.class_token)
        sides = tuple(x.shape[1:])
        is_image = x.ndim == 3 and len(x) == grid.channels and min(sides) > 0
        if not is_image or any(
            side % patch for side, patch in zip(sides, grid.patch_sides, strict=True)
        ):
            raise InputError(
                f"{name} must have the shape (channels, height, width), in multiples of the patch",
                got=f"{name} of shape {tuple(x.shape)} "
                f"for {grid.channels} channels and patches of {grid.patch_sides}",
            )
        return x
