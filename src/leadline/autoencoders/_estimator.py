"""Pretraining as a step of a scikit-learn pipeline: fit on rows without labels, transform into codes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Float, Float32
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, TransformerTags
from sklearn.utils.validation import check_is_fitted, validate_data

from leadline import checks
from leadline.autoencoders._column_scale import column_spreads
from leadline.autoencoders._corruption import Corruption, GaussianNoise, Nothing, PixelMask
from leadline.autoencoders._encoder import OFFSET, Encoder
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders.models._dense import Autoencoder
from leadline.autoencoders.training._pretrain import pretrain
from leadline.data import means_and_spreads, row_fingerprints
from leadline.errors import InputError

CORRUPTIONS = {
    "vanilla": (lambda strength: Nothing(), 0.0),
    "denoising": (GaussianNoise, 1.7),
    "masked": (PixelMask, 0.5),
}
"""How a kind is corrupted, and how strongly by default; in standard deviations, or as the share that is hidden."""

FAR = 30.0
"""Rows whose columns have means of more than this many spreads are centred in float64, so that rounding does not hide
how they vary (a timestamp)."""


Kind = Literal["vanilla", "denoising", "masked"]
Scale = Literal["auto", "common", "column"]


class RowsTypeError(InputError, TypeError):
    """Rows of a type that no number can be made of; scikit-learn expects a ``TypeError`` here."""


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A dense autoencoder as a scikit-learn transformer: ``fit(X)`` pretrains, ``transform(X)`` encodes.

    Rows may have any scale: columns are centred, and divided by their standard deviation, or, where they share a unit
    as the pixels of an image do, all by one number, so that a pixel that hardly varies stays unimportant.

    Codes are centred and have length one. What learns to undo strong noise draws a row that it is unsure of towards the
    mean: of its code the direction tells what the row is, and the length how sure that is, by which a probe on a few
    labels would be misled.

    Args:
        kind: ``"denoising"``, ``"masked"`` or ``"vanilla"``.
        hidden_sizes: widths of the encoder's layers, the representation last.
        strength: of the corruption: the noise's standard deviation in units of the scaled columns, or the share of
            entries that are hidden; by default 1.7 and 0.5.
        activation: between the layers.
        scale: ``"column"``: every column by its own standard deviation; ``"common"``: all by one; ``"auto"``: one if
            the largest is at most three times their median.
        unit_length: divide codes by their lengths. One number alone would keep its sign only.
        epochs: passes over the rows at most.
        batch_size: rows per step.
        lr: highest learning rate.
        patience: epochs without improvement after which training stops.
        validation: share of the rows that decide early stopping; without effect where it is less than one row, or
            ``None``.
        seed: draws everything that is drawn.

    Attributes, once it is fitted: ``mean_`` and ``scale_`` of the columns, ``pretrained_`` (the training's sounding, on
    scaled rows), ``encoder_`` (takes rows as they are and gives what :meth:`transform` gives, also when it is saved or
    exported to ONNX), ``code_mean_``, ``n_features_in_``.

    >>> X = np.random.default_rng(0).normal(size=(40, 5)) * [1, 10, 100, 1000, 0]
    >>> AutoencoderTransformer(hidden_sizes=(8, 3), epochs=5).fit_transform(X).shape
    (40, 3)
    """

    def __init__(
        self,
        kind: Kind = "denoising",
        *,
        hidden_sizes: Sequence[int] = (192, 192, 64),
        strength: float | None = None,
        activation: str = "relu",
        scale: Scale = "auto",
        unit_length: bool = True,
        epochs: int = 300,
        batch_size: int = 150,
        lr: float = 2e-3,
        patience: int = 40,
        validation: float | None = 0.1,
        seed: int = 0,
    ):
        self.kind = kind
        self.hidden_sizes = hidden_sizes
        self.strength = strength
        self.activation = activation
        self.scale = scale
        self.unit_length = unit_length
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.patience = patience
        self.validation = validation
        self.seed = seed

    def fit(self, X: Any, y: Any = None) -> Self:
        """Pretrain on rows of shape (n, features), n at least 2; labels are ignored."""
        corruption = self._corruption()
        unit_length = checks.flag(self.unit_length, "unit_length")
        share = (
            0.0
            if self.validation is None
            else checks.number(self.validation, "validation", least=0, below=1)
        )
        rows = self._validated(X, is_fit=True)
        self.mean_ = means_and_spreads(rows)[0]
        self.scale_ = column_spreads(rows, self.scale)
        model = Autoencoder(
            rows.shape[1], self.hidden_sizes, self.activation, corruption, seed=self.seed
        )
        scaled = self._scaled(rows)
        self.pretrained_ = pretrain(
            model,
            scaled,
            validation=share if round(share * len(rows)) else None,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            patience=self.patience,
            seed=self.seed,
        )
        inner = self.pretrained_.encoder
        self.code_mean_ = inner.encode(scaled).mean(axis=0, dtype=np.float64)
        self.encoder_ = self._of_rows(inner, unit_length)
        self.encoder_ = replace(
            self.encoder_, rows_seen=row_fingerprints(self.encoder_.prepared(rows))
        )
        self.rows_seen_ = self.encoder_.rows_seen
        self._n_features_out = self.encoder_.output_size
        return self

    def transform(self, X: Any) -> Float32[np.ndarray, "n code"]:
        """Codes of rows, of shape (n, width of the representation)."""
        check_is_fitted(self)
        return self.encoder_.encode(self._validated(X))

    def encode(self, X: Any) -> Float32[np.ndarray, "n code"]:
        """The same as :meth:`transform`: a fitted transformer takes part in probing as it is."""
        return self.transform(X)

    def has_seen(self, X: Any) -> np.ndarray:
        """For each row, true if it was pretrained on an equal one: booleans of shape (n,)."""
        check_is_fitted(self)
        return self.encoder_.has_seen(self._validated(X))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags(preserves_dtype=["float32"])
        return tags

    def _corruption(self) -> Corruption:
        if not isinstance(self.kind, str) or self.kind not in CORRUPTIONS:
            raise InputError(
                "an autoencoder is 'vanilla', 'denoising' or 'masked'",
                got=f"kind = {checks.shown(self.kind)}",
                cure="denoising is the default",
            )
        make, strength = CORRUPTIONS[self.kind]
        return make(strength if self.strength is None else self.strength)

    def _validated(self, X: Any, *, is_fit: bool = False) -> Float[np.ndarray, "n features"]:
        """Rows as scikit-learn checks them; it asks for a ValueError or, for objects, a TypeError."""
        X = (
            checks.array(X, "X") if isinstance(X, np.ma.MaskedArray) else X
        )  # scikit-learn ignores masks
        try:
            if is_fit:
                return np.asarray(validate_data(self, X, dtype=np.float64, ensure_min_samples=2))
            return np.asarray(validate_data(self, X, dtype=np.float64, reset=False))
        except (
            Exception
        ) as error:  # objects of other libraries raise any kind while they are converted
            kind = RowsTypeError if isinstance(error, TypeError) else InputError
            raise kind(
                "X must be rows of finite numbers, of shape (samples, features)", got=str(error)
            ) from error

    def _of_rows(self, inner: Encoder, unit_length: bool) -> Encoder:
        """The encoder of rows as they are: its first layer scales them, and its last layer centres codes."""
        weights = {name: array.astype(np.float64) for name, array in inner.weights.items()}
        last_bias = list(weights)[-1]
        W = weights["0.weight"] / self.scale_
        weights["0.weight"] = W
        is_far = bool((np.abs(self.mean_) > FAR * self.scale_).any())
        if not is_far:
            weights["0.bias"] = weights["0.bias"] - W @ self.mean_
        weights[last_bias] = weights[last_bias] - self.code_mean_
        weights = {name: array.astype(np.float32) for name, array in weights.items()}
        if is_far:
            weights[OFFSET] = self.mean_
        names = getattr(self, "feature_names_in_", None)
        form = RowForm(None if names is None else tuple(names), "whole")
        return Encoder(
            replace(inner.architecture, unit_length=unit_length),
            weights,
            np.zeros(0, np.uint64),
            form,
        )

    def _scaled(self, rows: np.ndarray) -> Float32[np.ndarray, "n features"]:
        return ((rows - self.mean_) / self.scale_).astype(np.float32)
