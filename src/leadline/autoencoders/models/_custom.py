"""A user's own module in pretraining: any module that reconstructs rows, trained by autograd."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt64
from torch import Tensor, nn

from leadline import checks
from leadline.autoencoders._corruption import Corruption
from leadline.autoencoders._encoder_weights import check_fingerprints
from leadline.autoencoders._encoding import encode_in_blocks
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders._rows import AS_THEY_ARE, BLOCK_NUMBERS, Rows, open_rows
from leadline.autoencoders._tensors import check_tensor
from leadline.autoencoders.models._architecture import TrainableArchitecture, number_type
from leadline.autoencoders.training._autograd import AutogradEngine
from leadline.data import Dataset, check_features, row_fingerprints
from leadline.errors import InputError
from leadline.storage import record

BLOCK_ROWS = 64
"""Rows that are encoded at once."""


@record("autoencoders.CustomArchitecture")
@dataclass(frozen=True)
class CustomArchitecture(TrainableArchitecture):
    """The class name and the row shape of a module that Leadline did not build."""

    name: str
    """Name of the module's class."""
    row_shape: tuple[int, ...] = ()
    """Shape of the rows that the module takes."""

    can_be_built: ClassVar[bool] = False
    # Some modules draw random numbers in evaluation mode: larger parts keep their order.
    evaluation_numbers: ClassVar[int] = BLOCK_NUMBERS
    evaluation_dtype: ClassVar[torch.dtype | None] = torch.float64

    def centre(self, mean: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
        """Return zeros: a user's module is not centred."""
        return torch.zeros_like(check_tensor(mean, "mean"))

    def moved(self, state: Mapping[str, Tensor], centre: Tensor) -> dict[str, Tensor]:
        """Return the state unchanged."""
        return checks.mapping(state, "state")

    def autoencoder(self, corruption: Corruption) -> nn.Module:
        """Refuse: only the user's code can build the module.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "a saved module of your own can only be rebuilt by your own code",
            got=f"the saved weights of a {self.name}",
            cure="model.load_state_dict({name: torch.from_numpy(w) "
            "for name, w in pretrained.weights.items()}); "
            "autoencoders.ModuleEncoder(model, pretrained.rows_seen)",
        )

    def squared_errors(
        self, module: nn.Module, seen: Tensor, target: Tensor, loss_mask: Tensor | None
    ) -> Tensor:
        """Return the squared errors of the reconstruction."""
        reconstruction = _reconstruction(module, seen.unflatten(1, self.row_shape))
        squares = (reconstruction.flatten(1) - target).square()
        return squares if loss_mask is None else squares * loss_mask

    def open_rows(
        self,
        X: Any,
        name: str,
        dtype: type[np.floating],
        device: torch.device,
        form: RowForm | None = None,
    ) -> Rows:
        """Return rows in their own scale."""
        return open_rows(_without_dataset(X), name, dtype, device, AS_THEY_ARE)

    def for_rows(self, rows: Rows) -> Self:
        """Return the architecture with the shape of the training rows."""
        return replace(self, row_shape=rows.row_shape)

    def check_rows(self, model: nn.Module, rows: Rows, name: str) -> None:
        """Refuse a module that cannot reconstruct the rows."""
        first_rows = torch.arange(min(2, len(rows)), device=rows.device)
        _check_module(model, rows.take(first_rows), self.for_rows(rows))

    def check_batches(self, model: nn.Module, rows: Rows, batch_size: int) -> None:
        """Refuse a module that cannot take a step on the first or the last batch of an epoch.

        The last batch may be a single row, which batch normalisation cannot normalise.

        Args:
            model: The user's module; a copy takes the step.
            rows: The training rows.
            batch_size: Rows per step.

        Raises:
            InputError: A step fails.
        """
        n = len(rows)
        last_size = n % batch_size or min(batch_size, n)
        for size in sorted({min(batch_size, n), last_size}):
            batch = rows.take(torch.arange(size, device=rows.device))[None]
            engine = AutogradEngine(model, self, 1e-3, 0, rows.device)
            try:
                engine.step(batch, batch, None)
            except InputError:
                raise
            except Exception as error:  # the user's code may raise any type
                raise _batch_error(model, n, batch_size, size, error) from error


class ModuleEncoder:
    """A user's own module as a frozen encoder: its ``encode(x)`` if it has one, else ``forward``.

    The encoder is a copy in evaluation mode, without gradients. Rows are encoded in blocks of one
    size, so that a code does not depend on the other rows.

    Args:
        module: Maps rows of shape (n, ...) to codes of shape (n, d) or (n, tokens, d).
        rows_seen: Fingerprints of the rows that the module was trained on, if known; see
            :func:`leadline.data.row_fingerprints`.

    Raises:
        InputError: ``module`` is not a PyTorch module.

    >>> import numpy as np
    >>> encoder = ModuleEncoder(nn.Flatten())
    >>> encoder.encode(np.ones((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, module: nn.Module, rows_seen: UInt64[np.ndarray, " n"] | None = None):
        checks.instance(module, "module", nn.Module, wanted="a module of torch")
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.rows_seen = check_fingerprints([] if rows_seen is None else rows_seen)

    def encode(self, X: Any) -> Float32[np.ndarray, "n ..."]:
        """Return codes of clean rows, of shape (n, d) or (n, tokens, d).

        Args:
            X: Rows in the shape that the module takes.

        Raises:
            InputError: Rows that are not finite, or that the module cannot take.
        """
        array = checks.array(_without_dataset(X), "X")
        has_parameters = next(self.module.parameters(), None) is not None
        dtype = number_type(self.module) if has_parameters else np.float32
        flat = array.reshape(len(array), -1) if array.ndim > 2 and array.size else array
        rows = check_features(flat, dtype=dtype).reshape(array.shape)
        function = getattr(self.module, "encode", self.module)
        try:
            return encode_in_blocks(self.module, function, rows, BLOCK_ROWS)
        except Exception as error:  # the user's code may raise any type
            raise InputError(
                "X must have the shape that the module takes, and the module must return a tensor",
                got=f"{type(self.module).__name__} failed on rows of shape {array.shape}: {error}",
                cure="reshape the rows, or give the module an encode(x) that returns the codes",
            ) from error

    def has_seen(self, X: Any) -> np.ndarray:
        """Return booleans of shape (n,): true for rows that training used.

        Args:
            X: Rows in the shape that the module takes.

        Raises:
            InputError: Rows that are not finite, or that the module cannot take.
        """
        array = checks.array(_without_dataset(X), "X")
        # Encoding the first row refuses rows that the module cannot take.
        self.encode(array[:1] if array.ndim else array)
        flat = array.reshape(len(array), -1) if array.ndim > 2 else array
        return np.isin(row_fingerprints(check_features(flat)), self.rows_seen)

    def to_onnx(self, path: str | PathLike[str], example: Any) -> None:
        """Write an ONNX model with input ``rows`` and output ``code``, for any number of rows.

        Args:
            path: The file to write.
            example: One or more rows in the shape that the module takes.

        Raises:
            InputError: The extra ``onnx`` is not installed, or the module cannot be exported.
            SaveError: The file cannot be written.
        """
        from leadline.autoencoders._export import write_onnx

        first = next(self.module.parameters(), torch.zeros(0, dtype=torch.float32))
        shape = checks.array(example, "example").shape
        # Encoding a row of zeros refuses a shape that the module cannot take.
        self.encode(np.zeros((1, *shape[1:]), np.float32))
        rows = torch.zeros(2, *shape[1:], dtype=first.dtype)
        has_encode = hasattr(self.module, "encode")
        module = _Encoding(self.module).eval() if has_encode else self.module
        write_onnx(module, rows, path)

    def save(self, path: str | PathLike[str]) -> None:
        """Refuse: Leadline cannot rebuild the module from a file.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "ModuleEncoder.save() is not possible: Leadline cannot rebuild the module",
            got=f"a {type(self.module).__name__}, for {path}",
            cure="save encoder.module.state_dict() with safetensors.torch.save_file, "
            "or export the encoder with to_onnx",
        )


class _Encoding(nn.Module):
    """A module whose ``forward`` is the ``encode`` of another module."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return the codes."""
        return self.module.encode(x)  # pyright: ignore[reportCallIssue]


def _without_dataset(X: Any) -> Any:
    """Return the images or rows of a data set; return anything else unchanged."""
    if not isinstance(X, Dataset):
        return X
    return X.X if X.image_size is None else X.images


def _check_module(model: nn.Module, rows: Tensor, architecture: CustomArchitecture) -> None:
    """Refuse a module that cannot reconstruct these rows; the module is not changed.

    Raises:
        InputError: The module fails on the rows, or returns something else.
    """
    if not all(isinstance(tensor, Tensor) for tensor in model.state_dict().values()):
        raise InputError(
            "model must keep its state in tensors",
            got=f"a {type(model).__name__} with an extra state of another type",
            cure="keep it in a buffer: self.register_buffer(name, tensor)",
        )
    engine = AutogradEngine(model, architecture, 1.0, 0, rows.device)
    try:
        engine.error(0, rows, rows, None)
    except InputError:
        raise
    except Exception as error:  # the user's code may raise any type
        shape = (len(rows), *architecture.row_shape)
        raise InputError(
            "model must take rows and return their reconstruction",
            got=f"{type(model).__name__} failed on rows of shape {shape}: {error}",
            cause="rows in another shape than the module takes",
            cure="pass rows as (n, features), or images as (n, channels, height, width)",
        ) from error


def _batch_error(
    model: nn.Module, n: int, batch_size: int, size: int, error: Exception
) -> InputError:
    """Return the error of a module that cannot take a step on a batch."""
    is_single = size == 1
    rows = f"{size} row" if is_single else f"{size} rows"
    cause = "an operation without a gradient"
    cure = None
    if is_single:
        cause = "batch normalisation needs more than one row"
        cure = f"choose another batch_size: {n} rows in batches of {batch_size} leave {rows} over"
    return InputError(
        "model must be able to take a training step on every batch of an epoch",
        got=f"{type(model).__name__} failed on a batch of {rows}: {error}",
        cause=cause,
        cure=cure,
    )


def _reconstruction(module: nn.Module, x: Tensor) -> Tensor:
    """Return the module's output; refuse an output of another shape than the rows."""
    output: Any = module(x)
    if isinstance(output, Tensor) and output.shape == x.shape:
        return output
    is_tensor = isinstance(output, Tensor)
    returned = f"shape {tuple(output.shape)}" if is_tensor else f"a {type(output).__name__}"
    raise InputError(
        "model must return the reconstruction of its rows, in their shape",
        got=f"{type(module).__name__} gave {returned} for rows of shape {tuple(x.shape)}",
        cause="an encoder without a decoder, or more than one output",
        cure="wrap it: forward(x) returns the reconstruction, encode(x) the representation",
    )
