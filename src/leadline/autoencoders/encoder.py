"""The frozen encoder: what is kept of an autoencoder once it is pretrained."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float32, UInt64
from torch import nn

from leadline import storage
from leadline.autoencoders.local import LocalArchitecture
from leadline.autoencoders.model import WEIGHTS, Architecture, aligned_linear, number_type
from leadline.autoencoders.patches import check_images
from leadline.autoencoders.rows import BLOCK_NUMBERS
from leadline.autoencoders.transformer import PatchArchitecture, Pooling
from leadline.data import check_features
from leadline.errors import InputError, SaveError
from leadline.randomness import torch_generator

SCHEMA = 1
"""Version of the encoder's file; a reader refuses a version that it does not know."""

OFFSET = "offset"
"""The entry of an encoder's weights that is subtracted from rows in float64, before they become float32."""

AnyArchitecture = Architecture | PatchArchitecture | LocalArchitecture

KINDS: dict[str, type[AnyArchitecture]] = {
    "dense": Architecture,
    "patches": PatchArchitecture,
    "local": LocalArchitecture,
}
"""What an encoder's file may hold."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A pretrained encoder that no longer changes. Holds nothing of the decoder and never corrupts.

    >>> from leadline.autoencoders import Autoencoder, pretrain
    >>> X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    >>> encoder = pretrain(Autoencoder(3, (2,), seed=0), X, epochs=2).encoder
    >>> encoder.encode(X[:5]).shape, encoder.has_seen(X).all().item()
    ((5, 2), True)
    """

    architecture: AnyArchitecture
    weights: Mapping[str, np.ndarray]
    """The encoder's parameters, by their names in :attr:`module`. There may be an ``offset`` beside them, which is
    subtracted from rows in float64: float32 cannot hold rows such as timestamps."""
    rows_seen: UInt64[np.ndarray, " n"]
    """Fingerprints of the rows that pretraining used; see :func:`leadline.data.row_fingerprints`."""
    module: nn.Module = field(init=False, repr=False)
    """The layers as a PyTorch module, in evaluation mode, without gradients."""

    def __post_init__(self):
        module = self.architecture.encoder(torch.Generator().manual_seed(0))
        tensors = {name: torch.from_numpy(array.copy()) for name, array in self.weights.items() if name != OFFSET}
        module = module.to(next(iter(tensors.values())).dtype)
        module.load_state_dict(tensors)
        object.__setattr__(self, "module", module.eval().requires_grad_(False))

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickled by building it anew: memory that lies elsewhere may round otherwise."""
        return type(self), (self.architecture, dict(self.weights), self.rows_seen)

    @classmethod
    def of(cls, architecture: AnyArchitecture, weights: Mapping[str, np.ndarray], rows_seen: np.ndarray) -> Self:
        """The encoder in the weights of a whole autoencoder."""
        inner = {name.removeprefix("encoder."): w for name, w in weights.items() if name.startswith("encoder.")}
        return cls(architecture, inner, rows_seen)

    @property
    def offset(self) -> np.ndarray | None:
        """The row that is subtracted from every row in float64; ``None`` where float32 is exact enough."""
        return self.weights.get(OFFSET)

    @property
    def output_size(self) -> int:
        """Numbers in a row's representation."""
        return self.architecture.output_size

    def encode(self, X: Any) -> Float32[np.ndarray, "n ..."]:
        """The representation of clean rows.

        The same bits for a row in every call, whatever stands before, behind or beside it: rows are encoded in blocks
        of one size, the last filled up with zeros.

        Args:
            X: rows of shape (n, features). Where they are images also images of shape (n, height, width),
                (n, channels, height, width) or (n, height, width, channels). For a patch transformer their sides may be
                any multiples of the patch's, or X a list of images of different sizes. Whole numbers of images are
                divided by 255, unless all are 0 or 1, as in pretraining, which tells so in
                :attr:`Pretrained.notes <leadline.autoencoders.Pretrained.notes>`.

        Returns:
            Codes of shape (n, d), float32; of shape (n, tokens, d) from a transformer with ``pooling="none"``.

        Raises:
            InputError: rows of another width than the encoder was trained on, or not finite.
        """
        if isinstance(X, (list, tuple)) and len({np.shape(image) for image in X}) > 1:
            return self._encode_sizes(X)
        function = self._layer_by_layer if isinstance(self.architecture, Architecture) else self.module
        block = self.architecture.block_rows
        if not isinstance(X, np.memmap):
            return encode_in_blocks(self.module, function, self._rows(X), block)
        step = block * max(1, BLOCK_NUMBERS // (block * self.architecture.input_size))
        parts = range(0, max(1, len(X)), step)
        rows = (self._rows(np.array(X[start : start + step]), first_row=start) for start in parts)
        return np.concatenate([encode_in_blocks(self.module, function, part, block) for part in rows])

    def with_pooling(self, pooling: Pooling) -> "Encoder":
        """The same encoder with another answer: ``"mean"``, ``"class"`` or ``"none"`` (all patch tokens).

        Raises:
            InputError: a dense encoder, which has no tokens.
        """
        if not isinstance(self.architecture, PatchArchitecture):
            raise InputError(
                "only a patch transformer's tokens are pooled", got=f"pooling = {pooling!r}, a dense encoder"
            )
        return Encoder(replace(self.architecture, pooling=pooling), self.weights, self.rows_seen)

    def has_seen(self, X: Any) -> np.ndarray:
        """For each row, whether pretraining used an equal one: booleans of shape (n,). Takes what :meth:`encode` does,
        images of one size."""
        from leadline.data import row_fingerprints

        is_plain = self.architecture.grid is None and self.offset is None
        return np.isin(row_fingerprints(X if is_plain else self._rows(X)), self.rows_seen)

    def untrained(self, seed: int) -> "Encoder":
        """The same architecture with new random weights, as before any training: the control of every study."""
        module = self.architecture.encoder(torch_generator(seed, WEIGHTS))
        weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
        if self.offset is not None:
            weights[OFFSET] = self.offset
        return Encoder(self.architecture, weights, np.zeros(0, np.uint64))

    def _layer_by_layer(self, x: torch.Tensor) -> torch.Tensor:
        """What the dense module gives, whatever the place of a row among others."""
        for layer in self.module.children():
            x = aligned_linear(layer, x) if isinstance(layer, nn.Linear) else layer(x)
        return x

    @property
    def _kind(self) -> str:
        return next(kind for kind, architecture in KINDS.items() if isinstance(self.architecture, architecture))

    def _rows(self, X: Any, first_row: int = 0) -> np.ndarray:
        if self.offset is None:
            return self._checked(X, first_row, number_type(self.module))
        rows = self._checked(X, first_row, np.float64)
        return (rows - self.offset.reshape(rows.shape[1:])).astype(number_type(self.module))

    def _checked(self, X: Any, first_row: int, dtype: type[np.floating]) -> np.ndarray:
        grid = self.architecture.grid
        if grid is not None:
            any_size = isinstance(self.architecture, PatchArchitecture)
            images = check_images(X, grid, any_size=any_size, dtype=dtype, first_row=first_row)
            return images.reshape(len(images), -1) if isinstance(self.architecture, Architecture) else images
        rows = check_features(X, dtype=dtype, first_row=first_row)
        if rows.shape[1] != self.architecture.input_size:
            raise InputError(
                "rows must be like those that the encoder was pretrained on",
                got=f"X has {rows.shape[1]} features, the encoder takes {self.architecture.input_size}",
                cure="bring the rows into the form that pretraining saw, or pretrain on these",
            )
        return rows

    def _encode_sizes(self, images: Sequence[Any]) -> np.ndarray:
        """Codes of images of different sizes, size by size."""
        if isinstance(self.architecture, PatchArchitecture) and self.architecture.pooling == "none":
            raise InputError(
                "tokens of images of different sizes have no common shape",
                got=f"a list of {len(images)} images with pooling='none'",
                cure="encode images of one size at a time, or use encoder.with_pooling('mean')",
            )
        codes = np.empty((len(images), self.output_size), dtype=np.float32)
        of_shape: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            of_shape.setdefault(np.shape(image), []).append(i)
        for members in of_shape.values():
            codes[members] = self.encode(np.stack([images[i] for i in members]))
        return codes

    def to_onnx(self, path: str | PathLike[str]) -> None:
        """Write the encoder as an ONNX model: input ``rows`` of shape (n, features), output ``code``, any n.

        The rows are float32; float64 where the encoder has an :attr:`offset`.

        Raises:
            InputError: the extra ``onnx`` is not installed.
            SaveError: the file could not be written.
        """
        from leadline.autoencoders.export import write_onnx

        if self.offset is None:
            write_onnx(self.module, torch.zeros(2, self.architecture.input_size), path)
        else:
            rows = torch.zeros(2, self.architecture.input_size, dtype=torch.float64)
            write_onnx(_Shifted(self.module, self.offset), rows, path)

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file: the encoder's tensors, and its architecture as JSON in the header.

        Raises:
            SaveError: it could not be written; an earlier file is untouched.
        """
        from safetensors.numpy import save

        document = {"schema": SCHEMA, "kind": self._kind, "architecture": asdict(self.architecture)}
        tensors = {f"encoder.{name}": np.ascontiguousarray(array) for name, array in self.weights.items()}
        content = save({**tensors, "rows_seen": self.rows_seen}, {"leadline": json.dumps(document, sort_keys=True)})
        storage.write(path, content)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Encoder":
        """Read an encoder that :meth:`save` wrote. Nothing in the file is executed.

        Raises:
            SaveError: no such file, not an encoder, damaged, or of a schema that this release does not read.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        try:
            with safe_open(path, "numpy") as file:
                document = json.loads((file.metadata() or {})["leadline"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError as error:
            raise SaveError(f"{path} does not exist; was the encoder saved elsewhere?") from error
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise SaveError(f"{path} holds no readable encoder ({error}); save it again or restore it") from error
        if document.get("schema") != SCHEMA:
            raise SaveError(
                f"{path} has encoder schema {document.get('schema')!r}; this release reads schema {SCHEMA}: "
                "load it with the release that wrote it, or pretrain again"
            )
        try:
            rows_seen = tensors.pop("rows_seen")
            return cls.of(KINDS[document["kind"]](**document["architecture"]), tensors, rows_seen)
        except (KeyError, TypeError, ValueError, RuntimeError, StopIteration) as error:
            raise SaveError(f"{path} is damaged or from another release ({error})") from error


class _Shifted(nn.Module):
    """An encoder that subtracts an offset in float64 before its first layer."""

    offset: torch.Tensor

    def __init__(self, module: nn.Module, offset: np.ndarray):
        super().__init__()
        self.module = module
        self.register_buffer("offset", torch.from_numpy(offset.copy()))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.module((rows - self.offset).float())


def encode_in_blocks(
    module: nn.Module, function: Callable[[torch.Tensor], torch.Tensor], rows: np.ndarray, size: int
) -> Float32[np.ndarray, "n ..."]:
    """What a function of a frozen module makes of rows, always ``size`` at a time, the last filled up with zeros."""
    first = next(module.parameters(), torch.zeros(0))
    block = torch.empty(size, *rows.shape[1:], dtype=first.dtype, device=first.device)
    codes = []
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            block.zero_()[: len(part)] = torch.tensor(part)
            codes.append(function(block)[: len(part)].float().cpu().numpy())
    return np.concatenate(codes)
