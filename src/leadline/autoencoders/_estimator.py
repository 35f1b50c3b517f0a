"""Pretraining as a scikit-learn transformer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self, cast

import numpy as np
from jaxtyping import Float, Float32
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, TransformerTags
from sklearn.utils.validation import check_is_fitted, validate_data

from leadline import checks
from leadline.autoencoders._column_scale import column_spreads
from leadline.autoencoders._corruption import Corruption, GaussianNoise, Nothing, PixelMask
from leadline.autoencoders._encoder import Encoder
from leadline.autoencoders._encoder_weights import OFFSET
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders.models._dense import Autoencoder, DenseArchitecture
from leadline.autoencoders.training._pretrain import pretrain
from leadline.data import means_and_spreads, row_fingerprints
from leadline.errors import InputError

CORRUPTIONS = {
    "vanilla": (lambda strength: Nothing(), 0.0),
    "denoising": (GaussianNoise, 1.7),
    "masked": (PixelMask, 0.5),
}
"""The corruption of each kind and its default strength: a standard deviation or a hidden share."""

FAR = 30.0
"""Columns whose mean exceeds this many spreads, such as timestamps, are centred in float64, because
float32 would round their variation away."""


Kind = Literal["vanilla", "denoising", "masked"]
Scale = Literal["auto", "common", "column"]


class RowsTypeError(InputError, TypeError):
    """Rows that cannot be converted to numbers; scikit-learn expects a ``TypeError`` here."""


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A dense autoencoder as a scikit-learn transformer: ``fit`` pretrains, ``transform`` encodes.

    Rows may have any scale. Columns are centred and divided by their standard deviations. Columns
    that share a unit, such as the pixels of an image, are all divided by one number, so that a
    nearly constant pixel stays unimportant.

    Codes are centred and have length one. An autoencoder that removes strong noise draws uncertain
    rows towards the mean: the direction of a code describes the row, and the length only the
    certainty, which would mislead a probe on few labels.

    Args:
        kind: ``"denoising"``, ``"masked"`` or ``"vanilla"``.
        hidden_sizes: Widths of the encoder's layers, the representation last; each at least 1.
        strength: Strength of the corruption: the standard deviation of the noise in units of the
            scaled columns (by default 1.7), or the share of hidden entries (by default 0.5).
        activation: ``"relu"``, ``"tanh"``, ``"sigmoid"`` or ``"linear"``.
        scale: ``"column"`` divides each column by its own standard deviation; ``"common"`` divides
            all by one number; ``"auto"`` uses one number if the largest standard deviation is at
            most three times the median.
        unit_length: True to divide codes by their lengths. A code of one number keeps only its
            sign.
        epochs: Maximum number of passes over the rows, at least 1.
        batch_size: Rows per step, at least 1.
        learning_rate: Highest learning rate of Adam, > 0.
        patience: Epochs without improvement after which training stops, at least 1.
        validation: Share of the rows for early stopping, in [0, 1). ``None``, or a share of less
            than one row, trains without early stopping.
        seed: Seed of all random numbers.

    Attributes:
        mean_: Means of the columns.
        scale_: Divisors of the columns.
        pretrained_: The sounding of the training, on scaled rows.
        encoder_: An :class:`Encoder` that takes unscaled rows and returns the codes of
            :meth:`transform`. It can be saved and exported.
        code_mean_: The mean code, which is subtracted.
        n_features_in_: Number of columns.

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
        learning_rate: float = 2e-3,
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
        self.learning_rate = learning_rate
        self.patience = patience
        self.validation = validation
        self.seed = seed

    def fit(self, X: Any, y: Any = None) -> Self:
        """Pretrain on rows.

        Args:
            X: Rows of shape (n, features), n at least 2.
            y: Ignored.

        Raises:
            InputError: A parameter is out of range, or the rows are not finite.
        """
        corruption = self._corruption()
        unit_length = checks.flag(self.unit_length, "unit_length")
        share = 0.0
        if self.validation is not None:
            share = checks.number(self.validation, "validation", least=0, below=1)
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
            learning_rate=self.learning_rate,
            patience=self.patience,
            seed=self.seed,
        )
        scaled_encoder = self.pretrained_.encoder
        self.code_mean_ = scaled_encoder.encode(scaled).mean(axis=0, dtype=np.float64)
        encoder = self._unscaled(scaled_encoder, unit_length)
        self.encoder_ = replace(encoder, rows_seen=row_fingerprints(encoder.prepared(rows)))
        self.rows_seen_ = self.encoder_.rows_seen
        self._n_features_out = self.encoder_.output_size
        return self

    def transform(self, X: Any) -> Float32[np.ndarray, "n code"]:
        """Return the codes of rows, shape (n, width of the representation).

        Args:
            X: Rows of shape (n, features).
        """
        check_is_fitted(self)
        return self.encoder_.encode(self._validated(X))

    def encode(self, X: Any) -> Float32[np.ndarray, "n code"]:
        """Return the codes of rows, as :meth:`transform` does; probes call this method.

        Args:
            X: Rows of shape (n, features).
        """
        return self.transform(X)

    def has_seen(self, X: Any) -> np.ndarray:
        """Return booleans of shape (n,): true for rows that pretraining used.

        Args:
            X: Rows of shape (n, features).
        """
        check_is_fitted(self)
        return self.encoder_.has_seen(self._validated(X))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags(preserves_dtype=["float32"])
        return tags

    def _corruption(self) -> Corruption:
        if not isinstance(self.kind, str) or self.kind not in CORRUPTIONS:
            raise InputError(
                "kind must be 'vanilla', 'denoising' or 'masked'",
                got=f"kind = {checks.shown(self.kind)}",
                cure="denoising is the default",
            )
        make, strength = CORRUPTIONS[self.kind]
        return make(strength if self.strength is None else self.strength)

    def _validated(self, X: Any, *, is_fit: bool = False) -> Float[np.ndarray, "n features"]:
        """Return rows that scikit-learn has checked.

        Raises:
            InputError: The rows are not finite numbers.
            RowsTypeError: The rows are objects; scikit-learn expects a ``TypeError``.
        """
        if isinstance(X, np.ma.MaskedArray):
            # scikit-learn ignores masks.
            X = checks.array(X, "X")
        try:
            if is_fit:
                return np.asarray(validate_data(self, X, dtype=np.float64, ensure_min_samples=2))
            return np.asarray(validate_data(self, X, dtype=np.float64, reset=False))
        except Exception as error:  # objects of other libraries may raise any type
            kind = RowsTypeError if isinstance(error, TypeError) else InputError
            raise kind(
                "X must be finite numbers of shape (samples, features)", got=str(error)
            ) from error

    def _unscaled(self, encoder: Encoder, unit_length: bool) -> Encoder:
        """Return an encoder of unscaled rows: its first layer scales, its last centres codes."""
        weights = {name: array.astype(np.float64) for name, array in encoder.weights.items()}
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
        sizes = cast(DenseArchitecture, encoder.architecture)
        architecture = replace(sizes, unit_length=unit_length)
        return Encoder(architecture, weights, np.zeros(0, np.uint64), form)

    def _scaled(self, rows: np.ndarray) -> Float32[np.ndarray, "n features"]:
        """Return centred and scaled rows."""
        return ((rows - self.mean_) / self.scale_).astype(np.float32)
