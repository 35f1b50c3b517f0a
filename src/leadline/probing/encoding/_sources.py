"""Sources of features: everything that turns rows into features and can be probed.

A source is ``"raw"`` (the rows themselves), a whole number (principal components of the pretraining
rows), a callable, a PyTorch module, or an object with ``encode`` or scikit-learn's ``transform``.
Rows that are images keep their shape for sources that read images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Num

from leadline import checks
from leadline.autoencoders import DenseArchitecture
from leadline.data import compact_features, exact_features, row_fingerprints, scale_pixels
from leadline.errors import InputError, LeadlineError
from leadline.probing.encoding._principal_components import principal_components

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

    def for_source(self, source: Any) -> np.ndarray:
        """Return the rows in the form that a source reads.

        Baselines, dense autoencoders and scikit-learn's transformers read flat rows. Leadline's
        models of images read whole numbers divided by 255, as in pretraining.
        """
        architecture = getattr(source, "architecture", None)
        is_dense = isinstance(architecture, DenseArchitecture) and architecture.grid is None
        if isinstance(source, (str, int, np.integer)) or is_dense or hasattr(source, "transform"):
            return self.flat
        return scale_pixels(self.shaped) if hasattr(architecture, "grid") else self.shaped


def as_encode(source: Any, pretraining_rows: Num[np.ndarray, "n ..."]) -> Encode:
    """Turn a source into a function from rows to features.

    Args:
        source: a source as described at the top of this module.
        pretraining_rows: the rows that principal components are fitted to.

    Raises:
        InputError: ``source`` cannot encode, or asks for more components than the rows allow.

    >>> as_encode(1, np.array([[0.0, 0.0], [2.0, 2.0]]))(np.array([[2.0, 2.0]])).round(3)
    array([[1.414]])
    """
    if isinstance(source, str) and source == "raw":
        return lambda X: X
    if is_count(source):
        return principal_components(pretraining_rows, int(source))
    if isinstance(source, type):
        raise InputError(
            "an encoder is an object, not a class",
            got=f"the class {source.__name__}",
            cure=f"create an object, {source.__name__}(...), and fit or train it",
        )
    encode: Any = getattr(source, "encode", source)
    if not callable(encode):
        encode = getattr(source, "transform", source)
    if isinstance(source, torch.nn.Module):
        return lambda X: _through_module(source, encode, X)
    if callable(encode) and not isinstance(source, str):
        return encode
    is_pretrained = hasattr(source, "encoder")
    raise InputError(
        "a representation is 'raw', a number of principal components, a callable, a module or an "
        "encoder",
        got=checks.shown(source),
        cause="a pretrained model instead of its encoder" if is_pretrained else None,
        cure="pass pretrained.encoder" if is_pretrained else "give it an encode(X) method",
    )


def is_count(source: Any) -> bool:
    """True if the source is a whole number, which stands for that many principal components."""
    return isinstance(source, (int, np.integer)) and not isinstance(source, (bool, np.bool_))


def has_seen(source: Any, X: Num[np.ndarray, "n ..."]) -> Bool[np.ndarray, " n"]:
    """Return the rows that a source was pretrained on, as far as the source knows.

    Encoders and modules that Leadline trained remember their rows. Other sources give False.
    """
    if hasattr(source, "has_seen"):
        return source.has_seen(X)
    rows_seen = getattr(source, "rows_seen", None)
    if isinstance(source, torch.nn.Module) and isinstance(rows_seen, np.ndarray):
        return np.isin(row_fingerprints(X), rows_seen)
    return np.zeros(len(X), bool)


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
