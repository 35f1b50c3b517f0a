"""The encoders of both views, layer by layer against their formulas."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from leadline import data
from leadline.autoencoders import Encoder, LocalArchitecture, Nothing, corrupt_examples, pretrain
from leadline.representation import _views as views
from leadline.representation._views import KINDS, Patches, Whole, unscaled, view_of

GLYPHS = data.glyphs("abc", 80, 14, seed=0).X
ROWS = ((GLYPHS - GLYPHS.mean(0)) / GLYPHS.std()).astype(np.float32)


@pytest.fixture
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patches, "number", 600)
    monkeypatch.setattr(Patches, "width", 12)


def trained(view: Any, kind: str = "denoising", seed: int = 0) -> Any:
    settings = view.settings
    return pretrain(
        view.model(kind, seed),
        view.shown(seed),
        epochs=2,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        patience=settings.patience,
        seed=seed,
    )


@pytest.mark.usefixtures("few_patches")
def test_large_images_are_learned_in_patches_and_small_ones_as_whole_rows():
    assert isinstance(view_of(ROWS, (14, 14), 1), Patches)
    assert isinstance(view_of(ROWS, None, 1), Whole)
    assert isinstance(view_of(ROWS[:, :64], (8, 8), 1), Whole)


def test_the_encoder_of_whole_rows_ends_at_the_last_nonlinearity():
    view = Whole(ROWS, None, 1)
    pretrained = trained(view)
    codes = view.encoder(pretrained.weights).encode(ROWS)
    with torch.inference_mode():
        hidden = pretrained.model.encoder[:4](torch.from_numpy(ROWS)).numpy()
    assert hidden.min() == 0
    expected = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0).mean())
    np.testing.assert_allclose(codes, expected, atol=1e-4)


@pytest.mark.usefixtures("few_patches")
@pytest.mark.parametrize("channels", [1, 3])
def test_the_encoder_of_patches_applies_the_first_layer_at_every_place(channels: int):
    rows = np.concatenate([ROWS, -ROWS, ROWS], axis=1) if channels == 3 else ROWS
    view = Patches.of(rows, (14, 14), channels)
    pretrained = trained(view)
    frozen = view.encoder(pretrained.weights)
    p, q = 5, 5
    assert frozen.architecture == replace(view.architecture, components=len(rows) - 1)
    assert view.architecture.patch_size == (p, q)
    images = np.pad(rows[:6].reshape(6, channels, 14, 14), ((0, 0), (0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(images, (p, q), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, channels * p * q)
    with torch.inference_mode():
        shown = torch.from_numpy(((patches - view.mean) @ view.whitening).astype(np.float32))
        hidden = pretrained.model.encoder[:2](shown).numpy()
    answers = hidden.reshape(6, 14, 14, 12)
    # 14 places form 4 cells of 3.5 places; the place between two cells counts half in each.
    share = np.array(
        [
            [max(0, min(i + 1, 3.5 * c + 3.5) - max(i, 3.5 * c)) / 3.5 for i in range(14)]
            for c in range(4)
        ]
    )
    expected = np.einsum("ai,bj,nijk->nkab", share, share, answers).reshape(6, -1)
    averages = without_components(frozen).encode(rows)
    ratio = averages[:6][expected > 0.01] / expected[expected > 0.01]
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)
    np.testing.assert_allclose(averages.var(0).mean(), 1, rtol=1e-3)


def without_components(frozen: Encoder) -> Encoder:
    """Return the encoder without its last layer."""
    inner = {name: w for name, w in frozen.weights.items() if not name.startswith("projection.")}
    architecture = cast("LocalArchitecture", frozen.architecture)
    return Encoder(replace(architecture, components=None), inner, frozen.rows_seen)


@pytest.mark.usefixtures("few_patches")
def test_components_are_principal_components_with_the_large_ones_reduced():
    frozen = Patches.of(ROWS, (14, 14), 1).encoder(trained(Patches.of(ROWS, (14, 14), 1)).weights)
    codes = frozen.encode(ROWS).astype(float)
    covariance = np.cov(codes.T)
    variances = np.linalg.eigvalsh(
        np.cov(np.sqrt(without_components(frozen).encode(ROWS) + 1e-3).T)
    )[::-1][:79]
    lowered = variances / (variances + 0.01 * variances[0]) ** 0.7
    np.testing.assert_allclose(
        np.diag(covariance) / covariance[0, 0], lowered / lowered[0], rtol=0.02, atol=1e-3
    )
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.01 * covariance[0, 0]
    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(codes.var(0).mean(), 1, rtol=0.03)


@pytest.mark.usefixtures("few_patches")
@pytest.mark.parametrize("image_size", [(14, 14), None])
def test_rows_that_are_sorted_by_class_are_scaled_correctly(
    image_size, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(views, "SCALING_ROWS", 100)
    rows = np.concatenate([np.repeat(ROWS[:1], 120, axis=0), ROWS])
    view = view_of(rows, image_size, 1)
    codes = view.encoder(trained(view).weights).encode(rows)
    np.testing.assert_allclose(codes.var(0).mean(), 1, rtol=0.3)


@pytest.mark.usefixtures("few_patches")
def test_whitening_equalises_variances_and_is_undone():
    view = Patches.of(ROWS, (14, 14), 1)
    shown = view.shown(3)
    found = view.restored(corrupt_examples(shown, Nothing(), seed=0))
    assert (found.image_size, found.channels) == ((5, 5), 1)
    np.testing.assert_array_equal(found.shown, found.rows)
    restored = found.rows
    np.testing.assert_allclose((restored - view.mean) @ view.whitening, shown, atol=1e-3)
    np.testing.assert_allclose(shown.var(0).mean(), 1, rtol=0.1)
    variances = np.linalg.eigvalsh(np.cov(shown.T))
    raw = np.linalg.eigvalsh(np.cov(restored.T))
    assert variances[-1] / variances[0] < 0.1 * raw[-1] / raw[0]
    np.testing.assert_array_equal(view.shown(3), shown)
    assert not np.array_equal(view.shown(4), shown)


@pytest.mark.usefixtures("few_patches")
@pytest.mark.parametrize("view_name", ["whole", "patches"])
def test_the_encoder_accepts_rows_in_their_units(view_name: str):
    view = Whole(ROWS, None, 1) if view_name == "whole" else Patches.of(ROWS, (14, 14), 1)
    inner = view.encoder(trained(view).weights)
    centre = np.linspace(-3, 5, 196)
    scale = np.full(196, 7.0) if view_name == "patches" else np.linspace(0.5, 900, 196)
    frozen = unscaled(inner, centre, scale, np.arange(3, dtype=np.uint64))
    scaled_rows = (ROWS * scale + centre).astype(np.float32)
    np.testing.assert_allclose(frozen.encode(scaled_rows), inner.encode(ROWS), atol=2e-3)
    assert frozen.rows_seen.tolist() == [0, 1, 2]


@pytest.mark.usefixtures("few_patches")
def test_kinds_differ_in_corruption_only():
    for view in (Whole(ROWS, None, 1), Patches.of(ROWS, (14, 14), 1)):
        models = [view.model(kind, 5) for kind in KINDS]
        states = [model.state_dict() for model in models]
        assert all(
            torch.equal(states[0][name], state[name]) for state in states for name in states[0]
        )
        assert len({type(model.corruption) for model in models}) == 3


@pytest.mark.usefixtures("few_patches")
def test_blank_images_give_finite_codes():
    blank = np.zeros((30, 196), np.float32)
    view = Patches.of(blank, (14, 14), 1)
    assert np.isfinite(view.encoder(trained(view).weights).encode(blank)).all()
