"""Loading of Parquet tables. Types and sizes are checked before any cell is read."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.data._dataset import Dataset, check_features
from leadline.data._memory import refuse_expansion, refuse_too_large
from leadline.data._spread import fitting_type
from leadline.data.files._labels import (
    Labels,
    Read,
    label_column,
    refuse_repeated_names,
    refuse_text,
)
from leadline.data.files._regular import open_regular, refusing_damage
from leadline.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

_SAVE = "write the table once more with to_parquet(path, index=False)"
_BYTES_PER_CELL = 21
"""Bytes per number: in Arrow's memory, as float64, as float32, and one byte for a check."""
_BYTES_PER_LABEL = 64


def load_parquet(path: Path, labels: str | None) -> Read:
    """Load a table with one column per feature; see :func:`leadline.data.load`."""
    try:
        from pyarrow import parquet, types
    except ImportError as error:
        raise InputError(
            "reading Parquet needs pyarrow",
            got="pyarrow is not installed",
            cure="pip install 'leadline[parquet]'",
        ) from error
    with open_regular(path) as file:
        with refusing_damage(path.name, cure=_SAVE):
            source = parquet.ParquetFile(file)
            names = _columns(source)
            num_rows = int(source.metadata.num_rows)
        if num_rows == 0:
            raise InputError(
                "a table needs at least one row",
                got="columns without rows",
                cure="check how it was written",
            )
        refuse_repeated_names(names)
        label_name = label_column(names, labels)
        features = [name for name in names if name != label_name]
        for name in features:
            _refuse_type(source.schema_arrow.field(name).type, name)
        is_whole = all(types.is_integer(source.schema_arrow.field(name).type) for name in features)
        _refuse_size(source, path, num_rows, len(features))
        with refusing_damage(path.name, cure=_SAVE):
            X = _matrix(source, features)
        with refusing_damage(path.name, cure=_SAVE):
            y = _values(path, label_name) if label_name else None
    divisor = 1 if is_whole else None
    checked = check_features(X, columns=features, dtype=fitting_type(X))
    dataset = Dataset(checked, None, path.stem, columns=tuple(features), divisor=divisor)
    return dataset, Labels(y, label_name) if y is not None and label_name else None


def _columns(source: "parquet.ParquetFile") -> list[str]:
    """Return the names of the columns, without the columns in which pandas stores row names."""
    schema = source.schema_arrow
    index = (schema.pandas_metadata or {}).get("index_columns", []) if schema.metadata else []
    return [name for name in schema.names if name not in index]


def _refuse_type(kind: "pa.DataType", name: str) -> None:
    from pyarrow import types

    is_number = (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
    )
    if not is_number:
        refuse_text(f"column {name!r} of type {str(kind)[:60]}", name)


def _refuse_size(source: "parquet.ParquetFile", path: Path, num_rows: int, width: int) -> None:
    metadata = source.metadata
    stored = path.stat().st_size
    pages = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    cells = num_rows * width
    what = f"{num_rows} rows of {width} features"
    cure = "read a part of the rows, and save them with np.savez"
    refuse_expansion(max(pages, 8 * cells), stored, what, cure=cure)
    refuse_too_large(cells * _BYTES_PER_CELL + num_rows * _BYTES_PER_LABEL, what, cure=cure)


def _matrix(source: "parquet.ParquetFile", names: list[str]) -> np.ndarray:
    from pyarrow import compute, types

    table = source.read(columns=names)
    X = np.empty((table.num_rows, len(names)), np.float64)
    for i, name in enumerate(names):
        column = table.column(name)
        if types.is_boolean(column.type):
            column = compute.cast(column, "int8")
        elif types.is_decimal(column.type):
            column = compute.cast(column, "float64")
        X[:, i] = column.to_numpy()  # A missing number becomes NaN.
    return X


def _values(path: Path, name: str) -> np.ndarray:
    """Return the cells of a column. Equal texts share their memory."""
    from pyarrow import parquet, types

    with open_regular(path) as file:
        source = parquet.ParquetFile(file, read_dictionary=[name])
        cells: list[Any] = []
        for chunk in source.read(columns=[name]).column(name).chunks:
            if types.is_dictionary(chunk.type):
                known = [*chunk.dictionary.to_pylist(), None]
                cells += [
                    known[-1 if index is None else index] for index in chunk.indices.to_pylist()
                ]
            else:
                cells += chunk.to_pylist()
    return np.fromiter(cells, dtype=object, count=len(cells))
