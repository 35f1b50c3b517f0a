"""What can be probed: anything that turns rows into features.

``"raw"`` (the rows themselves), a whole number (that many principal components of the pretraining rows), a callable, a
PyTorch module, or an object with ``encode`` or, as scikit-learn's, with ``transform``. Rows that are images keep their
shape for those who look at images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from scipy.sparse.linalg import svds

from leadline import checks
from leadline.autoencoders import DenseArchitecture
from leadline.data import check_labels, means_and_spreads, row_fingerprints, scale_pixels
from leadline.errors import InputError, LeadlineError
from leadline.probing.probes._scaling import exact_features, features

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
        given = checks.array(X, name)
        if given.ndim <= 2 or 0 in given.shape:
            flat = features(given, name)
            return cls(flat, flat)
        flat = features(given.reshape(len(given), -1), name)
        return cls(flat.reshape(given.shape) if given.dtype.kind == "f" else given, flat)

    def for_(self, source: Any) -> np.ndarray:
        """In the form that a source takes: flat for baselines, dense autoencoders and scikit-learn's transformers.

        Leadline's models of images see whole numbers divided by 255, as in pretraining.
        """
        architecture = getattr(source, "architecture", None)
        is_dense = isinstance(architecture, DenseArchitecture) and architecture.grid is None
        if isinstance(source, (str, int, np.integer)) or is_dense or hasattr(source, "transform"):
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
    if is_count(source):
        return principal_components(pretraining_rows, int(source))
    if isinstance(source, type):
        raise InputError(
            "an encoder is an object, not a class",
            got=f"the class {source.__name__}",
            cure=f"make an object of it, {source.__name__}(...), and fit or train it",
        )
    encode: Any = getattr(source, "encode", source)
    if not callable(encode):
        encode = getattr(source, "transform", source)
    if isinstance(source, torch.nn.Module):
        return lambda X: _through_module(source, encode, X)
    if callable(encode) and not isinstance(source, str):
        return encode
    raise InputError(
        "a representation is 'raw', a number of principal components, a callable, a module or an encoder",
        got=checks.shown(source),
        cause="a pretrained model instead of its encoder" if hasattr(source, "encoder") else None,
        cure="hand over pretrained.encoder"
        if hasattr(source, "encoder")
        else "give it an encode(X) method",
    )


def is_count(source: Any) -> bool:
    """True for a whole number of any kind, which stands for that many principal components."""
    return isinstance(source, (int, np.integer)) and not isinstance(source, (bool, np.bool_))


def principal_components(X: Float[np.ndarray, "n d"], components: int) -> Encode:
    """Projection on the directions of largest variance of X, in their order.

    The cost is that of the shorter side: rows that are fewer than their features are decomposed by a thin SVD, and few
    components of large matrices by Lanczos iterations. No matrix of d x d numbers is made where n < d. Directions in
    which the rows do not vary give zeros.

    Args:
        X: rows of shape (n, d).
        components: how many directions, at most ``min(n, d)``.

    >>> encode = principal_components(np.array([[0.0, 0.0], [0.0, 4.0], [1.0, 2.0]]), 1)
    >>> abs(encode(np.array([[0.0, 0.0]]))).item()
    2.0

    Reference: Pearson, *On lines and planes of closest fit to systems of points in space*, 1901.
    """
    components = checks.whole_number(components, "components")
    if not 1 <= components <= min(X.shape):
        raise InputError(
            "PCA gives at least one component and at most as many as there are features and rows",
            got=f"{components} components of {X.shape[1]} features and {X.shape[0]} rows",
            cure=f"use {min(X.shape)} or fewer",
        )
    centre = means_and_spreads(X)[0]
    axes = _principal_axes(X - centre, components)
    return lambda Z: ((Z - centre) @ axes).astype(Z.dtype)


LANCZOS_SIDE = 500
"""Matrices whose shorter side is longer than this, and of which few components are wanted, are not decomposed whole."""

LANCZOS_SHARE = 0.1
"""Few components: at most this share of the shorter side."""


def _principal_axes(
    centred: Float[np.ndarray, "n d"], components: int
) -> Float[np.ndarray, "d components"]:
    """Orthonormal directions of largest variance, as columns; zero where the rows span fewer."""
    n, d = centred.shape
    shorter = min(n, d)
    axes: Any
    if shorter > LANCZOS_SIDE and components <= LANCZOS_SHARE * shorter and centred.any():
        start = np.random.default_rng(0).normal(
            size=shorter
        )  # the same for equal rows, so that results repeat
        _, sizes, axes = svds(centred, k=components, v0=start, solver="arpack")
        order = np.argsort(-sizes, kind="stable")
        sizes, axes = sizes[order], axes[order]
    elif n < d:
        _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    else:
        squares, columns = np.linalg.eigh(centred.T @ centred)
        sizes = np.sqrt(np.maximum(squares[::-1], 0))
        axes = columns.T[::-1]
    is_spanned = sizes[:components] > 1e-7 * sizes[0]
    return (axes[:components] * is_spanned[:, None]).T


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
    what = f"the representation {name!r}"
    try:
        given = encode(X)
    except LeadlineError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise InputError(
            "an encoder takes rows in the shape that they are given in",
            got=f"{what} failed on rows of shape {X.shape}, {X.dtype}: {type(error).__name__}: {error}",
            cure="give an encoder, a module or a function from rows to features of shape (n, d)",
        ) from error
    codes = checks.array(given, what)
    if codes.ndim > 2:
        codes = codes.reshape(len(codes), -1)
    codes = exact_features(codes, what)
    if len(codes) != len(X):
        raise InputError(
            "an encoder gives one row of features for each row",
            got=f"{name!r} gave {len(codes)} for {len(X)}",
        )
    return codes


class ProbeData(NamedTuple):
    """Labelled features and test features, checked; classes are numbered in the order of their labels."""

    Z_train: Float[np.ndarray, "n d"]
    y_train: Int[np.ndarray, " n"]
    """Places in :attr:`classes`."""
    Z_test: Float[np.ndarray, "m d"]
    y_test: Int[np.ndarray, " m"]
    """Places in :attr:`classes`."""
    classes: Int[np.ndarray, " classes"]
    """The labels, ascending."""

    @property
    def majority(self) -> float:
        """Share of the most frequent class among the test rows."""
        return majority_share(self.y_test)


def check_probe_data(Z_train: Any, y_train: Any, Z_test: Any, y_test: Any) -> ProbeData:
    """Check labelled features and test features. The test rows may lack classes, but may not have others.

    Raises:
        InputError: features that are not finite or of unequal width, labels of one class, unequal numbers, labels that
            are no class indices, or a class among the test rows that no labelled row has.
    """
    rows, tests = exact_features(Z_train, "Z_train"), exact_features(Z_test, "Z_test")
    if rows.shape[1] != tests.shape[1]:
        raise InputError(
            "training and test features must be equally wide",
            got=f"Z_train has {rows.shape[1]} features, Z_test has {tests.shape[1]}",
            cure="encode both with the same encoder",
        )
    labels = check_labels(checks.array(y_train, "y_train"), len(rows), "y_train")
    truth = check_test_labels(y_test, len(tests), labels)
    classes, places = np.unique(labels, return_inverse=True)
    return ProbeData(rows, places, tests, np.searchsorted(classes, truth), classes)


def check_test_labels(y_test: Any, n: int, y_train: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Labels of test rows: class indices as those of the labelled rows; all may be of one class.

    Raises:
        InputError: another number of labels, labels that are no class indices, or a class that no labelled row has.
    """
    given = checks.array(y_test, "y_test")
    is_one_class = (
        given.shape == (n,)
        and given.dtype.kind in "biuf"
        and n > 0
        and bool((given == given[0]).all())
    )
    if is_one_class and 0 <= given[0] < 2**63 and given[0] == np.floor(given[0]):
        labels = given.astype(np.int64)
    else:
        labels = check_labels(given, n, "y_test")
    is_unknown = ~np.isin(labels, y_train)
    if is_unknown.any():
        row = int(np.argmax(is_unknown))
        raise InputError(
            "y_test must hold classes that y_train holds: a probe never predicts others",
            got=f"y_test[{row}] = {labels[row]}; {int(is_unknown.sum())} such of {n}",
            cause="classes numbered in another way, or a class without a labelled row",
            cure="label a row of each class, or leave these rows out of the test",
        )
    return labels


def majority_share(y: Int[np.ndarray, " n"]) -> float:
    """Share of the most frequent class: the accuracy of always predicting it.

    >>> majority_share(np.array([0, 1, 1, 1]))
    0.75
    """
    return float(np.unique(y, return_counts=True)[1].max() / len(y))


def features_of(
    module: torch.nn.Module, function: Callable[[torch.Tensor], Any], rows: torch.Tensor
) -> Any:
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


def _through_module(
    module: torch.nn.Module, function: Callable[[torch.Tensor], Any], X: np.ndarray
) -> np.ndarray:
    """Run a module in evaluation mode without gradients, and leave it in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    parameter = next(module.parameters(), torch.zeros(0))
    try:
        module.eval()
        codes = features_of(module, function, torch.tensor(X).to(parameter))
    finally:
        for part, mode in modes:
            part.training = mode
    return np.asarray(codes.detach().cpu() if isinstance(codes, torch.Tensor) else codes)
