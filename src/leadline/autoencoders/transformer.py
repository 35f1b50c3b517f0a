"""The masked patch transformer: an encoder that is given visible patches only, and a light decoder for the rest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, pad, scaled_dot_product_attention

from leadline.autoencoders.corruption import Corruption, CountedLoss, PatchMask
from leadline.autoencoders.patches import PatchGrid, Size, check_images
from leadline.errors import InputError
from leadline.randomness import torch_generator

Pooling = Literal["mean", "class", "none"]
"""What stands for an image: the mean of its patch tokens, the class token, or all patch tokens."""

EPSILON = 1e-6
"""Added to variances, of a layer and of a patch, so that constants divide by something."""


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

    def encoder(self, generator: torch.Generator | None = None) -> "PatchEncoder":
        """The encoder, newly initialised."""
        return PatchEncoder(self, generator)

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
        self.decoder = PatchDecoder(self.architecture, generator)

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
        wanted, present = _first(grid.of_patches(counts) != 0)
        squares = (self._predict(patches, wanted) - _select(true, wanted)).square()
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
        index, present = _first(~patches.isnan().any(2))
        visible = _select(patches, index)
        if present is not None:
            visible = visible.masked_fill(~present.unsqueeze(2), 0)
        tokens = self.encoder.tokens(visible, self.encoder.positions[index], present)
        return self.decoder(tokens, index, present, wanted)


class PatchEncoder(nn.Module):
    """From visible patches to tokens; pooled when it is called with images."""

    positions: Tensor

    def __init__(self, architecture: PatchArchitecture, generator: torch.Generator | None):
        super().__init__()
        self.architecture = architecture
        width = architecture.width
        self.embed = _linear(architecture.grid.patch_features, width, generator)
        self.class_token = nn.Parameter(torch.empty(width).normal_(std=0.02, generator=generator))
        self.blocks = nn.ModuleList([Block(width, architecture.heads, generator) for _ in range(architecture.depth)])
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.register_buffer("positions", sinusoidal_positions(architecture.grid.shape, width), persistent=False)

    def tokens(
        self,
        patches: Float[Tensor, "batch patches numbers"],
        positions: Float[Tensor, "*batch patches width"],
        present: Bool[Tensor, "batch patches"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Class token and patch tokens of what is visible; ``present`` is false where a patch is padding."""
        x = self.embed(patches) + positions
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1)
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
        architecture, grid = self.architecture, self.architecture.grid
        if x.ndim == 2 or tuple(x.shape[2:]) == grid.sides:
            return grid.patchify(x), self.positions
        grid = PatchGrid((x.shape[2], x.shape[3]), architecture.patch_size, architecture.channels)
        return grid.patchify(x), sinusoidal_positions(grid.shape, architecture.width).to(self.positions)

    def _pooled(self, tokens: Tensor, present: Tensor | None) -> Tensor:
        pooling = self.architecture.pooling
        if pooling == "class":
            return tokens[:, 0]
        patches = tokens[:, 1:]
        if present is not None:
            patches = patches.masked_fill(~present.unsqueeze(2), 0)
        if pooling == "none":
            return patches
        return patches.mean(1) if present is None else patches.sum(1) / present.sum(1, keepdim=True)


class PatchDecoder(nn.Module):
    """From the tokens of visible patches to the pixels of all patches."""

    positions: Tensor

    def __init__(self, architecture: PatchArchitecture, generator: torch.Generator | None):
        super().__init__()
        width, grid = architecture.decoder_width, architecture.grid
        self.embed = _linear(architecture.width, width, generator)
        self.mask_token = nn.Parameter(torch.empty(width).normal_(std=0.02, generator=generator))
        heads, depth = architecture.decoder_heads, architecture.decoder_depth
        self.blocks = nn.ModuleList([Block(width, heads, generator) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.predict = _linear(width, grid.patch_features, generator)
        self.register_buffer("positions", sinusoidal_positions(grid.shape, width), persistent=False)

    def forward(self, tokens: Tensor, index: Tensor, present: Tensor | None, wanted: Tensor | None) -> Tensor:
        """Predictions of patches.

        Args:
            tokens: of the encoder, class token first, shape (batch, 1 + visible, width).
            index: where its patch tokens stand, shape (batch, visible).
            present: false where one is padding, shape (batch, visible), or ``None``.
            wanted: indices of the patches to predict, shape (batch, wanted), or ``None`` for all.

        Returns:
            Shape (batch, wanted, numbers of a patch).
        """
        num_patches = len(self.positions)
        place = pad(index + 1, (1, 0))  # the class token stands first
        shown = self.embed(tokens) + pad(self.positions, (0, 0, 1, 0))[place]
        blank = pad(self.mask_token + self.positions, (0, 0, 1, int(present is not None)))
        if present is not None:  # padding is written to a place of its own, which is then cut off
            place = place.masked_fill(pad(~present, (1, 0)), num_patches + 1)
        x = blank.expand(len(tokens), -1, -1).scatter(1, place.unsqueeze(2).expand_as(shown), shown)
        x = x[:, : num_patches + 1]
        for block in self.blocks[:-1]:
            x = block(x)
        if wanted is None:
            wanted = torch.arange(num_patches, device=x.device).expand(len(x), -1)
        return self.predict(self.norm(self.blocks[-1](x, wanted=wanted + 1)))


class Block(nn.Module):
    """Attention between tokens and a two-layer network on each, both added to what they were given.

    Formula: ``x + A(norm(x))``, then ``x + W_down gelu(W_up norm(x))``.

    Reference: Vaswani et al., *Attention is all you need*, 2017; Xiong et al., *On layer normalization in the
    transformer architecture*, 2020.
    """

    def __init__(self, width: int, heads: int, generator: torch.Generator | None):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPSILON) for _ in range(2))
        self.qkv = _linear(width, 3 * width, generator)
        self.out = _linear(width, width, generator)
        self.up = _linear(width, 4 * width, generator)
        self.down = _linear(4 * width, width, generator)

    def forward(self, x: Tensor, *, attended: Tensor | None = None, wanted: Tensor | None = None) -> Tensor:
        """Tokens to tokens, shape (batch, tokens, width).

        Args:
            x: the tokens.
            attended: false where a token is padding, shape (batch, 1, 1, tokens).
            wanted: indices of the tokens that go on, shape (batch, wanted); all attend to all, but only these are
                computed to the end.
        """
        h = self.norm1(x)
        if wanted is None and attended is None and x.device.type == "cpu" and torch.is_grad_enabled():
            x = x + self.out(_Attention.apply(self.qkv(h), self.heads))
            return x + self.down(gelu(self.up(self.norm2(x))))
        if wanted is None:
            q, k, v = _heads(self.qkv(h), 3, self.heads)
        else:
            width = x.shape[2]
            (W_q, W_kv), (b_q, b_kv) = (p.split([width, 2 * width]) for p in (self.qkv.weight, self.qkv.bias))
            k, v = _heads(linear(h, W_kv, b_kv), 2, self.heads)
            (q,) = _heads(linear(_select(h, wanted), W_q, b_q), 1, self.heads)
            x = _select(x, wanted)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=attended)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(gelu(self.up(self.norm2(x))))


class _Attention(torch.autograd.Function):
    """Attention of all tokens to all, in training on a processor: as ``scaled_dot_product_attention``, whose kernels it
    calls, with the gradients written side by side without being stacked first."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int) -> Tensor:
        """From queries, keys and values side by side, (batch, tokens, 3 width), to (batch, tokens, width)."""
        mixed, log_sum = _FLASH(*_heads(qkv, 3, heads))
        ctx.save_for_backward(qkv, mixed, log_sum)
        ctx.heads = heads
        return mixed.transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient with respect to ``qkv``."""
        qkv, mixed, log_sum = ctx.saved_tensors
        (gradient,) = _heads(gradients[0].contiguous(), 1, ctx.heads)
        parts = _FLASH_BACKWARD(gradient, *_heads(qkv, 3, ctx.heads), mixed, log_sum, 0.0, False)
        together = torch.empty_like(qkv)
        for place, part in zip(_heads(together, 3, ctx.heads), parts, strict=True):
            place.copy_(part)
        return together, None


_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _heads(projected: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Queries, keys or values apart, and heads before tokens: each of shape (batch, heads, tokens, numbers)."""
    batch, tokens, _ = projected.shape
    return projected.view(batch, tokens, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def sinusoidal_positions(shape: tuple[int, int], width: int) -> Float[Tensor, "patches width"]:
    """Sines and cosines of a patch's column (first half of the numbers) and row (second half), in patches.

    Formula: ``sin(p w_i), cos(p w_i)`` with ``w_i = 10000^(-4i / width)``, i from 0 to ``width / 4 - 1``.

    >>> sinusoidal_positions((1, 2), 4).numpy().round(3).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8410000205039978, 0.5400000214576721, 0.0, 1.0]]

    Reference: Chen et al., *An empirical study of training self-supervised vision transformers*, 2021.
    """
    frequency = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = (axis.reshape(-1, 1) * frequency for axis in torch.meshgrid(*map(_count, shape), indexing="ij"))
    return torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], 1).float()


def _count(length: int) -> Tensor:
    return torch.arange(length, dtype=torch.float64)


def _first(chosen: Bool[Tensor, "batch patches"]) -> tuple[Tensor, Tensor | None]:
    """Indices of the chosen patches of each image; and which of them are there, where images have unequally many."""
    numbers = chosen.sum(1)
    most = int(numbers.max())
    if most == int(numbers.min()):
        return chosen.nonzero()[:, 1].view(len(chosen), most), None
    index = chosen.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return index, torch.arange(most, device=chosen.device) < numbers.unsqueeze(1)


def _select(x: Float[Tensor, "batch tokens numbers"], index: Tensor) -> Tensor:
    """Some tokens of each image."""
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))


def _attended(present: Tensor | None) -> Tensor | None:
    """What tokens may attend to: the class token, and patches that are there."""
    return None if present is None else pad(present, (1, 0), value=True)[:, None, None]


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer with uniform weights of variance ``2 / (inputs + outputs)`` and no bias at the start."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


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
