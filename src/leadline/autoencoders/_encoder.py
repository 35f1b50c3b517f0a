"""The frozen encoder: what is kept of an autoencoder once it is pretrained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float32, UInt64
from torch import nn

from leadline import checks, storage
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders._sealed import read_sealed, seal
from leadline.autoencoders.models._dense import WEIGHTS, Architecture, aligned_linear, number_type
from leadline.autoencoders.models._local import LocalArchitecture
from leadline.autoencoders.models._patches import check_images
from leadline.autoencoders.models._transformer import PatchArchitecture, Pooling
from leadline.autoencoders.training._rows import BLOCK_NUMBERS
from leadline.checks import ShortRepr
from leadline.data import check_features, row_fingerprints
from leadline.errors import InputError, SaveError
from leadline.randomness import torch_generator
from leadline.storage import record

SCHEMA = 2
"""Version of the encoder's file. A reader refuses other versions; files of version 1 have no digest."""

OFFSET = "offset"
"""The entry of an encoder's weights that is subtracted from rows in float64, before they become float32."""

AnyArchitecture = Architecture | PatchArchitecture | LocalArchitecture

KINDS: dict[str, type[AnyArchitecture]] = {
    "dense": Architecture,
    "patches": PatchArchitecture,
    "local": LocalArchitecture,
}
"""What an encoder's file may hold."""


@record("autoencoders.Encoder")
@dataclass(frozen=True, eq=False)
class Encoder(ShortRepr):
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
    form: RowForm | None = None
    """The columns and the scale of the rows that pretraining saw. By default no columns, and floating-point numbers:
    from 0 to 1 for images, of any range otherwise."""
    module: nn.Module = field(init=False, repr=False)
    """The layers as a PyTorch module, in evaluation mode, without gradients."""

    def __post_init__(self):
        if not isinstance(self.architecture, AnyArchitecture):
            raise InputError(
                "architecture must be an Architecture, a PatchArchitecture or a LocalArchitecture",
                got=f"architecture = {checks.shown(self.architecture)}",
            )
        weights = checks.mapping(self.weights, "weights", least=1)
        tensors = {
            name: checks.array(array, f"weights[{name!r}]") for name, array in weights.items()
        }
        _check_weights(tensors, self.architecture)
        form = (
            RowForm(scale="other" if self.architecture.grid is None else "unit")
            if self.form is None
            else self.form
        )
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
        """Unpickling builds the module again: weights in other places of the memory may round otherwise."""
        return type(self), (self.architecture, dict(self.weights), self.rows_seen, self.form)

    @classmethod
    def of(
        cls,
        architecture: AnyArchitecture,
        weights: Mapping[str, np.ndarray],
        rows_seen: np.ndarray,
        form: RowForm | None = None,
    ) -> Self:
        """The encoder in the weights of a whole autoencoder."""
        weights = checks.mapping(weights, "weights")
        inner = {
            str(name).removeprefix("encoder."): w
            for name, w in weights.items()
            if f"{name}"[:8] == "encoder."
        }
        return cls(architecture, inner, rows_seen, form)

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
            X: rows of shape (n, features): an array, a tensor, a data frame, or a :class:`~leadline.data.Dataset`,
                which knows what its reader did to the numbers. Where they are images also images of shape
                (n, height, width), (n, channels, height, width) or (n, height, width, channels). For a patch
                transformer their sides may be any multiples of the patch's, or X a list of images of different sizes.
                Columns that have names are brought into the order of pretraining. Whole numbers are divided as those
                of pretraining were; see :class:`~leadline.autoencoders._row_form.RowForm`.

        Returns:
            Codes of shape (n, d), float32; of shape (n, tokens, d) from a transformer with ``pooling="none"``.

        Raises:
            InputError: rows of another width, other columns or another scale than pretraining saw, or not finite.
        """
        if _differ_in_shape(X):
            return self._encode_sizes(X)
        function = (
            self._layer_by_layer if isinstance(self.architecture, Architecture) else self.module
        )
        block = self.architecture.block_rows
        if not isinstance(X, np.memmap):
            return encode_in_blocks(self.module, function, self._rows(X), block)
        step = block * max(1, BLOCK_NUMBERS // (block * self.architecture.input_size))
        parts = range(0, max(1, len(X)), step)
        rows = (self._rows(np.array(X[start : start + step]), first_row=start) for start in parts)
        return np.concatenate(
            [encode_in_blocks(self.module, function, part, block) for part in rows]
        )

    def with_pooling(self, pooling: Pooling) -> "Encoder":
        """The same encoder with another answer: ``"mean"``, ``"class"`` or ``"none"`` (all patch tokens).

        Raises:
            InputError: a dense encoder, which has no tokens.
        """
        if not isinstance(self.architecture, PatchArchitecture):
            raise InputError(
                "only a patch transformer's tokens are pooled",
                got=f"pooling = {pooling!r}, a dense encoder",
            )
        return replace(self, architecture=replace(self.architecture, pooling=pooling))

    def has_seen(self, X: Any) -> np.ndarray:
        """For each row, true if pretraining used an equal one: booleans of shape (n,).

        Args:
            X: as for :meth:`encode`, images of one size.

        Raises:
            InputError: rows that :meth:`encode` refuses.
        """

        return np.isin(row_fingerprints(self._rows(X)), self.rows_seen)

    def untrained(self, seed: int) -> "Encoder":
        """The same architecture with new random weights, as before any training: the control of every study."""
        module = self.architecture.encoder(torch_generator(checks.seed(seed), WEIGHTS))
        weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
        if self.offset is not None:
            weights[OFFSET] = self.offset
        return replace(self, weights=weights, rows_seen=np.zeros(0, np.uint64))

    def to(self, device: str | torch.device) -> "Encoder":
        """The same encoder on a device, where it encodes from then on; rows and codes stay NumPy arrays.

        >>> SEEN = np.zeros(0, np.uint64)
        >>> encoder = Encoder(Architecture(1, (1,)), {"0.weight": np.ones((1, 1)), "0.bias": np.zeros(1)}, SEEN)
        >>> encoder.to("cpu").encode([[2.0]])
        array([[2.]], dtype=float32)
        """
        moved = replace(self)
        moved.module.to(checks.device(device))
        return moved

    def prepared(self, X: Any) -> np.ndarray:
        """Rows as the layers get them: checked, with columns in order, pixels divided and the offset subtracted."""
        return self._rows(X)

    def _layer_by_layer(self, x: torch.Tensor) -> torch.Tensor:
        """What the dense module gives, whatever the place of a row among others."""
        for layer in self.module.children():
            x = aligned_linear(layer, x) if isinstance(layer, nn.Linear) else layer(x)
        return x

    @property
    def _kind(self) -> str:
        return next(
            kind
            for kind, architecture in KINDS.items()
            if isinstance(self.architecture, architecture)
        )

    def _rows(self, X: Any, first_row: int = 0) -> np.ndarray:
        if self.offset is None:
            return self._checked(X, first_row, number_type(self.module))
        rows = self._checked(X, first_row, np.float64)
        return (rows - self.offset.reshape(rows.shape[1:])).astype(number_type(self.module))

    def _checked(self, X: Any, first_row: int, dtype: type[np.floating]) -> np.ndarray:
        grid = self.architecture.grid
        form = self.form
        assert form is not None
        if grid is not None:
            any_size = isinstance(self.architecture, PatchArchitecture)
            images = check_images(
                X, grid, any_size=any_size, dtype=dtype, first_row=first_row, form=form
            )
            return (
                images.reshape(len(images), -1)
                if isinstance(self.architecture, Architecture)
                else images
            )
        rows = check_features(form.apply(X), dtype=dtype, first_row=first_row)
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
        arrays = [checks.array(image, f"X[{i}]") for i, image in enumerate(images)]
        codes = np.empty((len(arrays), self.output_size), dtype=np.float32)
        of_shape: dict[tuple[int, ...], list[int]] = {}
        for i, array in enumerate(arrays):
            of_shape.setdefault(array.shape, []).append(i)
        for members in of_shape.values():
            codes[members] = self.encode(np.stack([arrays[i] for i in members]))
        return codes

    def to_onnx(self, path: str | PathLike[str]) -> None:
        """Write the encoder as an ONNX model: input ``rows`` of shape (n, features), output ``code``, any n.

        The model takes numbers in the scale of pretraining, with pixels divided by 255 where it divided them. They are
        float32; float64 where the encoder has an :attr:`offset` or weights in float64.

        Raises:
            InputError: the extra ``onnx`` is not installed.
            SaveError: the file could not be written.
        """
        from leadline.autoencoders._export import write_onnx

        if self.offset is None:
            dtype = next(self.module.parameters()).dtype
            write_onnx(self.module, torch.zeros(2, self.architecture.input_size, dtype=dtype), path)
        else:
            rows = torch.zeros(2, self.architecture.input_size, dtype=torch.float64)
            write_onnx(_Shifted(self.module, self.offset).eval(), rows, path)

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file: the encoder's tensors, and its architecture and row form in the header.

        Raises:
            SaveError: it could not be written; an earlier file is untouched.
        """
        from safetensors.numpy import save

        path = checks.path(path, "path")
        document = {"schema": SCHEMA, "kind": self._kind, "architecture": asdict(self.architecture)}
        document["form"] = asdict(self.form)  # pyright: ignore[reportArgumentType]
        tensors = {
            f"encoder.{name}": np.array(array, order="C") for name, array in self.weights.items()
        }
        tensors["rows_seen"] = self.rows_seen
        storage.write(path, seal(lambda texts: save(tensors, texts), document))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Encoder":
        """Read an encoder that :meth:`save` wrote. Nothing in the file is executed.

        The digest in the file is compared before anything else is read, and the sizes that the file declares are
        compared with its tensors before any memory is taken for them.

        Raises:
            SaveError: no such file, not an encoder, damaged, or of a schema that this release does not read.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            document, content = read_sealed(path, "encoder", SCHEMA, "pretrain again or restore it")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SaveError(f"{path} does not exist; was the encoder saved elsewhere?") from error
        try:
            architecture = _from_fields(
                KINDS[checks.choice(document.get("kind"), "kind", KINDS)], document, "architecture"
            )
            form = _from_fields(RowForm, document, "form")
            tensors = load(content)
            seen = tensors.pop("rows_seen")
            if not all(name.startswith("encoder.") for name in tensors):
                raise ValueError("a tensor that is no weight of an encoder")
            return cls.of(architecture, tensors, seen, form)
        except (InputError, KeyError, TypeError, ValueError, SafetensorError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SaveError(f"{path} is damaged or from another release ({reason})") from error


def _from_fields(kind: type[Any], document: Mapping[str, Any], name: str) -> Any:
    """A record of settings from a file: every field must be there, and no other."""
    found = checks.mapping(document.get(name), name)
    known = {one.name for one in fields(kind)}
    if set(found) != known:
        raise ValueError(f"{name} has the fields {sorted(found)}, not {sorted(known)}")
    return kind(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    )


def _check_weights(weights: Mapping[str, np.ndarray], architecture: AnyArchitecture) -> None:
    """Refuse weights of other names, shapes or types than the architecture has, before its layers are made."""
    rule = "weights must be those of the architecture"
    types = {array.dtype for name, array in weights.items() if name != OFFSET}
    if len(types) != 1 or not types <= {np.dtype(np.float32), np.dtype(np.float64)}:
        listed = ", ".join(sorted(map(str, types))) or "none"
        raise InputError(
            "weights must be all float32 or all float64", got=f"weights of dtype {listed}"
        )
    found = 0
    if OFFSET in weights:
        offset = weights[OFFSET]
        if offset.dtype != np.float64 or offset.shape != (architecture.input_size,):
            wanted = f"where float64 of shape ({architecture.input_size},) belongs"
            raise InputError(
                rule, got=f"{OFFSET!r} of shape {offset.shape}, {offset.dtype}, {wanted}"
            )
        found = 1
    for name, shape in architecture.encoder_shapes():
        if name not in weights:
            raise InputError(rule, got=f"weights without {name!r}")
        if weights[name].shape != shape:
            raise InputError(
                rule, got=f"{name!r} of shape {weights[name].shape} where it has {shape}"
            )
        found += 1
    if found < len(weights):
        raise InputError(rule, got=f"{len(weights)} weights where it has {found}")


def check_fingerprints(rows_seen: Any) -> UInt64[np.ndarray, " n"]:
    """Fingerprints of rows as an array, or a refusal of what is none."""
    array = checks.array(rows_seen, "rows_seen", wanted="fingerprints of rows")
    if array.ndim != 1 or (array.size and array.dtype != np.uint64):
        raise InputError(
            "rows_seen must be fingerprints of rows, as leadline.data.row_fingerprints gives them",
            got=f"rows_seen = {checks.shown(array)}",
        )
    return array.astype(np.uint64)


def _differ_in_shape(X: Any) -> bool:
    """True for a list of images of different sizes."""
    if not isinstance(X, (list, tuple)) or not all(hasattr(image, "shape") for image in X):
        return False
    return len({tuple(image.shape) for image in X}) > 1


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
    first = next(module.parameters(), torch.zeros(0, dtype=torch.float32))
    block = torch.empty(size, *rows.shape[1:], dtype=first.dtype, device=first.device)
    codes = []
    with torch.inference_mode(), torch.autocast(first.device.type, enabled=False):
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            block.zero_()[: len(part)] = torch.from_numpy(np.array(part, order="C"))
            codes.append(function(block)[: len(part)].float().cpu().numpy())
    return np.concatenate(codes)
