"""Views of rows: autoencoders learn from whole rows, or from patches of images.

All rows in this module are scaled: centred, and divided by their spread. :func:`unscaled` returns
the encoder of rows in the user's units.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA

from leadline.autoencoders import (
    FLOOR,
    OFFSET,
    Autoencoder,
    Corruption,
    DenseArchitecture,
    Encoder,
    Examples,
    GaussianNoise,
    LocalArchitecture,
    Nothing,
    PixelMask,
    PretrainingSettings,
    pair,
)
from leadline.data import row_fingerprints
from leadline.randomness import numpy_generator
from leadline.representation._given_rows import Size
from leadline.representation._image_size import LEAST_SIDE

KINDS = ("vanilla", "denoising", "masked")
"""The kinds of autoencoders, which differ in the corruption of their input."""

SCALING_ROWS = 1000
"""Number of rows that determine the spread and the principal components of codes."""

Weights = Mapping[str, np.ndarray]
"""Parameters of an autoencoder, by their names in the model."""


class View(ABC):
    """The input of autoencoders, and the encoder that follows from a trained autoencoder."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def settings(self) -> PretrainingSettings:
        """Training settings of every autoencoder; each has its own seed instead of theirs."""

    @property
    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Sizes, for the protocol."""

    @abstractmethod
    def model(self, kind: str, seed: int) -> Autoencoder:
        """Return an autoencoder to train."""

    @abstractmethod
    def shown(
        self, seed: int, rows: np.ndarray | None = None
    ) -> Float[np.ndarray, "rows features"]:
        """Return the clean input of the autoencoders, by default from the pretraining rows."""

    @abstractmethod
    def encoder(self, weights: Weights) -> Encoder:
        """Return the encoder of scaled rows from an autoencoder's weights.

        Its codes have unit spread over the pretraining rows.
        """

    @abstractmethod
    def restored(self, shown: Examples) -> Examples:
        """Return examples of the input in units of scaled rows, as images if they are images."""


@dataclass(frozen=True, eq=False)
class Whole(View):
    """Dense autoencoders of whole rows, with two wide layers and a narrower code.

    The encoder ends at its last nonlinearity. With few labels the units there serve as well as the
    narrower code behind them, and with more labels they serve better.
    """

    name: ClassVar[str] = "whole rows"
    strengths: ClassVar[dict[str, float]] = {"vanilla": 0.0, "denoising": 1.3, "masked": 0.5}

    rows: Float[np.ndarray, "n d"]
    image_size: Size | None
    channels: int

    @property
    def hidden_sizes(self) -> tuple[int, int, int]:
        """Widths of the encoder's layers."""
        d = self.rows.shape[1]
        width = int(np.clip(1.5 * d, 32, 256))
        return width, width, int(np.clip(d, 8, 64))

    @property
    def settings(self) -> PretrainingSettings:
        """Training settings.

        The number of steps is about the same for any number of rows, within limits. Wider networks
        have a smaller learning rate.
        """
        epochs = int(np.clip(180_000 / len(self.rows), 10, 200))
        learning_rate = min(5e-3, 0.48 / self.hidden_sizes[0])
        return PretrainingSettings(learning_rate, epochs=epochs, batch_size=150, patience=40)

    @property
    def described(self) -> dict[str, Any]:
        """Sizes, for the protocol."""
        return {"view": self.name, "hidden_sizes": self.hidden_sizes, "strengths": self.strengths}

    def model(self, kind: str, seed: int) -> Autoencoder:
        """Return a dense autoencoder of whole rows."""
        corruption = _corruption(kind, self.strengths[kind])
        return Autoencoder(self.rows.shape[1], self.hidden_sizes, corruption=corruption, seed=seed)

    def shown(self, seed: int, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the rows, which are the same for all seeds."""
        return self.rows if rows is None else rows

    def encoder(self, weights: Weights) -> Encoder:
        """Return the layers up to the last nonlinearity, and a layer that scales their units.

        The scaling layer gives the units a mean variance of 1.
        """
        names = ("0.weight", "0.bias", "2.weight", "2.bias")
        inner = {name: weights[f"encoder.{name}"] for name in names}
        width = self.hidden_sizes[1]
        identity = np.eye(width, dtype=np.float32)
        unscaled_layer = {"4.weight": identity, "4.bias": np.zeros(width, np.float32)}
        architecture = DenseArchitecture(
            self.rows.shape[1],
            (*self.hidden_sizes[:2], width),
            image_size=self.image_size,
            channels=self.channels,
        )
        encoder = Encoder(architecture, {**inner, **unscaled_layer}, row_fingerprints(self.rows))
        codes = encoder.encode(_drawn_rows(self.rows))
        scale = _common_spread(codes)
        scaling_layer = {"4.weight": identity / scale, "4.bias": -codes.mean(axis=0) / scale}
        return replace(encoder, weights={**inner, **scaling_layer})

    def restored(self, shown: Examples) -> Examples:
        """Return the rows themselves, with the size of images."""
        return replace(shown, image_size=self.image_size, channels=self.channels)


@dataclass(frozen=True, eq=False)
class Patches(View):
    """Autoencoders of patches, whose encoder is applied at every place of an image.

    The outputs at all places are averaged in 4 x 4 cells. Patches are whitened, because an
    autoencoder otherwise spends its capacity on the similarity of neighbouring pixels; directions
    of little variance, which are noise, are amplified less. The codes are treated in the same way:
    they are the principal components of the square roots of the averages, with the large components
    reduced. Large components describe what all images share, and a probe with few labels would
    otherwise see little else.

    Reference: Coates, Lee & Ng, *An analysis of single-layer networks in unsupervised feature
    learning*, 2011.
    """

    name: ClassVar[str] = "patches"
    strengths: ClassVar[dict[str, float]] = {"vanilla": 0.0, "denoising": 1.5, "masked": 0.5}
    width: ClassVar[int] = 128
    code: ClassVar[int] = 32
    number: ClassVar[int] = 40_000
    """Number of patches that an autoencoder learns from."""
    share: ClassVar[float] = 0.36
    """Side of a patch as a share of the image's side."""
    largest: ClassVar[int] = 12
    """Side of the largest patch, in pixels."""
    places: ClassVar[int] = 14
    """Approximate number of places along the shorter side of an image."""
    components: ClassVar[int] = 256
    """Largest number of features in a code."""
    lowering: ClassVar[float] = 0.35
    """Exponent of the variance that divides a component; 1/2 would equalise all components."""
    floor: ClassVar[float] = 0.05
    """Number that is added to variances before whitening, as a share of the largest variance."""

    rows: Float[np.ndarray, "n d"]
    image_size: Size
    channels: int
    mean: np.ndarray
    """Mean of the patches."""
    whitening: np.ndarray
    """Symmetric matrix that whitens centred patches."""
    restoring: np.ndarray
    """Inverse of the whitening matrix."""

    @classmethod
    def of(cls, rows: np.ndarray, image_size: Size, channels: int) -> Self:
        """Return the view of rows, with the whitening of their patches."""
        empty = np.zeros(0)
        view = cls(rows, image_size, channels, empty, empty, empty)
        patches = view._drawn(0, rows).astype(np.float64)
        mean = patches.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov((patches - mean).T))
        spreads = np.sqrt(np.maximum(variances, 0) + cls.floor * max(variances[-1], 1e-12))
        level = 1 / np.sqrt(np.mean(np.maximum(variances, 0) / spreads**2) or 1.0)
        whitening = (axes * (level / spreads)) @ axes.T
        restoring = (axes * (spreads / level)) @ axes.T
        return cls(
            rows,
            image_size,
            channels,
            mean.astype(np.float32),
            whitening.astype(np.float32),
            restoring.astype(np.float32),
        )

    @property
    def architecture(self) -> LocalArchitecture:
        """Architecture of the encoder.

        Patches have about a third of the image's side, and lie at about 14 places along it.
        """
        sides = tuple(
            int(np.clip(round(self.share * side), 3, self.largest)) for side in self.image_size
        )
        stride = max(1, round(min(self.image_size) / self.places))
        return LocalArchitecture(
            self.image_size, (sides[0], sides[1]), self.channels, self.width, stride
        )

    @property
    def settings(self) -> PretrainingSettings:
        """Training settings: a few passes over many patches."""
        return PretrainingSettings(2e-3, epochs=10, batch_size=256, patience=10)

    @property
    def described(self) -> dict[str, Any]:
        """Sizes, for the protocol."""
        architecture = self.architecture
        return {
            "view": self.name,
            "patch_size": architecture.patch_size,
            "width": architecture.width,
            "stride": architecture.stride,
            "cells": architecture.cells,
            "patches": self.number,
            "strengths": self.strengths,
        }

    def model(self, kind: str, seed: int) -> Autoencoder:
        """Return a dense autoencoder of patches."""
        corruption = _corruption(kind, self.strengths[kind])
        return Autoencoder(
            len(self.mean), (self.width, self.code), corruption=corruption, seed=seed
        )

    def shown(self, seed: int, rows: np.ndarray | None = None) -> np.ndarray:
        """Return whitened patches from random places of random images."""
        patches = self._drawn(seed, self.rows if rows is None else rows)
        return (patches - self.mean) @ self.whitening

    def encoder(self, weights: Weights) -> Encoder:
        """Return the first layer, applied at every place, and components of its averages.

        The first layer includes the whitening of patches.
        """
        W = weights["encoder.0.weight"] @ self.whitening
        b = weights["encoder.0.bias"] - W @ self.mean
        p, q = pair(self.architecture.patch_size, "patch_size")
        fingerprints = row_fingerprints(self.rows)
        layer = {
            "weight": W.reshape(self.width, self.channels, p, q),
            "bias": b,
            "centre": np.zeros(self.rows.shape[1], np.float32),
        }
        inner = Encoder(self.architecture, layer, fingerprints)
        averages = inner.encode(_drawn_rows(self.rows))
        scale = _common_spread(averages)
        projection = self._projection(np.sqrt(averages / scale + FLOOR))
        layer |= {"weight": layer["weight"] / scale, "bias": b / scale}
        architecture = replace(self.architecture, components=len(projection["projection.bias"]))
        return Encoder(architecture, {**layer, **projection}, fingerprints)

    def _projection(self, roots: Float[np.ndarray, "rows averages"]) -> dict[str, np.ndarray]:
        """Return the last layer: principal components, with the large ones reduced.

        The mean variance of its outputs is 1.
        """
        num_components = min(self.components, len(roots) - 1, roots.shape[1])
        pca = PCA(num_components, svd_solver="full").fit(roots)
        variances = pca.explained_variance_
        factors = (variances + 0.01 * max(variances[0], 1e-12)) ** -self.lowering
        spread = np.sqrt(np.mean(variances * factors**2)) or 1.0
        P = pca.components_ * (factors / spread)[:, None]
        return {
            "projection.weight": P.astype(np.float32),
            "projection.bias": (-P @ pca.mean_).astype(np.float32),
        }

    def restored(self, shown: Examples) -> Examples:
        """Return patches without whitening."""
        return replace(
            shown,
            rows=shown.rows @ self.restoring + self.mean,
            shown=shown.shown @ self.restoring + self.mean,
            reconstructed=shown.reconstructed @ self.restoring + self.mean,
            image_size=pair(self.architecture.patch_size, "patch_size"),
            channels=self.channels,
        )

    def _drawn(self, seed: int, rows: np.ndarray) -> np.ndarray:
        """Return patches from random places, without blank patches if there are enough others."""
        rng = numpy_generator(seed, "representation.patches")
        p, q = pair(self.architecture.patch_size, "patch_size")
        top, left = self.architecture.margins
        chosen = rng.permutation(len(rows))[: self.number // 2]
        images = rows[chosen].reshape(-1, self.channels, *self.image_size)
        images = np.pad(images, ((0, 0), (0, 0), (top, top), (left, left)))
        windows = np.lib.stride_tricks.sliding_window_view(images, (p, q), axis=(2, 3))
        num_candidates = 2 * self.number
        image = rng.integers(len(images), size=num_candidates)
        row = rng.integers(windows.shape[2], size=num_candidates)
        column = rng.integers(windows.shape[3], size=num_candidates)
        patches = windows[image, :, row, column].reshape(num_candidates, -1)
        is_blank = patches.std(axis=1) <= 0.05 * patches.std()
        varied = patches[~is_blank][: self.number]
        return varied if len(varied) >= self.number // 10 else patches[: self.number]


def view_of(rows: np.ndarray, image_size: Size | None, channels: int) -> View:
    """Return the view of rows: patches of images of at least 12 pixels, otherwise whole rows."""
    if image_size is not None and min(image_size) >= LEAST_SIDE:
        return Patches.of(rows, image_size, channels)
    return Whole(rows, image_size, channels)


def unscaled(
    encoder: Encoder,
    centre: np.ndarray,
    scale: np.ndarray,
    rows_seen: np.ndarray,
    *,
    exact: bool = False,
) -> Encoder:
    """Return the encoder of rows x from the encoder of ``(x - centre) / scale``.

    Args:
        encoder: encoder of scaled rows.
        centre: mean of each column, shape (d,).
        scale: spread of each column, shape (d,); a local encoder needs equal spreads.
        rows_seen: fingerprints of the rows in their units; if ``exact``, of the rows minus
            ``centre``.
        exact: the encoder subtracts ``centre`` from rows in float64; otherwise its first layer
            absorbs the centre.
    """
    weights: dict[str, np.ndarray] = dict(encoder.weights)
    inner = np.zeros_like(centre) if exact else centre
    if isinstance(encoder.architecture, LocalArchitecture):
        weights["centre"] = (weights["centre"] * scale + inner).astype(np.float32)
        weights["weight"] = (weights["weight"] / scale[0]).astype(np.float32)
    else:
        W = weights["0.weight"].astype(np.float64) / scale
        weights["0.bias"] = (weights["0.bias"] - W @ inner).astype(np.float32)
        weights["0.weight"] = W.astype(np.float32)
    if exact:
        weights[OFFSET] = centre
    return Encoder(encoder.architecture, weights, rows_seen)


def _corruption(kind: str, strength: float) -> Corruption:
    """Return the corruption that defines a kind of autoencoder."""
    corruptions: Mapping[str, Callable[[float], Corruption]] = {
        "vanilla": lambda _: Nothing(),
        "denoising": GaussianNoise,
        "masked": PixelMask,
    }
    return corruptions[kind](strength)


def _drawn_rows(rows: np.ndarray) -> np.ndarray:
    """Return :data:`SCALING_ROWS` random rows, because rows of a file are often sorted by class."""
    rng = numpy_generator(0, "representation.scaling")
    return rows[rng.permutation(len(rows))[:SCALING_ROWS]]


def _common_spread(codes: Float[np.ndarray, "rows d"]) -> np.float32:
    """Return the square root of the mean variance of the features; 1 if no feature varies."""
    scale = np.sqrt(codes.var(axis=0, dtype=np.float64).mean())
    return np.float32(scale if scale > 0 else 1.0)
