"""The frozen encoder of a pretrained autoencoder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from typing import Any, Self, cast

import numpy as np
import torch
from jaxtyping import Float32, UInt64
from torch import nn

from leadline import checks, storage
from leadline.autoencoders._encoder_weights import OFFSET, check_fingerprints, check_weights
from leadline.autoencoders._encoding import encode_in_blocks
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders._rows import BLOCK_NUMBERS
from leadline.autoencoders._sealed import read_sealed, seal
from leadline.autoencoders.models._architecture import WEIGHTS, Architecture, number_type
from leadline.autoencoders.models._tokens import Pooling
from leadline.checks import ShortRepr
from leadline.data import row_fingerprints
from leadline.errors import InputError, SaveError
from leadline.randomness import torch_generator
from leadline.storage import record

SCHEMA = 2
"""Version of the encoder's file. Files of other versions are refused; version 1 has no digest."""


@record("autoencoders.Encoder")
@dataclass(frozen=True, eq=False)
class Encoder(ShortRepr):
    """A frozen pretrained encoder. It contains no decoder and never corrupts.

    Args:
        architecture: The sizes of the encoder.
        weights: Parameters by their names in :attr:`module`, all float32 or all float64.
        rows_seen: Fingerprints of the rows of pretraining.
        form: The columns and the scale of the rows of pretraining.

    Raises:
        InputError: The weights do not belong to the architecture.

    >>> from leadline.autoencoders import Autoencoder, pretrain
    >>> X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    >>> encoder = pretrain(Autoencoder(3, (2,), seed=0), X, epochs=2).encoder
    >>> encoder.encode(X[:5]).shape, encoder.has_seen(X).all().item()
    ((5, 2), True)
    """

    architecture: Architecture
    """The sizes of the encoder."""
    weights: Mapping[str, np.ndarray]
    """Parameters by their names in :attr:`module`. An additional ``offset`` is subtracted from rows
    in float64, for rows such as timestamps that float32 cannot hold."""
    rows_seen: UInt64[np.ndarray, " n"]
    """Fingerprints of the rows of pretraining; see :func:`leadline.data.row_fingerprints`."""
    form: RowForm | None = None
    """The columns and the scale of the rows of pretraining. By default rows have no column names,
    images lie between 0 and 1, and other rows have any range."""
    module: nn.Module = field(init=False, repr=False)
    """The layers as a PyTorch module, in evaluation mode, without gradients."""

    def __post_init__(self):
        if not isinstance(self.architecture, Architecture):
            kinds = sorted(kind.__name__ for kind in Architecture.kinds.values())
            raise InputError(
                f"architecture must be one of {', '.join(kinds)}",
                got=f"architecture = {checks.shown(self.architecture)}",
            )
        weights = checks.mapping(self.weights, "weights", least=1)
        tensors = {
            name: checks.array(array, f"weights[{name!r}]") for name, array in weights.items()
        }
        check_weights(tensors, self.architecture)
        form = self.form
        if form is None:
            form = RowForm(scale="other" if self.architecture.grid is None else "unit")
        object.__setattr__(self, "form", checks.instance(form, "form", RowForm))
        object.__setattr__(self, "weights", tensors)
        object.__setattr__(self, "rows_seen", check_fingerprints(self.rows_seen))
        module = self.architecture.encoder(torch.Generator().manual_seed(0))
        state = {
            name: torch.from_numpy(array.copy())
            for name, array in tensors.items()
            if name != OFFSET
        }
        module = module.to(next(iter(state.values())).dtype)
        module.load_state_dict(state)
        object.__setattr__(self, "module", module.eval().requires_grad_(False))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fields only; a rebuilt module has aligned memory and rounds equally."""
        return type(self), (self.architecture, dict(self.weights), self.rows_seen, self.form)

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        weights: Mapping[str, np.ndarray],
        rows_seen: np.ndarray,
        form: RowForm | None = None,
    ) -> Self:
        """Return the encoder of a whole autoencoder.

        Args:
            architecture: The sizes of the encoder.
            weights: Parameters of the autoencoder; the names of the encoder's parameters begin with
                ``encoder.``.
            rows_seen: Fingerprints of the rows of pretraining.
            form: The columns and the scale of the rows of pretraining.
        """
        weights = checks.mapping(weights, "weights")
        inner = {
            str(name).removeprefix("encoder."): array
            for name, array in weights.items()
            if str(name).startswith("encoder.")
        }
        return cls(architecture, inner, rows_seen, form)

    @property
    def offset(self) -> np.ndarray | None:
        """The row that is subtracted from every row in float64; ``None`` for no subtraction."""
        return self.weights.get(OFFSET)

    @property
    def output_size(self) -> int:
        """Features of a representation."""
        return self.architecture.output_size

    def encode(self, X: Any) -> Float32[np.ndarray, "n ..."]:
        """Return the representation of clean rows.

        A row has the same code, bit for bit, in every call and next to any other rows, because all
        blocks have the same size: the last block is filled up with zeros.

        Args:
            X: Rows of shape (n, features): an array, a tensor, a data frame, or a
                :class:`~leadline.data.Dataset`. If the rows of pretraining were images, also images
                of shape (n, height, width), (n, channels, height, width) or (n, height, width,
                channels). A patch transformer takes images of any size that is a multiple of the
                patch's, and lists of images of different sizes. Named columns are brought into the
                order of pretraining. Whole numbers are divided as in pretraining.

        Returns:
            Codes of shape (n, d), float32. With ``pooling="none"`` the shape is (n, tokens, d).

        Raises:
            InputError: Rows with another width, other columns or another scale than in
                pretraining, or rows that are not finite.
        """
        if _differ_in_shape(X):
            return self._encode_sizes(X)
        if not isinstance(X, np.memmap):
            return self._encode_rows(self._rows(X))
        block = self.architecture.block_rows
        step = block * max(1, BLOCK_NUMBERS // (block * self.architecture.input_size))
        codes = []
        for start in range(0, max(1, len(X)), step):
            rows = self._rows(np.array(X[start : start + step]), first_row=start)
            codes.append(self._encode_rows(rows))
        return np.concatenate(codes)

    def with_pooling(self, pooling: Pooling) -> "Encoder":
        """Return the encoder with another pooling of its patch tokens.

        Args:
            pooling: ``"mean"``, ``"class"`` or ``"none"`` (all patch tokens).

        Raises:
            InputError: The encoder has no tokens, or the pooling is unknown.
        """
        return replace(self, architecture=self.architecture.with_pooling(pooling))

    def has_seen(self, X: Any) -> np.ndarray:
        """Return booleans of shape (n,): true for rows that pretraining used.

        Args:
            X: Rows as in :meth:`encode`; images of one size.

        Raises:
            InputError: Rows that :meth:`encode` refuses.
        """
        return np.isin(row_fingerprints(self._rows(X)), self.rows_seen)

    def untrained(self, seed: int) -> "Encoder":
        """Return an encoder of this architecture with new random weights, as a control.

        Args:
            seed: Seed of the weights.
        """
        module = self.architecture.encoder(torch_generator(checks.seed(seed), WEIGHTS))
        weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
        if self.offset is not None:
            weights[OFFSET] = self.offset
        return replace(self, weights=weights, rows_seen=np.zeros(0, np.uint64))

    def to(self, device: str | torch.device) -> "Encoder":
        """Return the encoder on another device. Rows and codes stay NumPy arrays.

        Args:
            device: A device such as ``"cuda"``.

        >>> from leadline.autoencoders import Autoencoder, pretrain
        >>> X = np.eye(2).repeat(9, 0)
        >>> encoder = pretrain(Autoencoder(2, (1,), seed=0), X, epochs=1).encoder
        >>> encoder.to("cpu").encode([[2.0, 1.0]]).shape
        (1, 1)
        """
        moved = replace(self)
        moved.module.to(checks.device(device))
        return moved

    def prepared(self, X: Any) -> np.ndarray:
        """Return rows as the layers receive them.

        They are checked; columns are in the order of pretraining, pixels are divided, and the
        offset is subtracted.

        Args:
            X: Rows as in :meth:`encode`; images of one size.
        """
        return self._rows(X)

    def _encode_rows(self, rows: np.ndarray) -> np.ndarray:
        def function(block: torch.Tensor) -> torch.Tensor:
            return self.architecture.encode_block(self.module, block)

        return encode_in_blocks(self.module, function, rows, self.architecture.block_rows)

    def _rows(self, X: Any, first_row: int = 0) -> np.ndarray:
        form = cast(RowForm, self.form)
        dtype = number_type(self.module)
        if self.offset is None:
            return self.architecture.prepare(X, form, dtype, first_row)
        rows = self.architecture.prepare(X, form, np.float64, first_row)
        return (rows - self.offset.reshape(rows.shape[1:])).astype(dtype)

    def _encode_sizes(self, images: Sequence[Any]) -> np.ndarray:
        """Encode images of different sizes, size by size."""
        if self.architecture.has_tokens:
            raise InputError(
                "X must hold images of one size with pooling='none': their tokens are stacked",
                got=f"a list of {len(images)} images with pooling='none'",
                cure="encode images of one size at a time, or use encoder.with_pooling('mean')",
            )
        arrays = [checks.array(image, f"X[{i}]") for i, image in enumerate(images)]
        codes = np.empty((len(arrays), self.output_size), dtype=np.float32)
        indices_by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, array in enumerate(arrays):
            indices_by_shape.setdefault(array.shape, []).append(i)
        for indices in indices_by_shape.values():
            codes[indices] = self.encode(np.stack([arrays[i] for i in indices]))
        return codes

    def to_onnx(self, path: str | PathLike[str]) -> None:
        """Write an ONNX model with input ``rows`` and output ``code``, for any number of rows.

        The rows must have the scale of pretraining: pixels must be divided by 255 if pretraining
        divided them. They are float32; with an :attr:`offset` or float64 weights they are float64.

        Args:
            path: The file to write; an existing file is replaced.

        Raises:
            InputError: The extra ``onnx`` is not installed.
            SaveError: The file cannot be written.
        """
        from leadline.autoencoders._export import write_onnx

        if self.offset is None:
            dtype = next(self.module.parameters()).dtype
            write_onnx(self.module, torch.zeros(2, self.architecture.input_size, dtype=dtype), path)
        else:
            rows = torch.zeros(2, self.architecture.input_size, dtype=torch.float64)
            write_onnx(_Shifted(self.module, self.offset).eval(), rows, path)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a safetensors file; its header holds the architecture and the form of the rows.

        Args:
            path: The file to write; an existing file is replaced.

        Raises:
            SaveError: The file cannot be written; an existing file is unchanged.
        """
        from safetensors.numpy import save

        path = checks.path(path, "path")
        document = {
            "schema": SCHEMA,
            "kind": self.architecture.kind,
            "architecture": asdict(cast(Any, self.architecture)),
            "form": asdict(cast(RowForm, self.form)),
        }
        tensors = {
            f"encoder.{name}": np.array(array, order="C") for name, array in self.weights.items()
        }
        tensors["rows_seen"] = self.rows_seen
        storage.write(path, seal(lambda texts: save(tensors, texts), document))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Encoder":
        """Read an encoder that :meth:`save` wrote. Nothing in the file is executed.

        The digest is checked before the tensors are read, and the declared sizes are checked before
        memory is allocated.

        Args:
            path: The file to read.

        Raises:
            SaveError: The file does not exist, is no encoder, is damaged, or has another schema.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            document, content = read_sealed(path, "encoder", SCHEMA, "pretrain again or restore it")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SaveError(f"{path} does not exist; was the encoder saved elsewhere?") from error
        try:
            kind = checks.choice(document.get("kind"), "kind", Architecture.kinds)
            architecture = _from_fields(Architecture.kinds[kind], document, "architecture")
            form = _from_fields(RowForm, document, "form")
            tensors = load(content)
            rows_seen = tensors.pop("rows_seen")
            if not all(name.startswith("encoder.") for name in tensors):
                raise ValueError("a tensor that is no weight of an encoder")
            return cls.of(architecture, tensors, rows_seen, form)
        except (InputError, KeyError, TypeError, ValueError, SafetensorError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SaveError(f"{path} is damaged or from another release ({reason})") from error


def _from_fields(kind: type[Any], document: Mapping[str, Any], name: str) -> Any:
    """Build a dataclass from a file's document, which must hold exactly its fields."""
    entries = checks.mapping(document.get(name), name)
    known = {entry.name for entry in fields(kind)}
    if set(entries) != known:
        raise ValueError(f"{name} has the fields {sorted(entries)}, not {sorted(known)}")
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()
    }
    return kind(**values)


def _differ_in_shape(X: Any) -> bool:
    """True for a list of images of different sizes."""
    if not isinstance(X, (list, tuple)) or not all(hasattr(image, "shape") for image in X):
        return False
    return len({tuple(image.shape) for image in X}) > 1


class _Shifted(nn.Module):
    """An encoder that first subtracts an offset in float64."""

    offset: torch.Tensor

    def __init__(self, module: nn.Module, offset: np.ndarray):
        super().__init__()
        self.module = module
        self.register_buffer("offset", torch.from_numpy(offset.copy()))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the codes of rows that are not centred yet."""
        return self.module((rows - self.offset).float())
