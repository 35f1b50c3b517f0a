"""Sources of features: everything that turns rows into features and can be probed.

A source is ``"raw"`` (the rows themselves), a whole number (principal components of the pretraining
rows), a callable, a PyTorch module, or an object with ``encode`` or scikit-learn's ``transform``.
:func:`as_source` turns each into a :class:`Source`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Num

from leadline import checks
from leadline.autoencoders import Architecture
from leadline.data import compact_features, exact_features, row_fingerprints, scale_pixels
from leadline.errors import InputError, LeadlineError
from leadline.probing.encoding._principal_components import (
    check_num_components,
    principal_components,
)

Encode = Callable[[np.ndarray], Any]
"""A function from rows (n, ...) to features of shape (n, k) or tokens of shape (n, t, k)."""

ENCODER_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError)
"""Errors that an encoder may raise when it cannot take the rows."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Rows in the user's shape, and the same rows flattened to a matrix."""

    shaped: np.ndarray
    flat: Float[np.ndarray, "n d"]

    @classmethod
    def of(cls, X: Any, name: str = "X") -> Self:
        """Check rows of shape (n, d), or of shape (n, ...) for a user's modules and functions.

        Raises:
            InputError: the rows are not finite numbers.
        """
        array = checks.array(X, name)
        if array.ndim <= 2 or 0 in array.shape:
            flat = compact_features(array, name)
            return cls(flat, flat)
        flat = compact_features(array.reshape(len(array), -1), name)
        shaped = flat.reshape(array.shape) if array.dtype.kind == "f" else array
        return cls(shaped, flat)


class Source(ABC):
    """A source of features for probes."""

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """A key that sources with equal features share."""

    @abstractmethod
    def read(self, inputs: Inputs) -> np.ndarray:
        """Return the rows in the form that the source reads."""

    @abstractmethod
    def fit(self, pretraining_rows: Num[np.ndarray, "n ..."]) -> Encode:
        """Return the function from rows to features.

        Args:
            pretraining_rows: rows as :meth:`read` returns them; principal components are fitted to
                them.
        """

    def has_seen(self, X: Num[np.ndarray, "n ..."]) -> Bool[np.ndarray, " n"]:
        """Return the rows that the source was pretrained on, as far as it knows."""
        return np.zeros(len(X), bool)

    def check(self, inputs: Inputs, num_pretraining: int, name: str) -> None:
        """Refuse rows that the source cannot read, if that is cheap to find out.

        Args:
            inputs: all rows.
            num_pretraining: number of pretraining rows.
            name: name of the representation in messages.
        """
        return


class RawRows(Source):
    """The rows themselves."""

    @property
    def key(self) -> Hashable:
        """The name of the source."""
        return "raw"

    def read(self, inputs: Inputs) -> np.ndarray:
        """Return flat rows."""
        return inputs.flat

    def fit(self, pretraining_rows: np.ndarray) -> Encode:
        """Return the identity."""
        return lambda X: X


@dataclass(frozen=True)
class Components(Source):
    """Principal components of the pretraining rows."""

    number: int

    @property
    def key(self) -> Hashable:
        """The number of components."""
        return self.number

    def read(self, inputs: Inputs) -> np.ndarray:
        """Return flat rows."""
        return inputs.flat

    def fit(self, pretraining_rows: np.ndarray) -> Encode:
        """Return the projection on the components.

        Raises:
            InputError: there are fewer rows or features than components.
        """
        return principal_components(pretraining_rows, self.number)

    def check(self, inputs: Inputs, num_pretraining: int, name: str) -> None:
        """Refuse more components than there are pretraining rows or features."""
        check_num_components(self.number, num_pretraining, inputs.flat.shape[1])


@dataclass(frozen=True, eq=False)
class EncoderSource(Source):
    """A function, a module, or an object with ``encode``, which reads rows in the user's shape."""

    encoder: Any

    @property
    def key(self) -> Hashable:
        """The identity of the encoder."""
        return id(self.encoder)

    def read(self, inputs: Inputs) -> np.ndarray:
        """Return rows in the user's shape."""
        return inputs.shaped

    def fit(self, pretraining_rows: np.ndarray) -> Encode:
        """Return the encoder's function; it is fitted already."""
        function = _encode_of(self.encoder)
        if isinstance(self.encoder, torch.nn.Module):
            return lambda X: _through_module(self.encoder, function, X)
        return function

    def has_seen(self, X: Num[np.ndarray, "n ..."]) -> Bool[np.ndarray, " n"]:
        """Return the rows that the encoder was pretrained on.

        Encoders and modules that Leadline trained remember their rows. Others give False.
        """
        if hasattr(self.encoder, "has_seen"):
            return self.encoder.has_seen(X)
        rows_seen = getattr(self.encoder, "rows_seen", None)
        if isinstance(self.encoder, torch.nn.Module) and isinstance(rows_seen, np.ndarray):
            return np.isin(row_fingerprints(X), rows_seen)
        return np.zeros(len(X), bool)

    def check(self, inputs: Inputs, num_pretraining: int, name: str) -> None:
        """Encode one row with a trained encoder, which refuses rows of another shape."""
        if hasattr(self.encoder, "has_seen") or isinstance(self.encoder, torch.nn.Module):
            row = self.read(inputs)[:1]
            encode_rows(self.fit(row), row, name)


class FlatSource(EncoderSource):
    """An encoder of flat rows: a dense autoencoder, or a transformer of scikit-learn."""

    def read(self, inputs: Inputs) -> np.ndarray:
        """Return flat rows."""
        return inputs.flat


class ImageSource(EncoderSource):
    """A model of images by Leadline, which reads pixels divided by 255 as in pretraining."""

    def read(self, inputs: Inputs) -> np.ndarray:
        """Return rows in the user's shape, with pixels from 0 to 255 divided by 255."""
        return scale_pixels(inputs.shaped)


def as_source(value: Any) -> Source:
    """Return the source that a value stands for; see the top of this module.

    Raises:
        InputError: the value cannot encode.

    >>> encode = as_source(1).fit(np.array([[0.0, 0.0], [2.0, 2.0]]))
    >>> encode(np.array([[2.0, 2.0]])).round(3)
    array([[1.414]])
    """
    if isinstance(value, str) and value == "raw":
        return RawRows()
    if is_count(value):
        return Components(int(value))
    _check_encoder(value)
    if hasattr(value, "transform"):
        return FlatSource(value)
    architecture = getattr(value, "architecture", None)
    if isinstance(architecture, Architecture):
        return FlatSource(value) if architecture.grid is None else ImageSource(value)
    return EncoderSource(value)


def is_count(value: Any) -> bool:
    """True if a value is a whole number, which stands for that many principal components."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def _check_encoder(value: Any) -> None:
    """Refuse a value that cannot encode."""
    if isinstance(value, type):
        raise InputError(
            "an encoder must be an object, not a class",
            got=f"the class {value.__name__}",
            cure=f"create an object, {value.__name__}(...), and fit or train it",
        )
    is_module = isinstance(value, torch.nn.Module)
    if is_module or (callable(_encode_of(value)) and not isinstance(value, str)):
        return
    is_pretrained = hasattr(value, "encoder")
    raise InputError(
        "a representation must be 'raw', a number of principal components, a callable, a module or "
        "an encoder",
        got=checks.shown(value),
        cause="a pretrained model instead of its encoder" if is_pretrained else None,
        cure="pass pretrained.encoder" if is_pretrained else "give it an encode(X) method",
    )


def _encode_of(encoder: Any) -> Any:
    """Return the function of an encoder: ``encode``, the object itself, or ``transform``."""
    encode = getattr(encoder, "encode", encoder)
    return encode if callable(encode) else getattr(encoder, "transform", encoder)


def encode_rows(encode: Encode, X: Num[np.ndarray, "n ..."], name: str) -> Float[np.ndarray, "n k"]:
    """Encode rows and check the result: one finite row of features for each row.

    The tokens of a row are concatenated.
    """
    title = f"the representation {name!r}"
    try:
        encoded = encode(X)
    except LeadlineError:
        raise
    except ENCODER_ERRORS as error:
        raise InputError(
            "an encoder must accept rows in their given shape",
            got=f"{title} failed on rows of shape {X.shape}, {X.dtype}: "
            f"{type(error).__name__}: {error}",
            cure="give an encoder, a module or a function from rows to features of shape (n, d)",
        ) from error
    codes = checks.array(encoded, title)
    if codes.ndim > 2:
        codes = codes.reshape(len(codes), -1)
    codes = exact_features(codes, title)
    if len(codes) != len(X):
        raise InputError(
            "an encoder must return one row of features for each row",
            got=f"{name!r} gave {len(codes)} rows for {len(X)}",
        )
    return codes


def run_module(
    module: torch.nn.Module, function: Callable[[torch.Tensor], Any], rows: torch.Tensor
) -> Any:
    """Call a module's function without gradients.

    Raises:
        InputError: the function fails on the rows.
    """
    try:
        with torch.no_grad():
            return function(rows)
    except ENCODER_ERRORS as error:
        raise InputError(
            "an encoder must accept rows in their given shape",
            got=f"{type(module).__name__} failed on rows of shape {tuple(rows.shape)}: {error}",
            cure="give rows in the module's shape: (n, features), or (n, channels, height, width)",
        ) from error


def _through_module(
    module: torch.nn.Module, function: Callable[[torch.Tensor], Any], X: np.ndarray
) -> np.ndarray:
    """Run a module in evaluation mode without gradients, and restore the mode of its parts."""
    modes = [(part, part.training) for part in module.modules()]
    parameter = next(module.parameters(), torch.zeros(0))
    try:
        module.eval()
        codes = run_module(module, function, torch.tensor(X).to(parameter))
    finally:
        for part, mode in modes:
            part.training = mode
    return np.asarray(codes.detach().cpu() if isinstance(codes, torch.Tensor) else codes)
