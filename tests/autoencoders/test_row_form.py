"""Rows of pretraining from any source get the same codes, or are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from leadline import data
from leadline.autoencoders import (
    Autoencoder,
    Encoder,
    LinearOptimum,
    MaskedPatchTransformer,
    pretrain,
)
from leadline.autoencoders._row_form import RowForm
from leadline.data import Dataset
from leadline.errors import InputError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (60, 24), dtype=np.uint8)
BYTES[0] = RNG.integers(0, 2, 24)  # a dark image
TABLE = pd.DataFrame(
    RNG.normal(size=(60, 4)) * [1, 10, 100, 1000], columns=["mass", "age", "dose", "time"]
)


def dense() -> Autoencoder:
    return Autoencoder(24, (6,), seed=0)


def transformer() -> MaskedPatchTransformer:
    return MaskedPatchTransformer(
        (4, 6), 2, width=8, depth=1, heads=1, decoder_width=8, decoder_heads=1, seed=0
    )


def saved(encoder: Encoder, folder: Path) -> Encoder:
    encoder.save(folder / "encoder")
    return Encoder.load(folder / "encoder")


@pytest.fixture(scope="module", params=["dense", "transformer", "optimum"])
def of_bytes(request, tmp_path_factory) -> Encoder:
    """Return an encoder that was pretrained on bytes and loaded from its file."""
    makers = {
        "dense": lambda: pretrain(dense(), BYTES, epochs=2),
        "transformer": lambda: pretrain(
            transformer(), BYTES.reshape(60, 4, 6), epochs=2, batch_size=20
        ),
        "optimum": lambda: LinearOptimum.from_rows(BYTES, 3),
    }
    return saved(makers[request.param]().encoder, tmp_path_factory.mktemp("encoder"))


def test_the_file_stores_the_divisor(of_bytes: Encoder):
    assert of_bytes.form is not None
    assert of_bytes.form.divisor == 255


def test_bytes_from_any_source_are_encoded_as_in_pretraining(of_bytes: Encoder, tmp_path: Path):
    inner = Encoder(of_bytes.architecture, of_bytes.weights, of_bytes.rows_seen)
    expected = inner.encode(BYTES.astype(np.float32) / 255)  # what the layers got in training
    np.save(tmp_path / "rows.npy", BYTES)
    np.savez(tmp_path / "rows.npz", X=BYTES)
    named = pd.DataFrame(BYTES, columns=[f"p{i}" for i in range(24)])
    named.to_csv(tmp_path / "rows.csv", index=False)
    named.to_parquet(tmp_path / "rows.parquet")
    ways: dict[str, Any] = {
        "np.load": np.load(tmp_path / "rows.npy"),
        "memory map": np.load(tmp_path / "rows.npy", mmap_mode="r"),
        "read .npy": data.read(tmp_path / "rows.npy")[0],
        "read .npy, X": data.read(tmp_path / "rows.npy")[0].X,
        "read .npz": data.load(tmp_path / "rows.npz"),
        "a table of whole numbers": data.load(tmp_path / "rows.csv"),
        "Parquet": data.load(tmp_path / "rows.parquet"),
        "a data frame": named,
        "int64": BYTES.astype(np.int64),
        "a tensor": torch.from_numpy(BYTES),
        "a list": BYTES.tolist(),
        "divided by the user": BYTES / 255,
    }
    for way, rows in ways.items():
        np.testing.assert_array_equal(of_bytes.encode(rows), expected, err_msg=way)
        assert of_bytes.has_seen(rows).all(), way


def test_the_code_of_a_dark_image_does_not_depend_on_other_images(
    of_bytes: Encoder, tmp_path: Path
):
    together = of_bytes.encode(BYTES)
    np.save(tmp_path / "dark.npy", BYTES[:1])
    for alone in (BYTES[:1], BYTES[:1].astype(np.int32), data.read(tmp_path / "dark.npy")[0]):
        np.testing.assert_array_equal(of_bytes.encode(alone), together[:1])
    assert not np.allclose(
        of_bytes.encode(BYTES[:1]), of_bytes.encode(BYTES[:1].astype(np.float32))
    )


def test_bytes_as_floating_point_numbers_are_refused(of_bytes: Encoder):
    with pytest.raises(
        InputError, match=r"between 0 and 1.*\n  got:   numbers up to 255 in X(.|\n)*X / 255"
    ):
        of_bytes.encode(BYTES.astype(np.float32))
    with pytest.raises(InputError, match=r"numbers up to 254\.5"):
        of_bytes.encode(BYTES - 0.5)
    with pytest.raises(InputError, match=r"between 0 and 255 .*\n  got:   X from 0 to 510"):
        of_bytes.encode(2 * BYTES.astype(np.int64))


def test_the_shape_of_images_does_not_change_the_code(of_bytes: Encoder):
    if of_bytes.architecture.grid is None:
        pytest.skip("not an encoder of images")
    images = BYTES.reshape(60, 4, 6)
    expected = of_bytes.encode(BYTES)
    dataset = Dataset(BYTES.astype(np.float32), None, image_size=(4, 6), divisor=1)
    for rows in (images, images[:, None], images[..., None], dataset):
        np.testing.assert_array_equal(of_bytes.encode(rows), expected)
    with pytest.raises(InputError, match=r"width 3|image"):
        of_bytes.encode(Dataset(BYTES, None, image_size=(8, 3), divisor=1))


def test_bytes_in_a_file_give_the_same_training(tmp_path: Path):
    np.save(tmp_path / "rows.npy", BYTES)
    memory, mapped, read = (
        pretrain(dense(), rows, epochs=2)
        for rows in (BYTES, tmp_path / "rows.npy", data.load(tmp_path / "rows.npy"))
    )
    for other in (mapped, read):
        np.testing.assert_array_equal(other.own_error, memory.own_error)
        np.testing.assert_array_equal(other.rows_seen, memory.rows_seen)
        assert other.notes == memory.notes == ("pixels from 0 to 255 were divided by 255",)


def test_validation_rows_and_targets_follow_the_training_rows():
    dark = BYTES[:1].repeat(3, 0)
    divided = BYTES.astype(np.float32) / 255
    by_bytes = pretrain(dense(), BYTES, targets=BYTES[::-1], validation=dark, epochs=2)
    by_hand = pretrain(
        dense(), divided, targets=divided[::-1], validation=dark.astype(np.float32) / 255, epochs=2
    )
    np.testing.assert_array_equal(by_bytes.own_error, by_hand.own_error)
    named = TABLE.astype("float32")
    one = pretrain(Autoencoder(4, (2,), seed=0), named, validation=named[:9], epochs=2)
    other = pretrain(Autoencoder(4, (2,), seed=0), named, validation=named.iloc[:9, ::-1], epochs=2)
    np.testing.assert_array_equal(one.own_error, other.own_error)


def test_columns_are_brought_into_the_order_of_pretraining(tmp_path: Path):
    encoder = saved(pretrain(Autoencoder(4, (2,), seed=0), TABLE, epochs=2).encoder, tmp_path)
    assert encoder.form is not None
    assert encoder.form.columns == ("mass", "age", "dose", "time")
    expected = encoder.encode(TABLE.to_numpy())
    reverse = TABLE.iloc[:, ::-1]
    reverse.assign(y="a").to_csv(tmp_path / "reversed.csv", index=False)
    for rows in (TABLE, reverse, TABLE[["dose", "mass", "time", "age"]]):
        np.testing.assert_array_equal(encoder.encode(rows), expected)
        assert encoder.has_seen(rows).all()
    read = data.read(tmp_path / "reversed.csv")[0]
    np.testing.assert_allclose(encoder.encode(read), expected, rtol=1e-4, atol=1e-4)
    assert encoder.encode(read.X).shape == expected.shape, (
        "an array without names is taken as it is"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda table: table.rename(columns={"age": "years"}), "X without 'age' and with 'years'"),
        (lambda table: table.drop(columns="dose"), "X without 'dose'"),
        (lambda table: table.assign(height=1.0), "X with 'height'"),
        (lambda table: table.set_axis(["mass", "age", "age", "time"], axis=1), "X without 'dose'"),
    ],
)
def test_other_columns_are_refused_by_name(change, text):
    encoder = pretrain(Autoencoder(4, (2,), seed=0), TABLE, epochs=1).encoder
    for rows in (change(TABLE), Dataset(change(TABLE))):
        with pytest.raises(InputError, match=text) as caught:
            encoder.encode(rows)
        assert "'mass', 'age', 'dose', 'time'" in str(caught.value)


def test_an_encoder_of_binary_rows_refuses_other_pixels():
    binary = RNG.integers(0, 2, (40, 24), dtype=np.uint8)
    encoder = pretrain(dense(), binary, epochs=1).encoder
    np.testing.assert_array_equal(encoder.encode(binary), encoder.encode(binary.astype(np.float32)))
    with pytest.raises(
        InputError, match=r"X must hold zeros and ones.*\n  got:   whole numbers up to 255"
    ):
        encoder.encode(255 * binary)
    with pytest.raises(InputError, match="X must hold zeros and ones"):
        encoder.encode(Dataset(binary, None, divisor=255))


def test_whole_numbers_in_a_table_are_never_divided():
    table = RNG.integers(0, 1000, (40, 24))
    encoder = pretrain(dense(), table, epochs=1).encoder
    assert encoder.form is not None
    assert (encoder.form.scale, encoder.form.divisor) == ("whole", 1)
    np.testing.assert_array_equal(encoder.encode(table), encoder.encode(table.astype(np.float64)))
    np.testing.assert_array_equal(encoder.encode(BYTES), encoder.encode(BYTES.astype(np.float64)))
    np.testing.assert_array_equal(
        encoder.encode(Dataset(BYTES / 255, None, divisor=255)), encoder.encode(BYTES)
    )


def test_pixels_of_unknown_scale_are_refused():
    encoder = pretrain(dense(), RNG.normal(size=(40, 24)), epochs=1).encoder
    with pytest.raises(InputError, match="X must not hold pixels"):
        encoder.encode(BYTES)
    assert encoder.encode(BYTES.astype(np.int64)).shape == (60, 6)
    unit = pretrain(dense(), BYTES / 255, epochs=1).encoder
    np.testing.assert_array_equal(unit.encode(BYTES[:1]), unit.encode(BYTES)[:1])
    np.testing.assert_array_equal(unit.encode(BYTES), unit.encode(BYTES.astype(np.float32) / 255))


def test_rows_in_two_parts_share_a_form():
    forms = [RowForm.of(rows) for rows in (BYTES[:1], BYTES, BYTES / 255, BYTES.astype(np.float64))]
    assert [form.scale for form in forms] == ["binary", "divided", "unit", "other"]
    assert forms[0].merged(forms[1]).scale == forms[2].merged(forms[1]).scale == "divided"
    assert forms[3].merged(forms[1]).scale == "other"
    assert forms[1].merged(forms[0]).scale == "divided"


def test_the_callers_rows_are_never_changed():
    before = BYTES.copy()
    encoder = pretrain(dense(), BYTES, epochs=1).encoder
    encoder.encode(BYTES)
    np.testing.assert_array_equal(BYTES, before)


def test_masked_cells_of_new_rows_count_as_missing():
    encoder = pretrain(dense(), BYTES / 255, epochs=1).encoder
    masked = np.ma.masked_array(BYTES / 255, mask=np.eye(60, 24, dtype=bool))
    for call in (encoder.encode, encoder.has_seen, lambda rows: pretrain(dense(), rows, epochs=1)):
        with pytest.raises(InputError, match=r"X\[0, 0\] = nan"):
            call(masked)


@pytest.mark.parametrize("width", [1, 23, 25])
def test_has_seen_refuses_rows_of_another_width(width: int):
    encoder = pretrain(dense(), BYTES / 255, epochs=1).encoder
    with pytest.raises(InputError, match=f"X has {width} features, the encoder takes 24"):
        encoder.has_seen(np.zeros((2, width)))


@pytest.mark.parametrize(
    "turn", [lambda X: X[::-1], lambda X: X[:, ::-1], np.asfortranarray, lambda X: X.astype(">f4")]
)
def test_the_memory_layout_of_rows_does_not_change_the_code(turn):
    rows = turn((BYTES / 255).astype(np.float32))
    plain = np.ascontiguousarray(rows, dtype=np.float32)
    one, other = (pretrain(dense(), given, epochs=1) for given in (rows, plain))
    np.testing.assert_array_equal(one.own_error, other.own_error)
    np.testing.assert_array_equal(one.encoder.encode(rows), other.encoder.encode(plain))


def test_columns_named_by_numbers_are_reordered():
    table = pd.DataFrame(np.arange(12.0).reshape(4, 3))
    form = RowForm.of(table)
    np.testing.assert_array_equal(form.apply(table[[2, 0, 1]]), table)
    np.testing.assert_array_equal(form.apply(table[[2, 0, 1]].rename(columns=str)), table)
    np.testing.assert_array_equal(form.apply(table.to_numpy()), table)
    years = pd.DataFrame(np.arange(8.0).reshape(4, 2), columns=[2024, 2025])
    np.testing.assert_array_equal(RowForm.of(years).apply(years[[2025, 2024]]), years)


def test_columns_without_names_keep_their_order():
    named = pd.DataFrame(np.arange(8.0).reshape(4, 2), columns=["b", "a"])
    unnamed = pd.DataFrame(named.to_numpy())
    np.testing.assert_array_equal(RowForm.of(named).apply(unnamed), named)
