"""The interfaces of architectures.

An architecture is a frozen dataclass of sizes. :class:`Architecture` builds frozen encoders;
:class:`TrainableArchitecture` is the interface of pretraining. Most architectures implement both.
A new architecture takes one class in one file, and an import of that file in
``leadline/autoencoders/__init__.py``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from leadline import checks
from leadline.autoencoders._corruption import Corruption
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders._rows import Rows, open_rows
from leadline.autoencoders._tensors import check_tensor
from leadline.autoencoders.models._patches import PatchGrid, check_images
from leadline.data import check_features
from leadline.errors import InputError

WEIGHTS = "autoencoders.weights"
"""Name of the random stream that draws weights."""


class Architecture(ABC):
    """Sizes of an encoder that Leadline can build and save.

    Subclasses are frozen dataclasses and give the name under which files store them::

        @dataclass(frozen=True)
        class MyArchitecture(Architecture, kind="mine"): ...
    """

    kinds: ClassVar[dict[str, type["Architecture"]]] = {}
    """The architectures that a file may hold, by kind."""
    kind: ClassVar[str]
    """The name of the architecture in a file."""
    block_rows: ClassVar[int] = 64
    """Rows that are encoded at once."""
    takes_any_size: ClassVar[bool] = False
    """True if the encoder takes images of other sizes than :attr:`grid`."""
    input_size: int
    """Features of a row."""

    def __init_subclass__(cls, kind: str | None = None, **options: Any):
        super().__init_subclass__(**options)
        if kind is not None:
            cls.kind = kind
            Architecture.kinds[kind] = cls

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Features of a representation."""

    @property
    def grid(self) -> PatchGrid | None:
        """The patches of an image; ``None`` if rows are not images."""
        return None

    @property
    def has_tokens(self) -> bool:
        """True if a representation is a matrix with one row per token."""
        return False

    @abstractmethod
    def encoder(self, generator: torch.Generator | None = None) -> nn.Module:
        """Return a newly initialised encoder.

        Args:
            generator: Draws the weights; by default PyTorch's global generator does.
        """

    @abstractmethod
    def encoder_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the names and shapes of the encoder's weights without allocating them."""

    def encode_block(self, module: nn.Module, block: Tensor) -> Tensor:
        """Return the representations of :attr:`block_rows` rows.

        Args:
            module: An encoder that :meth:`encoder` built.
            block: Rows in the shape that :meth:`prepare` returns.
        """
        return module(block)

    def prepare(
        self, X: Any, form: RowForm, dtype: type[np.floating], first_row: int = 0
    ) -> np.ndarray:
        """Return checked rows in the shape and scale that the encoder takes.

        Args:
            X: Rows, or images if the architecture has a :attr:`grid`.
            form: The columns and the scale of the rows of pretraining.
            dtype: Number type of the result.
            first_row: Number of the first row in messages, for a part of a larger array.

        Raises:
            InputError: The rows have another width, scale or columns, or are not finite.
        """
        if self.grid is not None:
            return check_images(
                X,
                self.grid,
                any_size=self.takes_any_size,
                dtype=dtype,
                first_row=first_row,
                form=form,
            )
        rows = check_features(form.apply(X), dtype=dtype, first_row=first_row)
        if rows.shape[1] != self.input_size:
            raise InputError(
                "X must have as many features as the encoder takes",
                got=f"X has {rows.shape[1]} features, the encoder takes {self.input_size}",
                cure="pass rows with the columns of pretraining, or pretrain on these rows",
            )
        return rows

    def with_pooling(self, pooling: Any) -> Self:
        """Return the architecture with another pooling of its tokens.

        Raises:
            InputError: The encoder has no tokens.
        """
        raise InputError(
            "with_pooling() needs the encoder of a patch transformer",
            got=f"pooling = {checks.shown(pooling)} for a {type(self).__name__}",
        )


class TrainableArchitecture(ABC):
    """The interface of models that :func:`~leadline.autoencoders.pretrain` trains."""

    learning_rate: ClassVar[float] = 1e-3
    """The default learning rate."""
    evaluation_numbers: ClassVar[int] = 2**18
    """Numbers in the rows that are evaluated at once."""
    evaluation_dtype: ClassVar[torch.dtype | None] = None
    """Number type of the sums in evaluation; ``None`` for that of the model."""
    can_stack: ClassVar[bool] = False
    """True if models of equal architecture can be trained as one stack."""
    can_be_built: ClassVar[bool] = True
    """True if Leadline can rebuild the model from the architecture and its weights."""

    @abstractmethod
    def centre(self, mean: Tensor) -> Tensor:
        """Return the c of the coordinates ``x - c`` in which the model is trained.

        Args:
            mean: The mean of the training rows, shape (features,).
        """

    @abstractmethod
    def moved(self, state: Mapping[str, Tensor], centre: Tensor) -> dict[str, Tensor]:
        """Return the weights of ``f(x - c) + c`` as a model of x.

        Args:
            state: The weights of f, by name; they are copied.
            centre: The vector c, shape (features,).
        """

    @abstractmethod
    def autoencoder(self, corruption: Corruption) -> nn.Module:
        """Return a newly initialised model of this architecture."""

    @abstractmethod
    def squared_errors(
        self, module: nn.Module, seen: Tensor, target: Tensor, loss_mask: Tensor | None
    ) -> Tensor:
        """Return the squared errors of the predictions, 0 where the loss does not count.

        Args:
            module: The model in training.
            seen: The corrupted rows, shape (batch, features).
            target: The clean rows, same shape.
            loss_mask: 1 where the loss counts and 0 elsewhere, same shape; ``None`` for everywhere.
        """

    def open_rows(
        self,
        X: Any,
        name: str,
        dtype: type[np.floating],
        device: torch.device,
        form: RowForm | None = None,
    ) -> Rows:
        """Return rows for training; see :func:`~leadline.autoencoders._rows.open_rows`."""
        return open_rows(X, name, dtype, device, form)

    def for_rows(self, rows: Rows) -> Self:
        """Return the architecture with what it learns from the training rows."""
        return self

    @abstractmethod
    def check_rows(self, model: nn.Module, rows: Rows, name: str) -> None:
        """Refuse rows that the model cannot take.

        Args:
            model: The model to train.
            rows: The opened rows.
            name: The argument's name in messages.

        Raises:
            InputError: The rows have another shape than the model takes.
        """

    def check_batches(self, model: nn.Module, rows: Rows, batch_size: int) -> None:
        """Refuse a model that cannot be trained on batches of this size; by default none."""
        return


class BuiltModule(nn.Module):
    """A model that Leadline builds from an architecture and a corruption."""

    architecture: TrainableArchitecture
    corruption: Corruption


def check_width(rows: Rows, name: str, features: int) -> None:
    """Refuse rows that are not flat, or that have another number of features.

    Raises:
        InputError: The rows have another shape than (n, features).
    """
    if len(rows.row_shape) > 1:
        raise InputError(
            f"{name} must have the shape (samples, features)",
            got=f"{name} of shape {(len(rows), *rows.row_shape)}",
            cause="images that are not flattened",
            cure=f"use {name}.reshape(len({name}), -1)",
        )
    if rows.width != features:
        raise InputError(
            f"{name} must have as many features as the model takes",
            got=f"{name} has {rows.width} features, the model takes {features}",
            cure=f"build the model for rows of {rows.width} features",
        )


def copied_state(
    state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], like: Tensor
) -> dict[str, Tensor]:
    """Return a copy of a model's parameters in their order.

    Args:
        state: The parameters and buffers, by name.
        shapes: The expected shapes of some parameters.
        like: A tensor with the expected device and number type.

    Raises:
        InputError: A parameter is missing, or has another shape, type or device.
    """
    plain = checks.mapping(state, "state", least=1)
    for name, shape in shapes.items():
        tensor = check_tensor(plain.get(name), f"state[{name!r}]")
        if (
            tuple(tensor.shape) != shape
            or tensor.device != like.device
            or tensor.dtype != like.dtype
        ):
            raise InputError(
                "state must hold the parameters of a model of this architecture",
                got=f"state[{name!r}] = {checks.shown(tensor)}; expected {shape}, {like.dtype}",
            )
    return {name: tensor.clone() for name, tensor in plain.items()}


def number_type(module: nn.Module) -> type[np.floating]:
    """Return the NumPy type of a module's parameters, to which rows are converted.

    Raises:
        InputError: NumPy has no such type.
    """
    dtype = next(module.parameters()).dtype
    try:
        kind = torch.empty(0, dtype=dtype).numpy().dtype.type
        if not issubclass(kind, np.floating):
            raise TypeError(f"{dtype} is no floating-point type")
        return kind
    except TypeError as error:
        raise InputError(
            "model must compute with a number type that NumPy has",
            got=f"a {type(module).__name__} of {dtype}",
            cure="model.float(), or model.double()",
        ) from error
