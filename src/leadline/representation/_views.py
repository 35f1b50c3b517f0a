"""What an autoencoder is shown of a row, and what its encoder becomes: whole rows, or the patches of images.

Rows are scaled here: centred, and divided by their spread. :func:`unscaled` gives the encoder of the rows as the user
has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

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
    pair,
)
from leadline.data import row_fingerprints
from leadline.randomness import numpy_generator
from leadline.representation._material import LEAST_SIDE, Size

KINDS = ("vanilla", "denoising", "masked")
"""The kinds of autoencoder, which differ in what their encoder is shown while it learns."""

SCALING_ROWS = 1000
"""Rows by which codes are brought to unit spread, and of which principal components are taken."""

Weights = Mapping[str, np.ndarray]
"""Parameters of an autoencoder, by their names in the model."""


class View(Protocol):
    """What autoencoders are shown, and what becomes of them."""

    name: ClassVar[str]

    @property
    def settings(self) -> dict[str, Any]:
        """Of the training, as :func:`~leadline.autoencoders.pretrain_many` takes them."""
        ...

    @property
    def described(self) -> dict[str, Any]:
        """Sizes, for the protocol."""
        ...

    def model(self, kind: str, seed: int) -> Autoencoder:
        """An autoencoder to train."""
        ...

    def shown(
        self, seed: int, rows: np.ndarray | None = None
    ) -> Float[np.ndarray, "rows features"]:
        """What it is trained on; or what becomes of other rows."""
        ...

    def encoder(self, weights: Weights) -> Encoder:
        """The encoder of scaled rows in an autoencoder's weights; its codes have unit spread over pretraining rows."""
        ...

    def restored(self, found: Examples) -> Examples:
        """Examples of what is shown in the units of scaled rows, and as images where they are some."""
        ...


@dataclass(frozen=True, eq=False)
class Whole:
    """Dense autoencoders of whole rows, of two wide layers and a narrower code.

    The encoder is cut where its last nonlinearity stands: with few labels the units there serve as well as the code
    that they are squeezed into, and better with more.
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
    def settings(self) -> dict[str, Any]:
        """As many steps whatever the number of rows, within limits; smaller ones for wider networks."""
        epochs = int(np.clip(180_000 / len(self.rows), 10, 200))
        return {
            "epochs": epochs,
            "batch_size": 150,
            "learning_rate": min(5e-3, 0.48 / self.hidden_sizes[0]),
            "patience": 40,
        }

    @property
    def described(self) -> dict[str, Any]:
        """Sizes, for the protocol."""
        return {"view": self.name, "hidden_sizes": self.hidden_sizes, "strengths": self.strengths}

    def model(self, kind: str, seed: int) -> Autoencoder:
        """A dense autoencoder of whole rows."""
        corruption = _corruption(kind, self.strengths[kind])
        return Autoencoder(self.rows.shape[1], self.hidden_sizes, corruption=corruption, seed=seed)

    def shown(self, seed: int, rows: np.ndarray | None = None) -> np.ndarray:
        """The rows: the same for all seeds."""
        return self.rows if rows is None else rows

    def encoder(self, weights: Weights) -> Encoder:
        """The layers up to the last nonlinearity, and one that brings each unit's answer to unit spread on average."""
        inner = {
            name: weights[f"encoder.{name}"]
            for name in ("0.weight", "0.bias", "2.weight", "2.bias")
        }
        d, (_, width, _) = self.rows.shape[1], self.hidden_sizes
        same = {"4.weight": np.eye(width, dtype=np.float32), "4.bias": np.zeros(width, np.float32)}
        architecture = DenseArchitecture(
            d, (*self.hidden_sizes[:2], width), image_size=self.image_size, channels=self.channels
        )
        encoder = Encoder(architecture, {**inner, **same}, row_fingerprints(self.rows))
        codes = encoder.encode(_drawn_rows(self.rows))
        centre, scale = codes.mean(axis=0), _level(codes)
        levelled = {"4.weight": same["4.weight"] / scale, "4.bias": -centre / scale}
        return replace(encoder, weights={**inner, **levelled})

    def restored(self, found: Examples) -> Examples:
        """The rows themselves."""
        return replace(found, image_size=self.image_size, channels=self.channels)


@dataclass(frozen=True, eq=False)
class Patches:
    """Autoencoders of patches, whose encoder is then laid over every place of an image.

    What is said at all places is averaged in 4 x 4 cells. Patches are whitened: neighbouring pixels repeat one another,
    and an autoencoder spends itself on what they have in common unless that is taken out. Directions of little
    variance, which are noise, are raised less. So it is with codes: of the roots of the averages the principal
    components are taken, and the large ones lowered, which tell what all images share. A probe on few labels would
    otherwise see little else.

    Reference: Coates, Lee & Ng, *An analysis of single-layer networks in unsupervised feature learning*, 2011.
    """

    name: ClassVar[str] = "patches"
    strengths: ClassVar[dict[str, float]] = {"vanilla": 0.0, "denoising": 1.5, "masked": 0.5}
    width: ClassVar[int] = 128
    code: ClassVar[int] = 32
    number: ClassVar[int] = 40_000
    """Patches that an autoencoder learns from."""
    share: ClassVar[float] = 0.36
    """Side of a patch by that of the image."""
    largest: ClassVar[int] = 12
    """Side of the largest patch in pixels."""
    places: ClassVar[int] = 14
    """Patches side by side, about."""
    components: ClassVar[int] = 256
    """Numbers in a code, at most."""
    lowering: ClassVar[float] = 0.35
    """The power of its variance that a component is divided by; 1/2 would make all alike."""
    floor: ClassVar[float] = 0.05
    """What is added to variances before whitening, as a share of the largest."""

    rows: Float[np.ndarray, "n d"]
    image_size: Size
    channels: int
    mean: np.ndarray
    """Of patches."""
    whitening: np.ndarray
    """From patches to what is shown: symmetric."""
    restoring: np.ndarray
    """Its inverse."""

    @classmethod
    def of(cls, rows: np.ndarray, image_size: Size, channels: int) -> Self:
        """With the whitening that follows from the rows."""
        none = np.zeros(0)
        view = cls(rows, image_size, channels, none, none, none)
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
            *(a.astype(np.float32) for a in (mean, whitening, restoring)),
        )

    @property
    def architecture(self) -> LocalArchitecture:
        """Of the encoder: patches of about a third of the image's side, at about 14 places along it."""
        sides = tuple(
            int(np.clip(round(self.share * side), 3, self.largest)) for side in self.image_size
        )
        stride = max(1, round(min(self.image_size) / self.places))
        return LocalArchitecture(
            self.image_size, (sides[0], sides[1]), self.channels, self.width, stride
        )

    @property
    def settings(self) -> dict[str, Any]:
        """A few passes over many patches."""
        return {"epochs": 10, "batch_size": 256, "learning_rate": 2e-3, "patience": 10}

    @property
    def described(self) -> dict[str, Any]:
        """Sizes, for the protocol."""
        a = self.architecture
        sizes = {"patch_size": a.patch_size, "width": a.width, "stride": a.stride, "cells": a.cells}
        return {"view": self.name, **sizes, "patches": self.number, "strengths": self.strengths}

    def model(self, kind: str, seed: int) -> Autoencoder:
        """A dense autoencoder of patches."""
        corruption = _corruption(kind, self.strengths[kind])
        return Autoencoder(
            len(self.mean), (self.width, self.code), corruption=corruption, seed=seed
        )

    def shown(self, seed: int, rows: np.ndarray | None = None) -> np.ndarray:
        """Whitened patches from random places of random images."""
        return (self._drawn(seed, self.rows if rows is None else rows) - self.mean) @ self.whitening

    def encoder(self, weights: Weights) -> Encoder:
        """The first layer at every place of an image, whitening absorbed, and components of what it says."""
        W, b = (weights[f"encoder.0.{name}"] for name in ("weight", "bias"))
        W = W @ self.whitening
        b = b - W @ self.mean
        p, q = pair(self.architecture.patch_size, "patch_size")
        patch = {"weight": W.reshape(self.width, self.channels, p, q), "bias": b}
        patch["centre"] = np.zeros(self.rows.shape[1], np.float32)
        averages = Encoder(self.architecture, patch, row_fingerprints(self.rows)).encode(
            _drawn_rows(self.rows)
        )
        scale = _level(averages)
        last = self._components(np.sqrt(averages / scale + FLOOR))
        patch |= {"weight": patch["weight"] / scale, "bias": b / scale}
        architecture = replace(self.architecture, components=len(last["projection.bias"]))
        return Encoder(architecture, {**patch, **last}, row_fingerprints(self.rows))

    def _components(self, roots: Float[np.ndarray, "rows averages"]) -> dict[str, np.ndarray]:
        """The last layer: principal components, large ones lowered, of unit spread on average."""
        most = min(self.components, len(roots) - 1, roots.shape[1])
        found = PCA(most, svd_solver="full").fit(roots)
        variances = found.explained_variance_
        lowered = (variances + 0.01 * max(variances[0], 1e-12)) ** -self.lowering
        level = np.sqrt(np.mean(variances * lowered**2)) or 1.0
        P = found.components_ * (lowered / level)[:, None]
        return {
            "projection.weight": P.astype(np.float32),
            "projection.bias": (-P @ found.mean_).astype(np.float32),
        }

    def restored(self, found: Examples) -> Examples:
        """Patches, no longer whitened."""
        stages = (found.rows, found.shown, found.reconstructed)
        rows, shown, reconstructed = (stage @ self.restoring + self.mean for stage in stages)
        size = pair(self.architecture.patch_size, "patch_size")
        return replace(
            found,
            rows=rows,
            shown=shown,
            reconstructed=reconstructed,
            image_size=size,
            channels=self.channels,
        )

    def _drawn(self, seed: int, rows: np.ndarray) -> np.ndarray:
        """Patches from anywhere, the blank ones left out, where there are others."""
        rng = numpy_generator(seed, "representation.patches")
        a = self.architecture
        (p, q), (top, left) = pair(a.patch_size, "patch_size"), a.margins
        chosen = rng.permutation(len(rows))[: self.number // 2]
        images = rows[chosen].reshape(-1, self.channels, *self.image_size)
        images = np.pad(images, ((0, 0), (0, 0), (top, top), (left, left)))
        windows = np.lib.stride_tricks.sliding_window_view(images, (p, q), axis=(2, 3))
        place = [
            rng.integers(size, size=2 * self.number) for size in (len(images), *windows.shape[2:4])
        ]
        patches = windows[place[0], :, place[1], place[2]].reshape(2 * self.number, -1)
        spread = patches.std(axis=1)
        telling = patches[spread > 0.05 * patches.std()][: self.number]
        return telling if len(telling) >= self.number // 10 else patches[: self.number]


def view_of(rows: np.ndarray, image_size: Size | None, channels: int) -> View:
    """Patches of images, unless they are smaller than 12 pixels; else whole rows."""
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
    """The encoder of ``x`` from that of ``(x - centre) / scale``.

    Args:
        encoder: of scaled rows.
        centre: shape (d,).
        scale: shape (d,); for a local encoder all the same.
        rows_seen: fingerprints of the rows in their own units; if ``exact``, of the rows minus ``centre``.
        exact: the encoder subtracts ``centre`` from rows in float64; otherwise its first layer takes the centre up.
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
    makers: Mapping[str, Any] = {
        "vanilla": lambda _: Nothing(),
        "denoising": GaussianNoise,
        "masked": PixelMask,
    }
    return makers[kind](strength)


def _drawn_rows(rows: np.ndarray) -> np.ndarray:
    """:data:`SCALING_ROWS` from anywhere: rows of a file are often sorted by class."""
    return rows[numpy_generator(0, "representation.scaling").permutation(len(rows))[:SCALING_ROWS]]


def _level(codes: Float[np.ndarray, "rows d"]) -> np.float32:
    """The root of the mean variance of the numbers in a code; 1 where nothing varies."""
    scale = np.sqrt(codes.var(axis=0, dtype=np.float64).mean())
    return np.float32(scale if scale > 0 else 1.0)
