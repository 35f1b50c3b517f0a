"""``leadline encode`` scales pixels and orders columns as pretraining did, in all file formats."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leadline import cli
from leadline.autoencoders import Autoencoder, Encoder, pretrain

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 12), dtype=np.uint8)
# The first images are so dark that their values could also be numbers from 0 to 1.
BYTES[:8] %= 2
TABLE = pd.DataFrame(RNG.normal(size=(40, 3)) * [1, 100, 10_000], columns=["mass", "age", "time"])


def codes(encoder: Path, rows: Path) -> np.ndarray:
    assert (
        cli.run(["encode", str(encoder), str(rows), "--out", str(rows) + ".codes.npy"]) == cli.DONE
    )
    return np.load(str(rows) + ".codes.npy")


@pytest.fixture
def of_bytes(tmp_path: Path) -> Path:
    pretrain(Autoencoder(12, (4,), seed=0), BYTES, epochs=2).encoder.save(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_pixels_in_every_file_format_get_the_same_codes(
    of_bytes: Path, tmp_path: Path, monkeypatch
):
    # The first blocks hold only dark images.
    monkeypatch.setattr("leadline.cli._encode.BLOCK_BYTES", 4 * 12)
    expected = Encoder.load(of_bytes).encode(BYTES.astype(np.float32) / 255)
    np.save(tmp_path / "flat.npy", BYTES)
    np.save(tmp_path / "images.npy", BYTES.reshape(40, 3, 4))
    np.save(tmp_path / "wide.npy", BYTES.astype(np.int64))
    np.savez(tmp_path / "archive.npz", X=BYTES)
    np.savez(tmp_path / "dark.npz", X=BYTES[:8])
    np.save(tmp_path / "dark.npy", BYTES[:8])
    pd.DataFrame(BYTES).add_prefix("p").to_csv(tmp_path / "table.csv", index=False)
    for name in (
        "flat.npy",
        "images.npy",
        "wide.npy",
        "archive.npz",
        "table.csv",
        "dark.npy",
        "dark.npz",
    ):
        found = codes(of_bytes, tmp_path / name)
        np.testing.assert_array_equal(found, expected[: len(found)], err_msg=name)


def test_columns_are_reordered_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pretrain(Autoencoder(3, (2,), seed=0), TABLE, epochs=2).encoder.save(tmp_path / "encoder")
    TABLE.to_csv(tmp_path / "table.csv", index=False)
    TABLE.iloc[:, ::-1].to_csv(tmp_path / "reversed.csv", index=False)
    TABLE.rename(columns={"age": "years"}).to_csv(tmp_path / "renamed.csv", index=False)
    np.testing.assert_array_equal(
        codes(tmp_path / "encoder", tmp_path / "table.csv"),
        codes(tmp_path / "encoder", tmp_path / "reversed.csv"),
    )
    arguments = [
        "encode",
        str(tmp_path / "encoder"),
        str(tmp_path / "renamed.csv"),
        "--out",
        str(tmp_path / "o.npy"),
    ]
    assert cli.run(arguments) == cli.BAD_USAGE
    assert "without 'age' and with 'years'" in capsys.readouterr().err
