"""The dense autoencoder: an encoder, a decoder that mirrors it, and the corruption that it is trained with."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from leadline import checks
from leadline.autoencoders._corruption import Corruption, Nothing, check_corruption
from leadline.autoencoders._tensors import check_generator, check_like, check_tensor
from leadline.autoencoders.models._patches import MOST_NUMBERS, PatchGrid, Size, check_size
from leadline.errors import InputError, nearest
from leadline.randomness import torch_generator
from leadline.storage import record

WEIGHTS = "autoencoders.weights"
"""The purpose under which weights are drawn."""

ALIGNED = 16
"""Numbers to which a row is padded with zeros: a cache line."""


@dataclass(frozen=True)
class Activation:
    """A nonlinearity as the three things that are needed of it."""

    module: Callable[[], nn.Module]
    """Makes the layer."""
    apply_: Callable[[Tensor], Tensor]
    """Applies it in place."""
    chain_: Callable[[Tensor, Tensor], Tensor]
    """``(gradient, output) -> gradient``: multiplies, in place, by the derivative, told from the output."""
    is_exact: bool = False
    """Whether rounding cannot depend on where in memory an entry stands."""


def _chain_relu(gradient: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=gradient)


ACTIVATIONS = {
    "relu": Activation(nn.ReLU, torch.relu_, _chain_relu, is_exact=True),
    "tanh": Activation(nn.Tanh, torch.tanh_, lambda g, y: g.mul_(1 - y * y)),
    "sigmoid": Activation(nn.Sigmoid, torch.sigmoid_, lambda g, y: g.mul_(y * (1 - y))),
    "linear": Activation(nn.Identity, lambda y: y, lambda g, y: g, is_exact=True),
}
"""The nonlinearities that stand between layers, by name."""


@record("autoencoders.Architecture")
@dataclass(frozen=True)
class Architecture:
    """Sizes and nonlinearity of a dense autoencoder.

    Args:
        input_size: features of a row, at least 1.
        hidden_sizes: widths of the encoder's layers, the representation last; each at least 1.
        activation: ``"relu"``, ``"tanh"``, ``"sigmoid"`` or ``"linear"``; stands between layers, not after the last.
        image_size: height and width of the images that rows are; ``None`` where they are none.
        channels: of these images.
        unit_length: divide each code by its length.
    """

    input_size: int
    hidden_sizes: tuple[int, ...]
    activation: str = "relu"
    image_size: Size | None = None
    channels: int = 1
    unit_length: bool = False

    block_rows: ClassVar[int] = 256
    """Rows that are encoded at once."""

    def __post_init__(self):
        input_size = checks.whole_number(self.input_size, "input_size")
        sizes = _sizes(self.hidden_sizes)
        if not sizes or min(input_size, *sizes) < 1:
            raise InputError(
                "an autoencoder needs at least one feature and one hidden layer of at least one unit",
                got=f"input_size = {self.input_size}, hidden_sizes = {self.hidden_sizes}",
                cure="give the encoder's widths, the representation last: hidden_sizes=(128, 32)",
            )
        object.__setattr__(self, "input_size", input_size)
        object.__setattr__(self, "hidden_sizes", sizes)
        largest = max(inputs * outputs for inputs, outputs in pairwise(self.encoder_sizes))
        if largest > MOST_NUMBERS:
            raise InputError(
                f"a layer has at most {MOST_NUMBERS} weights",
                got=f"input_size = {checks.shown(input_size)}, hidden_sizes = {checks.shown(sizes)}",
            )
        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            known = list(ACTIVATIONS)
            options = nearest(self.activation, known) if isinstance(self.activation, str) else known
            raise InputError(
                "the activation is given by its name",
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
                    "an image has channels x height x width features",
                    got=f"image_size = {grid.sides} and channels = {self.channels} for input_size = {input_size}",
                )

    @property
    def encoder_sizes(self) -> tuple[int, ...]:
        """Features before and after each of the encoder's layers."""
        return (self.input_size, *self.hidden_sizes)

    @property
    def output_size(self) -> int:
        """Numbers in a row's representation."""
        return self.hidden_sizes[-1]

    @property
    def grid(self) -> PatchGrid | None:
        """The images as single pixels; ``None`` where rows are no images."""
        return None if self.image_size is None else PatchGrid(self.image_size, 1, self.channels)

    def centre(self, mean: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
        """The c in ``f(x - c) + c``, to which training moves the model: the mean row."""
        return check_tensor(mean, "mean", features=self.input_size, ndim=1)

    def moved(
        self, state: Mapping[str, Tensor], centre: Float[Tensor, " features"]
    ) -> dict[str, Tensor]:
        """The autoencoder ``f(x - c) + c`` as one on x: the first and the last bias absorb c. Copies."""
        check_tensor(centre, "centre", features=self.input_size, ndim=1)
        moved = copied_state(state, dict(self._shapes("encoder", "decoder")), centre)
        moved["encoder.0.bias"] -= moved["encoder.0.weight"] @ centre
        moved[list(moved)[-1]] += centre
        return moved

    def encoder(self, generator: torch.Generator | None = None) -> nn.Sequential:
        """The encoder's layers, newly initialised."""
        layers = _layers(self.encoder_sizes, self.activation, check_generator(generator))
        return layers.append(UnitLength()) if self.unit_length else layers

    def encoder_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The names and shapes of the encoder's weights, told without making them."""
        return ((name.removeprefix("encoder."), shape) for name, shape in self._shapes("encoder"))

    def decoder(self, generator: torch.Generator | None = None) -> nn.Sequential:
        """The decoder's layers, newly initialised: the encoder's widths in reverse."""
        return _layers(self.encoder_sizes[::-1], self.activation, check_generator(generator))

    def autoencoder(self, corruption: Corruption) -> "Autoencoder":
        """A model of this shape."""
        return Autoencoder(
            self.input_size,
            self.hidden_sizes,
            self.activation,
            check_corruption(corruption),
            seed=0,
        )

    def _shapes(self, *parts: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in parts:
            sizes = self.encoder_sizes if part == "encoder" else self.encoder_sizes[::-1]
            for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
                yield f"{part}.{2 * layer}.weight", (outputs, inputs)
                yield f"{part}.{2 * layer}.bias", (outputs,)


class UnitLength(nn.Module):
    """Divides codes by their lengths; a code of zeros stays as it is."""

    def forward(self, x: Float[Tensor, "batch code"]) -> Float[Tensor, "batch code"]:
        """Codes of length one."""
        length = x.square().sum(1, keepdim=True).sqrt()
        return x / torch.where(length > 0, length, 1.0)


def _sizes(hidden_sizes: Any) -> tuple[int, ...]:
    """Widths of layers; one layer may be given as a number."""
    is_list = (
        isinstance(hidden_sizes, (list, tuple, range)) or getattr(hidden_sizes, "ndim", 0) == 1
    )
    listed = checks.items(hidden_sizes, "hidden_sizes") if is_list else (hidden_sizes,)
    return tuple(checks.whole_number(size, "hidden_sizes") for size in listed)


def copied_state(
    state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], like: Tensor
) -> dict[str, Tensor]:
    """A copy of the parameters of a model, in their order; those of another model are refused."""
    plain = checks.mapping(state, "state", least=1)
    for name, shape in shapes.items():
        found = check_tensor(plain.get(name), f"state[{name!r}]")
        if tuple(found.shape) != shape or found.device != like.device or found.dtype != like.dtype:
            raise InputError(
                "state must hold the parameters of a model of this architecture",
                got=f"state[{name!r}] = {checks.shown(found)}, where a tensor of shape {shape}, {like.dtype} belongs",
            )
    return {name: tensor.clone() for name, tensor in plain.items()}


def number_type(module: nn.Module) -> type[np.floating]:
    """The NumPy type of a module's parameters: what rows must become before they enter it.

    Raises:
        InputError: a type that NumPy does not have.
    """
    dtype = next(module.parameters()).dtype
    try:
        found = torch.empty(0, dtype=dtype).numpy().dtype.type
        if not issubclass(found, np.floating):
            raise TypeError(f"{dtype} is no floating-point type")
        return found
    except TypeError as error:
        raise InputError(
            "a model computes with numbers that NumPy has, too",
            got=f"a {type(module).__name__} of {dtype}",
            cure="model.float(), or model.double()",
        ) from error


class Autoencoder(nn.Module):
    """A dense autoencoder: ``decoder(encoder(x))``, trained to reconstruct what it was shown or what was corrupted.

    Linear layers with the activation between them and none after the last; the decoder mirrors the encoder. Weights
    are drawn as PyTorch draws them, encoder first.

    Args:
        input_size: features of a row.
        hidden_sizes: widths of the encoder's layers, the representation last.
        activation: ``"relu"``, ``"tanh"``, ``"sigmoid"`` or ``"linear"``.
        corruption: what the encoder is shown in training: :class:`Nothing`, :class:`GaussianNoise`,
            :class:`PixelMask`. It is off everywhere else.
        seed: draws the weights from a stream of their own; without it they come from PyTorch's global one, as for
            any module.

    >>> model = Autoencoder(64, (128, 32), seed=0)
    >>> model(torch.zeros(5, 64)).shape, model.encoder(torch.zeros(5, 64)).shape
    (torch.Size([5, 64]), torch.Size([5, 32]))

    Reference: Hinton & Salakhutdinov, *Reducing the dimensionality of data with neural networks*, 2006.
    """

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
        self.architecture = Architecture(input_size, hidden_sizes, activation)  # pyright: ignore[reportArgumentType]
        self.corruption = Nothing() if corruption is None else check_corruption(corruption)
        generator = torch_generator(checks.optional_seed(seed), WEIGHTS)
        self.encoder = self.architecture.encoder(generator)
        self.decoder = self.architecture.decoder(generator)

    def encode(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch code"]:
        """The representation of clean rows."""
        return self.encoder(self._checked(x))

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """The reconstruction of rows, taken as they are."""
        return self.decoder(self.encoder(self._checked(x)))

    def loss(
        self, x: Float[Tensor, "batch features"], generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """The loss of a batch: the mean over samples of the squared error summed over features.

        Formula: ``1/N sum_n sum_d c_nd (xhat_nd - x_nd)^2``, xhat reconstructed from what the encoder saw, c being 1
        where the loss counts.

        Args:
            x: the clean batch.
            generator: corrupts the batch as in training; without it the encoder sees it clean and all entries count.
        """
        check_tensor(x, "x", features=self.architecture.input_size, ndim=2)
        seen, counts = (x, None) if generator is None else self.corruption.corrupt(x, generator)
        squares = (self(seen) - x).square()
        return (squares if counts is None else squares * counts).sum(1).mean()

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
    """A linear layer; with a generator, the numbers that PyTorch would draw from its global one."""
    if generator is None:
        return nn.Linear(inputs, outputs)
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    nn.init.uniform_(layer.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
    return layer


def aligned_linear(
    layer: nn.Linear, x: Float[Tensor, "batch inputs"]
) -> Float[Tensor, "batch outputs"]:
    """What a linear layer gives, every row beginning on a cache line.

    Some libraries sum a row that begins elsewhere in another order, so that its answer would follow from its place.
    """
    short = (0, -layer.in_features % ALIGNED)
    return linear(pad(x, short), pad(layer.weight, short), layer.bias)
