"""``leadline encode``: compute the codes of rows, block by block."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from leadline.cli import DONE
from leadline.cli._options import INPUT, OUTPUT, OutputSwitch, errors_about
from leadline.cli._output import check_input
from leadline.errors import InputError
from leadline.storage import writing

if TYPE_CHECKING:
    from leadline.autoencoders import Encoder

BLOCK_BYTES = 2**26
"""Approximate size of the rows that are in memory at the same time."""


def encode(
    encoder: Path,
    data: Path,
    /,
    *,
    labels: Annotated[str | None, Parameter(group=INPUT)] = None,
    out: Annotated[Path, Parameter(group=OUTPUT)] = Path("codes.npy"),
    overwrite: OutputSwitch = False,
) -> int:
    """Encode rows with a saved encoder.

    Parameters
    ----------
    encoder
        File of an encoder, as leadline represent or Encoder.save() writes it.
    data
        Rows or images: .npz, .npy, .csv, .parquet, or a folder of images.
    labels
        Name of the column or array of labels, which is not encoded. By default y, if it exists.
    out
        The .npy file for the codes: float32, shape (rows, code size).
    overwrite
        Replace the file if it exists. The old file stays until the new one is complete.
    """
    if out.suffix != ".npy":
        cure = f"--out {out.with_suffix('.npy')}" if out.name else "--out codes.npy"
        raise InputError("--out must name a .npy file", got=f"--out {out}", cure=cure)
    _check_free(out, overwrite)
    check_input(encoder, "ENCODER")
    from leadline.autoencoders import Encoder

    frozen = Encoder.load(encoder)
    with errors_about(f"DATA {data}", path="DATA", labels="--labels"):
        rows = _rows(data, labels)
        shape = _encoded(frozen, rows, out, overwrite)
    print(f"{shape[0]} rows, codes of {' x '.join(map(str, shape[1:]))} numbers: {out}")
    return DONE


def _check_free(out: Path, overwrite: bool) -> None:
    """Refuse an existing file, unless the caller asked to replace it."""
    try:
        is_there = out.exists()
        is_file = out.is_file()
    except OSError as error:
        raise InputError(
            "--out must be a file that can be written", got=f"--out {out} ({error.strerror})"
        ) from None
    if is_there and not is_file:
        raise InputError(
            "--out must be a file", got=f"--out {out}, which is a folder, a pipe or a device"
        )
    if is_there and not overwrite:
        raise InputError(
            "--out must name a new file, unless --overwrite is given",
            got=f"--out {out}, which exists",
            cure="name another file, or add --overwrite",
        )


def _rows(data: Path, labels: str | None) -> Any:
    """Return a memory map of a .npy file; for other formats, a dataset of all rows."""
    import numpy as np

    from leadline.data import read

    check_input(data, "DATA")
    if data.suffix.lower() == ".npy" and labels is None:
        try:
            return np.lib.format.open_memmap(data, mode="r")
        except (OSError, ValueError):
            pass  # read() below refuses a missing or damaged file with a better error
    return read(data, labels)[0]


def _encoded(encoder: "Encoder", rows: Any, out: Path, overwrite: bool) -> tuple[int, ...]:
    """Write the codes of rows and return their shape."""
    import numpy as np

    from leadline.data import check_features

    array = rows if isinstance(rows, np.memmap) else rows.X
    if len(array) == 0 or array.ndim < 2:
        check_features(array)
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    with writing(out, patience=0) as file:
        blocks = _blocks(encoder, rows, len(array), step)
        first = next(blocks)
        shape = (len(array), *first.shape[1:])
        file.write(_header(shape, first.dtype))
        for block in chain([first], blocks):
            file.write(np.ascontiguousarray(block).data)
        _check_free(out, overwrite)  # another program may have created the file meanwhile
    return shape


def _header(shape: tuple[int, ...], dtype: Any) -> bytes:
    """Return the header of a .npy file."""
    import io

    import numpy as np

    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


def _blocks(encoder: "Encoder", rows: Any, num_rows: int, step: int) -> Iterator[Any]:
    """Yield the codes of the rows, block by block."""
    for start in range(0, num_rows, step):
        yield encoder.encode(_block(rows, start, start + step))


def _block(rows: Any, start: int, stop: int) -> Any:
    """Return some rows in the units of their file; the encoder knows how pixels are scaled."""
    import numpy as np

    from leadline.data import Dataset, check_features, flatten_images

    if isinstance(rows, Dataset):
        return replace(rows, X=rows.X[start:stop])
    array = np.asarray(rows[start:stop])
    is_whole = array.dtype.kind in "iu"
    if array.ndim not in (3, 4):
        return array if is_whole and array.ndim == 2 else check_features(array, first_row=start)
    flat, size, channels = flatten_images(array)
    checked = check_features(flat, first_row=start)
    return Dataset(checked, None, "rows", size, channels, divisor=1 if is_whole else None)
