"""``leadline encode``: rows into codes, block by block."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.cli import DONE
from leadline.errors import InputError, SaveError, context

if TYPE_CHECKING:
    from leadline.autoencoders import Encoder

BLOCK_BYTES = 2**26
"""Of rows that are in memory at once, about."""


def encode(encoder: Path, data: Path, /, *, labels: str | None = None, out: Path = Path("codes.npy")) -> int:
    """Encode rows with a saved encoder.

    A .npy file is read block by block, and may be larger than memory; so may the codes. Other formats are loaded as
    leadline represent loads them. An earlier file is replaced once the new one is complete.

    Parameters
    ----------
    encoder
        A file that leadline represent, or Encoder.save, wrote.
    data
        Rows or images: .npz, .npy, .csv, .parquet, or a folder of images.
    labels
        Which column holds the labels, which are left aside; by default y, if there is one.
    out
        The file for the codes, an array of float32 of shape (rows, numbers in a code).
    """
    if out.suffix != ".npy":
        raise InputError(
            "codes are written as a .npy file", got=f"--out {out}", cure=f"--out {out.with_suffix('.npy')}"
        )
    from leadline.autoencoders import Encoder

    frozen = Encoder.load(encoder)
    with context(f"in {data}"):
        rows = _rows(data, labels)
        shape = _encoded(frozen, rows, out)
    print(f"{shape[0]} rows, codes of {' x '.join(map(str, shape[1:]))} numbers: {out}")
    return DONE


def _rows(data: Path, labels: str | None) -> Any:
    """A memory map of what can be read block by block; else all rows."""
    import numpy as np

    from leadline.data import read

    if data.suffix.lower() == ".npy" and data.exists() and labels is None:
        try:
            return np.lib.format.open_memmap(data, mode="r")
        except ValueError:
            pass  # it is damaged or holds objects, which is said below
    return read(data, labels)[0].X


def _encoded(encoder: "Encoder", rows: Any, out: Path) -> tuple[int, ...]:
    """Write the codes of rows; gives their shape."""
    import numpy as np

    from leadline.data.dataset import check_features
    from leadline.data.pixels import are_bytes

    if len(rows) == 0 or rows.ndim < 2:
        check_features(rows)
    divisor = np.float32(255 if are_bytes(rows) else 1)
    step = max(1, BLOCK_BYTES // max(1, rows[:1].nbytes))
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    codes = None
    try:
        for start in range(0, len(rows), step):
            block = encoder.encode(_prepared(rows[start : start + step], divisor, encoder, start))
            if codes is None:
                out.parent.mkdir(parents=True, exist_ok=True)
                shape = (len(rows), *block.shape[1:])
                codes = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
            codes[start : start + len(block)] = block
        assert codes is not None
        codes.flush()
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(out)
    except OSError as error:
        raise SaveError(f"could not write {out}: {error.strerror or error}; what was there is untouched") from error
    finally:
        partial.unlink(missing_ok=True)
    return codes.shape


def _prepared(block: Any, divisor: Any, encoder: "Encoder", first_row: int) -> Any:
    """Rows as the encoder takes them: scaled as files are, and flat if they have its number of features."""
    import numpy as np

    from leadline.data.dataset import check_features
    from leadline.data.pixels import flatten_images

    array = np.asarray(block) if divisor == 1 else np.asarray(block) / divisor
    if array.ndim not in (3, 4):
        return check_features(array, first_row=first_row)
    flat, size, channels = flatten_images(array)
    rows = check_features(flat, first_row=first_row)
    return rows if rows.shape[1] == encoder.architecture.input_size else rows.reshape(-1, channels, *size)
