"""The dense autoencoder: an encoder, a decoder that mirrors it, and the corruption that it is trained with."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from leadline.autoencoders.corruption import Corruption, Nothing, check_corruption
from leadline.autoencoders.patches import PatchGrid, Size, pair
from leadline.errors import InputError, nearest
from leadline.randomness import torch_generator

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


@dataclass(frozen=True)
class Architecture:
    """Sizes and nonlinearity of a dense autoencoder.

    Args:
        input_size: features of a row, at least 1.
        hidden_sizes: widths of the encoder's layers, the representation last; each at least 1.
        activation: ``"relu"``, ``"tanh"``, ``"sigmoid"`` or ``"linear"``; stands between layers, not after the last.
        image_size: height and width of the images that rows are; ``None`` where they are none.
        channels: of these images.
    """

    input_size: int
    hidden_sizes: tuple[int, ...]
    activation: str = "relu"
    image_size: Size | None = None
    channels: int = 1

    block_rows: ClassVar[int] = 256
    """Rows that are encoded at once."""

    def __post_init__(self):
        object.__setattr__(self, "hidden_sizes", tuple(int(size) for size in np.atleast_1d(self.hidden_sizes)))
        if self.image_size is not None:
            object.__setattr__(self, "image_size", pair(self.image_size, "image_size"))
        if not self.hidden_sizes or min(self.encoder_sizes) < 1:
            raise InputError(
                "an autoencoder needs at least one feature and one hidden layer of at least one unit",
                got=f"input_size = {self.input_size}, hidden_sizes = {self.hidden_sizes}",
                cure="give the encoder's widths, the representation last: hidden_sizes=(128, 32)",
            )
        if self.activation not in ACTIVATIONS:
            raise InputError(
                "the activation is given by its name",
                got=f"activation = {self.activation!r}",
                cure=f"use one of {', '.join(nearest(str(self.activation), list(ACTIVATIONS)))}",
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
        """Where training moves the model to: c in ``f(x - c) + c``. The mean row."""
        return mean

    def moved(self, state: Mapping[str, Tensor], centre: Float[Tensor, " features"]) -> dict[str, Tensor]:
        """The autoencoder ``f(x - c) + c`` as one on x: the first and the last bias absorb c. Copies."""
        moved = {name: tensor.clone() for name, tensor in state.items()}
        moved["encoder.0.bias"] -= moved["encoder.0.weight"] @ centre
        moved[list(moved)[-1]] += centre
        return moved

    def encoder(self, generator: torch.Generator | None = None) -> nn.Sequential:
        """The encoder's layers, newly initialised."""
        return _layers(self.encoder_sizes, self.activation, generator)

    def decoder(self, generator: torch.Generator | None = None) -> nn.Sequential:
        """The decoder's layers, newly initialised: the encoder's widths in reverse."""
        return _layers(self.encoder_sizes[::-1], self.activation, generator)

    def autoencoder(self, corruption: Corruption) -> "Autoencoder":
        """A model of this shape."""
        return Autoencoder(self.input_size, self.hidden_sizes, self.activation, corruption, seed=0)


def number_type(module: nn.Module) -> type[np.floating]:
    """The NumPy type of a module's parameters: what rows must become before they enter it.

    Raises:
        InputError: a type that NumPy does not have.
    """
    dtype = next(module.parameters()).dtype
    try:
        return torch.empty(0, dtype=dtype).numpy().dtype.type
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
        generator = torch_generator(seed, WEIGHTS)
        self.encoder = self.architecture.encoder(generator)
        self.decoder = self.architecture.decoder(generator)

    def encode(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch code"]:
        """The representation of clean rows."""
        return self.encoder(x)

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """The reconstruction of rows, taken as they are."""
        return self.decoder(self.encoder(x))

    def loss(self, x: Float[Tensor, "batch features"], generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """The loss of a batch: the mean over samples of the squared error summed over features.

        Formula: ``1/N sum_n sum_d c_nd (xhat_nd - x_nd)^2``, xhat reconstructed from what the encoder saw, c being 1
        where the loss counts.

        Args:
            x: the clean batch.
            generator: corrupts the batch as in training; without it the encoder sees it clean and all entries count.
        """
        seen, counts = (x, None) if generator is None else self.corruption.corrupt(x, generator)
        squares = (self(seen) - x).square()
        return (squares if counts is None else squares * counts).sum(1).mean()


def _layers(sizes: Sequence[int], activation: str, generator: torch.Generator | None) -> nn.Sequential:
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


def aligned_linear(layer: nn.Linear, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
    """What a linear layer gives, every row beginning on a cache line.

    Some libraries sum a row that begins elsewhere in another order, so that its answer would follow from its place.
    """
    short = (0, -layer.in_features % ALIGNED)
    return linear(pad(x, short), pad(layer.weight, short), layer.bias)
