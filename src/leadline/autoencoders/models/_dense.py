"""The dense autoencoder: an encoder, a mirrored decoder, and a corruption for training."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from leadline import checks
from leadline.autoencoders._corruption import Corruption, Nothing, check_corruption
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders._rows import Rows
from leadline.autoencoders._tensors import check_generator, check_like, check_tensor
from leadline.autoencoders.models._architecture import (
    WEIGHTS,
    Architecture,
    BuiltModule,
    TrainableArchitecture,
    check_width,
    copied_state,
)
from leadline.autoencoders.models._patches import MOST_NUMBERS, PatchGrid, Size, check_size
from leadline.errors import InputError, nearest
from leadline.randomness import torch_generator
from leadline.storage import record
from leadline.torch_internals import chain_relu_

ALIGNED = 16
"""Rows are padded with zeros to a multiple of this many numbers, a cache line."""


@dataclass(frozen=True)
class Activation:
    """A nonlinearity: its layer, its in-place form and its derivative."""

    module: Callable[[], nn.Module]
    """Creates the layer."""
    apply_: Callable[[Tensor], Tensor]
    """Applies the nonlinearity in place."""
    chain_: Callable[[Tensor, Tensor], Tensor]
    """``(gradient, output) -> gradient``: multiplies the gradient in place by the derivative, which
    is a function of the output."""
    is_exact: bool = False
    """True if rounding cannot depend on the place of an entry in memory."""


ACTIVATIONS = {
    "relu": Activation(nn.ReLU, torch.relu_, chain_relu_, is_exact=True),
    "tanh": Activation(nn.Tanh, torch.tanh_, lambda g, y: g.mul_(1 - y * y)),
    "sigmoid": Activation(nn.Sigmoid, torch.sigmoid_, lambda g, y: g.mul_(y * (1 - y))),
    "linear": Activation(nn.Identity, lambda y: y, lambda g, y: g, is_exact=True),
}
"""The nonlinearities between layers, by name."""


@record("autoencoders.Architecture")
@dataclass(frozen=True)
class DenseArchitecture(Architecture, TrainableArchitecture, kind="dense"):
    """Sizes and nonlinearity of a dense autoencoder.

    Args:
        input_size: Features of a row, at least 1.
        hidden_sizes: Widths of the encoder's layers, the representation last; each at least 1.
        activation: ``"relu"``, ``"tanh"``, ``"sigmoid"`` or ``"linear"``. It is applied between
            layers, not after the last.
        image_size: Height and width if rows are flattened images; otherwise ``None``.
        channels: Channels of these images.
        unit_length: True to divide each code by its length.
    """

    input_size: int
    hidden_sizes: tuple[int, ...]
    activation: str = "relu"
    image_size: Size | None = None
    channels: int = 1
    unit_length: bool = False

    block_rows: ClassVar[int] = 256
    learning_rate: ClassVar[float] = 5e-3
    can_stack: ClassVar[bool] = True

    def __post_init__(self):
        input_size = checks.whole_number(self.input_size, "input_size")
        hidden_sizes = _checked_sizes(self.hidden_sizes)
        if not hidden_sizes or min(input_size, *hidden_sizes) < 1:
            raise InputError(
                "input_size must be at least 1, and hidden_sizes one or more numbers of at least 1",
                got=f"input_size = {self.input_size}, hidden_sizes = {self.hidden_sizes}",
                cure="give the encoder's widths, the representation last: hidden_sizes=(128, 32)",
            )
        object.__setattr__(self, "input_size", input_size)
        object.__setattr__(self, "hidden_sizes", hidden_sizes)
        largest = max(inputs * outputs for inputs, outputs in pairwise(self.encoder_sizes))
        if largest > MOST_NUMBERS:
            raise InputError(
                f"hidden_sizes must give layers of at most {MOST_NUMBERS} weights",
                got=f"input_size = {checks.shown(input_size)}, "
                f"hidden_sizes = {checks.shown(hidden_sizes)}",
            )
        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            known = list(ACTIVATIONS)
            options = nearest(self.activation, known) if isinstance(self.activation, str) else known
            raise InputError(
                "activation must be the name of a nonlinearity",
                got=f"activation = {checks.shown(self.activation)}",
                cure=f"use one of {', '.join(options)}",
            )
        object.__setattr__(self, "channels", check_size(self.channels, "channels"))
        object.__setattr__(self, "unit_length", checks.flag(self.unit_length, "unit_length"))
        if self.image_size is not None:
            grid = PatchGrid(self.image_size, 1, self.channels)
            object.__setattr__(self, "image_size", grid.sides)
            if grid.features != input_size:
                raise InputError(
                    "input_size must be channels x height x width of image_size",
                    got=f"image_size = {grid.sides} and channels = {self.channels} "
                    f"for input_size = {input_size}",
                )

    @property
    def encoder_sizes(self) -> tuple[int, ...]:
        """Features before the first layer and after each of the encoder's layers."""
        return (self.input_size, *self.hidden_sizes)

    @property
    def output_size(self) -> int:
        """Features of a representation."""
        return self.hidden_sizes[-1]

    @property
    def grid(self) -> PatchGrid | None:
        """The image as single pixels; ``None`` if rows are not images."""
        return None if self.image_size is None else PatchGrid(self.image_size, 1, self.channels)

    def centre(self, mean: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
        """Return the mean row: c in ``f(x - c) + c``."""
        return check_tensor(mean, "mean", features=self.input_size, ndim=1)

    def moved(
        self, state: Mapping[str, Tensor], centre: Float[Tensor, " features"]
    ) -> dict[str, Tensor]:
        """Return the weights of ``f(x - c) + c`` as a model of x: two biases absorb c.

        Args:
            state: The weights of f, by name; they are copied.
            centre: The vector c, shape (features,).
        """
        check_tensor(centre, "centre", features=self.input_size, ndim=1)
        moved = copied_state(state, dict(self._shapes("encoder", "decoder")), centre)
        moved["encoder.0.bias"] -= moved["encoder.0.weight"] @ centre
        moved[list(moved)[-1]] += centre
        return moved

    def encoder(self, generator: torch.Generator | None = None) -> nn.Sequential:
        """Return the encoder's layers, newly initialised."""
        layers = _layers(self.encoder_sizes, self.activation, check_generator(generator))
        return layers.append(UnitLength()) if self.unit_length else layers

    def encoder_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the names and shapes of the encoder's weights without allocating them."""
        return ((name.removeprefix("encoder."), shape) for name, shape in self._shapes("encoder"))

    def decoder(self, generator: torch.Generator | None = None) -> nn.Sequential:
        """Return the decoder's layers, newly initialised: the encoder's widths in reverse."""
        return _layers(self.encoder_sizes[::-1], self.activation, check_generator(generator))

    def autoencoder(self, corruption: Corruption) -> "Autoencoder":
        """Return a newly initialised autoencoder of this architecture."""
        return Autoencoder(
            self.input_size,
            self.hidden_sizes,
            self.activation,
            check_corruption(corruption),
            seed=0,
        )

    def encode_block(self, module: nn.Module, block: Tensor) -> Tensor:
        """Encode layer by layer, so that a code does not depend on the row's place in the block."""
        for layer in module.children():
            block = aligned_linear(layer, block) if isinstance(layer, nn.Linear) else layer(block)
        return block

    def prepare(
        self, X: Any, form: RowForm, dtype: type[np.floating], first_row: int = 0
    ) -> np.ndarray:
        """Return checked rows; images are flattened."""
        rows = super().prepare(X, form, dtype, first_row)
        return rows.reshape(len(rows), -1)

    def squared_errors(
        self, module: nn.Module, seen: Tensor, target: Tensor, loss_mask: Tensor | None
    ) -> Tensor:
        """Return the squared errors of the reconstruction."""
        squares = (module(seen) - target).square()
        return squares if loss_mask is None else squares * loss_mask

    def check_rows(self, model: nn.Module, rows: Rows, name: str) -> None:
        """Refuse rows of another width."""
        check_width(rows, name, self.input_size)

    def _shapes(self, *parts: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in parts:
            sizes = self.encoder_sizes if part == "encoder" else self.encoder_sizes[::-1]
            for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
                yield f"{part}.{2 * layer}.weight", (outputs, inputs)
                yield f"{part}.{2 * layer}.bias", (outputs,)


class UnitLength(nn.Module):
    """Divides codes by their lengths. A code of zeros is unchanged."""

    def forward(self, x: Float[Tensor, "batch code"]) -> Float[Tensor, "batch code"]:
        """Return codes of length one."""
        length = x.square().sum(1, keepdim=True).sqrt()
        return x / torch.where(length > 0, length, 1.0)


def _checked_sizes(hidden_sizes: Any) -> tuple[int, ...]:
    """Return the widths of the layers; a single number means one layer."""
    is_list = (
        isinstance(hidden_sizes, (list, tuple, range)) or getattr(hidden_sizes, "ndim", 0) == 1
    )
    listed = checks.items(hidden_sizes, "hidden_sizes") if is_list else (hidden_sizes,)
    return tuple(checks.whole_number(size, "hidden_sizes") for size in listed)


class Autoencoder(BuiltModule):
    """A dense autoencoder: ``decoder(encoder(x))``.

    It consists of linear layers with an activation between them and none after the last; the
    decoder mirrors the encoder. Weights have PyTorch's initial distribution and are drawn for the
    encoder first.

    Args:
        input_size: Features of a row, at least 1.
        hidden_sizes: Widths of the encoder's layers, the representation last; each at least 1.
        activation: ``"relu"``, ``"tanh"``, ``"sigmoid"`` or ``"linear"``.
        corruption: The corruption in training, such as :class:`GaussianNoise` or
            :class:`PixelMask`; by default none. It is not applied in ``forward`` or ``encode``.
        seed: Seed of the weights. By default they come from PyTorch's global generator, as for any
            module.

    Raises:
        InputError: A size is out of range, or the activation or corruption is unknown.

    >>> model = Autoencoder(64, (128, 32), seed=0)
    >>> model(torch.zeros(5, 64)).shape, model.encoder(torch.zeros(5, 64)).shape
    (torch.Size([5, 64]), torch.Size([5, 32]))

    Reference: Hinton & Salakhutdinov, *Reducing the dimensionality of data with neural networks*,
    2006.
    """

    architecture: DenseArchitecture

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        activation: str = "relu",
        corruption: Corruption | None = None,
        *,
        seed: int | None = None,
    ):
        super().__init__()
        # The architecture converts the sequence to a tuple.
        self.architecture = DenseArchitecture(  # pyright: ignore[reportIncompatibleVariableOverride]
            input_size, cast("tuple[int, ...]", hidden_sizes), activation
        )
        self.corruption = Nothing() if corruption is None else check_corruption(corruption)
        generator = torch_generator(checks.optional_seed(seed), WEIGHTS)
        self.encoder = self.architecture.encoder(generator)
        self.decoder = self.architecture.decoder(generator)

    def encode(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch code"]:
        """Return the representation of clean rows."""
        return self.encoder(self._checked(x))

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """Return the reconstruction of rows, without corruption."""
        return self.decoder(self.encoder(self._checked(x)))

    def loss(
        self, x: Float[Tensor, "batch features"], generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch: the squared error, summed over features, averaged over rows.

        Formula: ``1/N sum_n sum_d c_nd (xhat_nd - x_nd)^2``, where xhat is the reconstruction from
        the corrupted batch, and c is 1 where the loss counts.

        Args:
            x: The clean batch, shape (batch, features).
            generator: Corrupts the batch as in training. By default the encoder sees the clean
                batch and the loss counts everywhere.
        """
        check_tensor(x, "x", features=self.architecture.input_size, ndim=2)
        seen, loss_mask = (x, None) if generator is None else self.corruption.corrupt(x, generator)
        return self.architecture.squared_errors(self, seen, x, loss_mask).sum(1).mean()

    def _checked(self, x: Any) -> Tensor:
        check_tensor(x, "x", features=self.architecture.input_size)
        check_like(x, "x", next(self.encoder.parameters()))
        return x


def _layers(
    sizes: Sequence[int], activation: str, generator: torch.Generator | None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [drawn_linear(inputs, outputs, generator), ACTIVATIONS[activation].module()]
    return nn.Sequential(*layers[:-1])


def drawn_linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a linear layer with PyTorch's initial weights, drawn from a generator if given."""
    if generator is None:
        return nn.Linear(inputs, outputs)
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    bound = 1 / math.sqrt(inputs)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def aligned_linear(
    layer: nn.Linear, x: Float[Tensor, "batch inputs"]
) -> Float[Tensor, "batch outputs"]:
    """Apply a linear layer to rows that are padded to whole cache lines.

    Some libraries sum an unaligned row in another order. Without padding, a row's result would
    depend on its place in the batch.
    """
    short = (0, -layer.in_features % ALIGNED)
    return linear(pad(x, short), pad(layer.weight, short), layer.bias)
