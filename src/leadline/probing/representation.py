"""What can be probed: anything that turns rows into features.

``"raw"`` (the rows themselves), a whole number (that many principal components of the pretraining rows), a callable, a
PyTorch module, or an object with ``encode`` or, as scikit-learn's, with ``transform``. Rows that are images keep their
shape for those who look at images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num

from leadline.autoencoders import Architecture
from leadline.data import check_features, check_labels, row_fingerprints
from leadline.data.pixels import scale_pixels
from leadline.errors import InputError

Encode = Callable[[np.ndarray], Any]
"""Rows of shape (n, ...) to features of shape (n, k), or to tokens of shape (n, t, k)."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Rows as the user shaped them, and flat."""

    shaped: np.ndarray
    flat: Float[np.ndarray, "n d"]

    @classmethod
    def of(cls, X: Any, name: str = "X") -> Self:
        """Checked rows of shape (n, d), or (n, ...) for modules and functions of the user's own.

        Raises:
            InputError: not finite numbers.
        """
        if getattr(X, "ndim", 2) <= 2 or 0 in X.shape:
            flat = check_features(X, name)
            return cls(flat, flat)
        flat = check_features(X.reshape(len(X), -1), name)
        given = np.asarray(X)
        return cls(flat.reshape(X.shape) if given.dtype.kind == "f" else given, flat)

    def for_(self, source: Any) -> np.ndarray:
        """In the form that a source takes: flat for baselines, dense autoencoders and scikit-learn's transformers.

        Leadline's models of images see whole numbers divided by 255, as in pretraining.
        """
        architecture = getattr(source, "architecture", None)
        is_dense = isinstance(architecture, Architecture) and architecture.grid is None
        if isinstance(source, (str, int)) or is_dense or hasattr(source, "transform"):
            return self.flat
        return scale_pixels(self.shaped) if hasattr(architecture, "grid") else self.shaped


def as_encode(source: Any, pretraining_rows: Num[np.ndarray, "n ..."]) -> Encode:
    """Turn what a user gave into a function from rows to features.

    Args:
        source: see the module's text.
        pretraining_rows: what a PCA is fitted on.

    Raises:
        InputError: nothing that could encode, or more components than the rows allow.

    >>> as_encode(1, np.array([[0.0, 0.0], [2.0, 2.0]]))(np.array([[2.0, 2.0]])).round(3)
    array([[1.414]])
    """
    if isinstance(source, str) and source == "raw":
        return lambda X: X
    if isinstance(source, int) and not isinstance(source, bool):
        return principal_components(pretraining_rows, source)
    encode: Any = getattr(source, "encode", source)
    if not callable(encode):
        encode = getattr(source, "transform", source)
    if isinstance(source, torch.nn.Module):
        return lambda X: _through_module(source, encode, X)
    if callable(encode) and not isinstance(source, str):
        return encode
    raise InputError(
        "a representation is 'raw', a number of principal components, a callable, a module or an encoder",
        got=f"{source!r}",
        cause="a pretrained model instead of its encoder" if hasattr(source, "encoder") else None,
        cure="hand over pretrained.encoder" if hasattr(source, "encoder") else "give it an encode(X) method",
    )


def principal_components(X: Float[np.ndarray, "n d"], components: int) -> Encode:
    """Projection on the directions of largest variance of X, in their order.

    >>> encode = principal_components(np.array([[0.0, 0.0], [0.0, 4.0], [1.0, 2.0]]), 1)
    >>> abs(encode(np.array([[0.0, 0.0]]))).item()
    2.0

    Reference: Pearson, *On lines and planes of closest fit to systems of points in space*, 1901.
    """
    if not 1 <= components <= min(X.shape):
        raise InputError(
            "PCA gives at least one component and at most as many as there are features and rows",
            got=f"{components} components of {X.shape[1]} features and {X.shape[0]} rows",
            cure=f"use {min(X.shape)} or fewer",
        )
    centre = X.mean(axis=0, dtype=np.float64)
    axes = np.linalg.eigh(np.cov(X.T.astype(np.float64)).reshape(X.shape[1], -1))[1][:, ::-1][:, :components]
    return lambda Z: ((Z - centre) @ axes).astype(Z.dtype)


def seen_by(source: Any, X: Num[np.ndarray, "n ..."]) -> Bool[np.ndarray, " n"]:
    """Which rows a source was pretrained on, as far as it is known: of encoders, and of modules that were trained."""
    if hasattr(source, "has_seen"):
        return source.has_seen(X)
    rows_seen = getattr(source, "rows_seen", None)
    if isinstance(source, torch.nn.Module) and isinstance(rows_seen, np.ndarray):
        return np.isin(row_fingerprints(X), rows_seen)
    return np.zeros(len(X), bool)


def encode_rows(encode: Encode, X: Num[np.ndarray, "n ..."], name: str) -> Float[np.ndarray, "n k"]:
    """Features of rows, checked: one finite row of features for each row; its tokens stand side by side."""
    features: Any = encode(X)
    if getattr(features, "ndim", 2) > 2:
        features = features.reshape(len(features), -1)
    features = check_features(features, f"the representation {name!r}")
    if len(features) != len(X):
        raise InputError(
            "an encoder gives one row of features for each row", got=f"{name!r} gave {len(features)} for {len(X)}"
        )
    return features


def check_probe_data(
    Z_train: Any, y_train: Any, Z_test: Any, y_test: Any, *, dtype: type[np.floating]
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"], Float[np.ndarray, "m d"], Int[np.ndarray, " m"]]:
    """Labelled features and test features, checked. Test labels may hold classes that no labelled row has.

    Raises:
        InputError: features that are not finite or of unequal width, labels of one class, unequal numbers.
    """
    Z_train, Z_test = (check_features(Z, name, dtype=dtype) for Z, name in ((Z_train, "Z_train"), (Z_test, "Z_test")))
    if Z_train.shape[1] != Z_test.shape[1]:
        raise InputError(
            "training and test features must be equally wide",
            got=f"Z_train has {Z_train.shape[1]} features, Z_test has {Z_test.shape[1]}",
            cure="encode both with the same encoder",
        )
    y_train, y_test = check_labels(y_train, len(Z_train), "y_train"), np.asarray(y_test)
    if y_test.shape != (len(Z_test),):
        raise InputError("labels and rows must be equal in number", got=f"{y_test.shape} labels for {len(Z_test)} rows")
    return Z_train, y_train, Z_test, y_test


def features_of(module: torch.nn.Module, function: Callable[[torch.Tensor], Any], rows: torch.Tensor) -> Any:
    """What a module's function makes of rows, without gradients.

    Raises:
        InputError: it fails on them.
    """
    try:
        with torch.no_grad():
            return function(rows)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            "an encoder takes rows in the shape that they are given in",
            got=f"{type(module).__name__} failed on rows of shape {tuple(rows.shape)}: {error}",
            cure="give rows in the module's shape: (n, features), or (n, channels, height, width)",
        ) from error


def _through_module(module: torch.nn.Module, function: Callable[[torch.Tensor], Any], X: np.ndarray) -> np.ndarray:
    """Run a module in evaluation mode without gradients, and leave it in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    parameter = next(module.parameters(), torch.zeros(0))
    try:
        module.eval()
        features = features_of(module, function, torch.tensor(X).to(parameter))
    finally:
        for part, mode in modes:
            part.training = mode
    return np.asarray(features.detach().cpu() if isinstance(features, torch.Tensor) else features)
