"""The local encoder agrees with plain loops over its formula."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from leadline.autoencoders import Encoder, LocalArchitecture
from leadline.errors import InputError
from leadline.probing import fine_tune

SHAPE = LocalArchitecture((7, 9), (4, 3), channels=3, width=5, stride=2, cells=3)
WITH_COMPONENTS = replace(SHAPE, components=7)
BOTH = pytest.mark.parametrize("architecture", [SHAPE, WITH_COMPONENTS])


def encoder(architecture: LocalArchitecture = SHAPE) -> Encoder:
    module = architecture.encoder(torch.Generator().manual_seed(1))
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    rng = np.random.default_rng(2)
    weights["centre"] = rng.normal(size=weights["centre"].shape).astype(np.float32)
    return Encoder(architecture, weights, np.zeros(0, np.uint64))


def by_loops(frozen: Encoder, row: np.ndarray) -> np.ndarray:
    a = SHAPE
    (height, width), (p, q), (top, left) = (7, 9), (4, 3), (2, 1)
    image = np.zeros((3, height + 2 * top, width + 2 * left))
    image[:, top : top + height, left : left + width] = (row - frozen.weights["centre"]).reshape(
        3, height, width
    )
    down, along = range(0, image.shape[1] - p + 1, 2), range(0, image.shape[2] - q + 1, 2)
    W, b = frozen.weights["weight"].astype(float), frozen.weights["bias"].astype(float)
    answers = np.array(
        [
            [np.maximum((W * image[:, i : i + p, j : j + q]).sum((1, 2, 3)) + b, 0) for j in along]
            for i in down
        ]
    )
    code = np.zeros((a.width, a.cells, a.cells))  # the averages
    for r in range(a.cells):
        for c in range(a.cells):
            for i in range(len(down)):
                for j in range(len(along)):
                    share = overlap(i, r, len(down)) * overlap(j, c, len(along))
                    code[:, r, c] += share * answers[i, j]
    if frozen.architecture == SHAPE:
        return code.ravel()
    return (
        frozen.weights["projection.weight"] @ np.sqrt(code.ravel() + 0.001)
        + frozen.weights["projection.bias"]
    )


def overlap(place: int, cell: int, places: int) -> float:
    """Return the share of a cell that a place covers."""
    begin, end = cell * places / SHAPE.cells, (cell + 1) * places / SHAPE.cells
    return max(0.0, min(place + 1, end) - max(place, begin)) / (end - begin)


@BOTH
def test_codes_match_plain_loops(architecture: LocalArchitecture):
    frozen, rows = (
        encoder(architecture),
        np.random.default_rng(0).random((3, 3 * 7 * 9)).astype(np.float32),
    )
    codes = frozen.encode(rows)
    assert codes.shape == (3, architecture.output_size) == (3, 45 if architecture == SHAPE else 7)
    np.testing.assert_allclose(codes, [by_loops(frozen, row) for row in rows], atol=1e-5)
    np.testing.assert_array_equal(frozen.encode(rows.reshape(3, 3, 7, 9)), codes)
    np.testing.assert_array_equal(frozen.encode(np.concatenate([rows[::-1]] * 40))[2:3], codes[:1])


@pytest.mark.parametrize("size", [1, 2, 7, 64, 300])
def test_batch_size_and_order_do_not_change_any_code(size: int):
    frozen, rows = (
        encoder(WITH_COMPONENTS),
        np.random.default_rng(0).random((300, 189)).astype(np.float32),
    )
    codes, order = frozen.encode(rows), np.random.default_rng(size).permutation(300)
    in_batches = np.concatenate(
        [frozen.encode(rows[order[i : i + size]]) for i in range(0, 300, size)]
    )
    np.testing.assert_array_equal(in_batches, codes[order])


@BOTH
def test_a_local_encoder_is_saved_exported_and_rebuilt_untrained(
    architecture: LocalArchitecture, tmp_path: Path
):
    frozen, rows = (
        encoder(architecture),
        np.random.default_rng(0).random((3, 189)).astype(np.float32),
    )
    frozen.save(tmp_path / "encoder.safetensors")
    np.testing.assert_array_equal(
        Encoder.load(tmp_path / "encoder.safetensors").encode(rows), frozen.encode(rows)
    )
    assert not np.array_equal(frozen.untrained(0).encode(rows), frozen.untrained(1).encode(rows))
    np.testing.assert_array_equal(
        frozen.untrained(3).encode(rows), frozen.untrained(3).encode(rows)
    )
    onnxruntime = pytest.importorskip("onnxruntime")
    frozen.to_onnx(tmp_path / "local.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "local.onnx"), providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(
        session.run(["code"], {"rows": rows})[0], frozen.encode(rows), atol=1e-5
    )


def test_inactive_units_do_not_break_fine_tuning():
    """The square root of a zero average has a finite slope."""
    silent = encoder(WITH_COMPONENTS)
    silent = replace(silent, weights={**silent.weights, "bias": np.full(5, -1000, np.float32)})
    rows = np.random.default_rng(0).random((30, 189)).astype(np.float32)
    tuned = fine_tune(silent, rows, np.arange(30) % 2, rows, np.arange(30) % 2, epochs=1)
    assert np.isfinite(tuned.probabilities(rows)).all()


def test_bad_sizes_and_images_are_refused():
    with pytest.raises(InputError, match=r"each cell must contain a patch\n  got:.*cells = 9"):
        LocalArchitecture(8, 4, stride=2, cells=9)
    with pytest.raises(InputError, match="patch_size must be at most image_size"):
        LocalArchitecture((8, 20), 10)
    with pytest.raises(InputError, match="stride must be a whole number of at least 1"):
        LocalArchitecture(28, 10, stride=0)
    with pytest.raises(InputError, match="components must be a whole number of at least 1"):
        LocalArchitecture(28, 10, components=0)
    with pytest.raises(InputError, match=r"X has 10 features, the model takes 3 x 7 x 9 = 189"):
        encoder().encode(np.zeros((2, 10)))
    with pytest.raises(
        InputError, match="must lie between 0 and 1 if it holds floating-point images"
    ):
        encoder().encode(np.full((2, 3, 7, 9), 2.0))
    with pytest.raises(InputError, match="8 x 9 pixels"):
        encoder().encode(np.zeros((2, 3, 8, 9)))
