"""``leadline encode``: rows into codes, block by block."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.cli import DONE
from leadline.cli.output import Switch, check_input
from leadline.errors import InputError, context
from leadline.storage import writing

if TYPE_CHECKING:
    from leadline.autoencoders import Encoder

BLOCK_BYTES = 2**26
"""Of rows that are in memory at once, about."""


def encode(
    encoder: Path,
    data: Path,
    /,
    *,
    labels: str | None = None,
    out: Path = Path("codes.npy"),
    overwrite: Switch = False,
) -> int:
    """Encode rows with a saved encoder.

    A .npy file is read block by block, and may be larger than memory; so may the codes. Other formats are loaded as
    leadline represent loads them.

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
    overwrite
        Replace the file if it is there. It is replaced once the new one is complete.
    """
    if out.suffix != ".npy":
        cure = f"--out {out.with_suffix('.npy')}" if out.name else "--out codes.npy"
        raise InputError("codes are written as a .npy file", got=f"--out {out}", cure=cure)
    _check_free(out, overwrite)
    check_input(encoder)
    from leadline.autoencoders import Encoder

    frozen = Encoder.load(encoder)
    with context(f"in {data}"):
        rows = _rows(data, labels)
        shape = _encoded(frozen, rows, out, overwrite)
    print(f"{shape[0]} rows, codes of {' x '.join(map(str, shape[1:]))} numbers: {out}")
    return DONE


def _check_free(out: Path, overwrite: bool) -> None:
    """Refuse to replace a file without being asked to."""
    try:
        is_there = out.exists()
        is_file = out.is_file()
    except OSError as error:
        raise InputError("--out is a file that can be written", got=f"--out {out} ({error.strerror})") from None
    if is_there and not is_file:
        raise InputError("--out is a file", got=f"--out {out}, which is a folder, a pipe or a device")
    if is_there and not overwrite:
        raise InputError(
            "encode replaces a file only if it is told to",
            got=f"--out {out}, which is there already",
            cure="name another file, or add --overwrite",
        )


def _rows(data: Path, labels: str | None) -> Any:
    """A memory map of what can be read block by block; else all rows."""
    import numpy as np

    from leadline.data import read

    check_input(data)
    if data.suffix.lower() == ".npy" and labels is None:
        try:
            return np.lib.format.open_memmap(data, mode="r")
        except (OSError, ValueError):
            pass  # it is missing, damaged or holds objects, which is said below
    return read(data, labels)[0].X


def _encoded(encoder: "Encoder", rows: Any, out: Path, overwrite: bool) -> tuple[int, ...]:
    """Write the codes of rows; gives their shape."""
    import numpy as np

    from leadline.data.dataset import check_features
    from leadline.data.pixels import are_bytes

    if len(rows) == 0 or rows.ndim < 2:
        check_features(rows)
    divisor = np.float32(255 if are_bytes(rows) else 1)
    step = max(1, BLOCK_BYTES // max(1, rows[:1].nbytes))
    with writing(out, patience=0) as file:
        blocks = _blocks(encoder, rows, divisor, step)
        first = next(blocks)
        shape = (len(rows), *first.shape[1:])
        file.write(_header(shape, first.dtype))
        for block in chain([first], blocks):
            file.write(np.ascontiguousarray(block).data)
        _check_free(out, overwrite)  # another program may have written it meanwhile
    return shape


def _header(shape: tuple[int, ...], dtype: Any) -> bytes:
    """The first bytes of a .npy file."""
    import io

    import numpy as np

    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


def _blocks(encoder: "Encoder", rows: Any, divisor: Any, step: int) -> Iterator[Any]:
    """The codes of the rows, a block at a time."""
    for start in range(0, len(rows), step):
        yield encoder.encode(_prepared(rows[start : start + step], divisor, encoder, start))


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
