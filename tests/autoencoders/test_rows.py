import re
from pathlib import Path

import numpy as np
import pytest
import torch

from leadline.autoencoders import (
    Autoencoder,
    GaussianNoise,
    MaskedPatchTransformer,
    PixelMask,
    pretrain,
    pretrain_many,
)
from leadline.autoencoders import _rows as room
from leadline.autoencoders._rows import open_rows
from leadline.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 8)).astype(np.float32)
CPU = torch.device("cpu")


@pytest.fixture(params=["memmap", "path", "text"])
def in_a_file(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write rows to a file with small blocks, and fail if the file is read as a whole."""
    monkeypatch.setattr(room, "BLOCK_NUMBERS", 8 * 13)

    def put(array):
        path = tmp_path / "rows.npy"
        np.save(path, array)
        return {
            "memmap": lambda: np.load(path, mmap_mode="r"),
            "path": lambda: path,
            "text": lambda: str(path),
        }[request.param]()

    return put


@pytest.mark.parametrize("validation", [0.2, None])
@pytest.mark.parametrize("make", [GaussianNoise, PixelMask])
def test_rows_in_a_file_give_the_same_training(in_a_file, make, validation):
    def train(rows):
        model = Autoencoder(8, (6, 3), corruption=make(0.3), seed=0)
        return pretrain(model, rows, validation=validation, epochs=4, batch_size=16)

    memory, file = train(X), train(in_a_file(X))
    for name in memory.weights:
        assert np.array_equal(memory.weights[name], file.weights[name])
    for name in ("training_error", "clean_error", "own_error", "rows_seen"):
        assert np.array_equal(getattr(memory, name), getattr(file, name))
    assert memory.protocol == file.protocol


def test_files_may_hold_other_number_types_and_validation_rows(in_a_file):
    whole = (100 * RNG.random((40, 8))).astype(np.uint8)
    rows = in_a_file(whole)
    memory, file = (
        pretrain(Autoencoder(8, (3,), seed=0).double(), a, validation=b, epochs=2)
        for a, b in (
            (whole, whole[:9]),
            (rows, rows if isinstance(rows, (str, Path)) else rows[:9]),
        )
    )
    assert np.array_equal(memory.training_error, file.training_error)


def test_transformers_take_flat_rows_from_a_file(in_a_file):
    def train(rows):
        model = MaskedPatchTransformer(
            (4, 2), 2, width=8, depth=1, heads=2, decoder_width=4, decoder_heads=1, seed=0
        )
        return pretrain(model, rows, epochs=2)

    assert np.array_equal(train(X).own_error, train(in_a_file(X)).own_error)


def test_a_file_is_never_loaded_as_a_whole(in_a_file, monkeypatch: pytest.MonkeyPatch):
    """No step of training reads more rows of the file than a block."""
    block_sizes = []
    take = room.Rows.take

    def spy(self, order):
        block_sizes.append(len(order))
        return take(self, order)

    checked = []
    check = room.check_features
    monkeypatch.setattr(
        room, "check_features", lambda X, *a, **k: (checked.append(len(X)), check(X, *a, **k))[1]
    )
    monkeypatch.setattr(room.Rows, "take", spy)
    from leadline.autoencoders.training import _member as member

    monkeypatch.setattr(member, "BLOCK_NUMBERS", 8 * 13)
    pretrain(
        Autoencoder(8, (3,), corruption=GaussianNoise(0.3), seed=0),
        in_a_file(X),
        epochs=2,
        batch_size=5,
    )
    assert max(block_sizes) <= 13
    assert max(checked) <= 13
    assert sum(checked) >= len(X)


@pytest.mark.parametrize("kind", ["dense", "patches"])
def test_a_file_is_encoded_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind):
    """Codes equal those of rows in memory, parts are small, and errors name the place."""
    model = Autoencoder(8, (3,), seed=0)
    if kind == "patches":
        model = MaskedPatchTransformer(
            (4, 2), 2, width=8, depth=1, heads=2, decoder_width=4, decoder_heads=1, seed=0
        )
    encoder = pretrain(model, X, epochs=1).encoder
    many = np.tile(X, (20, 1))
    path = tmp_path / "rows.npy"
    np.save(path, many)
    from leadline.autoencoders import _encoder as module

    monkeypatch.setattr(module, "BLOCK_NUMBERS", 8 * encoder.architecture.block_rows)
    sizes = []
    encode = module.encode_in_blocks
    spy = lambda m, f, rows, size: (sizes.append(len(rows)), encode(m, f, rows, size))[1]  # noqa: E731
    expected = encoder.encode(many)
    monkeypatch.setattr(module, "encode_in_blocks", spy)
    assert np.array_equal(encoder.encode(np.load(path, mmap_mode="r")), expected)
    assert max(sizes) == encoder.architecture.block_rows
    many[700, 2] = np.nan
    np.save(path, many)
    with pytest.raises(InputError, match=r"X\[700, 2\] = nan"):
        encoder.encode(np.load(path, mmap_mode="r"))


def test_take_returns_rows_in_the_given_order(in_a_file):
    rows = open_rows(in_a_file(X), "X", np.float32, CPU)
    order = torch.from_numpy(RNG.permutation(90))
    assert np.array_equal(rows.take(order).numpy(), X[order.numpy()])
    some = rows.select(order.numpy()[:20]).select(np.arange(5, 15))
    assert np.array_equal(torch.cat(list(some.blocks())).numpy(), X[order.numpy()[5:15]])
    assert some.mean().numpy() == pytest.approx(X[order.numpy()[5:15]].mean(0), rel=1e-5)


def test_shared_rows_are_opened_once(monkeypatch: pytest.MonkeyPatch):
    from leadline.autoencoders.models import _architecture as architecture

    calls = []
    monkeypatch.setattr(
        architecture, "open_rows", lambda *a: (calls.append(a[1]), open_rows(*a))[1]
    )
    pretrain_many([Autoencoder(8, (3,), seed=s) for s in range(4)], X, seeds=range(4), epochs=1)
    assert calls == ["X"]


def test_errors_name_the_place_of_bad_rows_in_a_file(in_a_file):
    bad = X.copy()
    bad[71, 2] = np.nan
    with pytest.raises(InputError, match=re.escape("X[71, 2] = nan")):
        pretrain(Autoencoder(8, (3,), seed=0), in_a_file(bad), epochs=1)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((0, 8), np.float32), "at least one row"),
        (np.zeros((9, 7), np.float32), "X has 7 features, the model takes 8"),
        (
            np.zeros((9, 2, 4), np.float32),
            r"X of shape \(9, 2, 4\)\n  cause: images that are not flattened",
        ),
        (np.asfortranarray(np.zeros((4, 3, 2), np.float32)), "a memory map in C order"),
        (np.array([["a"] * 8] * 3), "real numbers"),
    ],
)
def test_files_with_bad_arrays_are_refused(in_a_file, array, text):
    with pytest.raises(InputError, match=text):
        pretrain(Autoencoder(8, (3,), seed=0), in_a_file(array), epochs=1)


def test_files_that_are_no_arrays_are_refused(tmp_path: Path):
    table = tmp_path / "rows.csv"
    table.write_text("1,2\n3,4\n")
    cut = tmp_path / "cut.npy"
    np.save(cut, X)
    cut.write_bytes(cut.read_bytes()[:200])
    for path in (table, cut, tmp_path / "missing.npy"):
        with pytest.raises(InputError, match=r"X must be a \.npy file(.|\n)*leadline.data.load"):
            pretrain(Autoencoder(2, (1,), seed=0), path, epochs=1)
