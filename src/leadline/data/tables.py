"""Tables of the user's own: one row per line, one column per feature, one of them the labels."""

import re
import shlex
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.data.dataset import Dataset, check_features
from leadline.data.labels import Labels, Read, listed, refuse_unknown
from leadline.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def load_csv(path: Path, labels: str | None) -> Read:
    """A table of text; see :func:`leadline.data.load`."""
    import pandas as pd

    try:
        form = _form(path)
        top = pd.read_csv(path, header=None, nrows=21, dtype=str, sep=form["sep"])
        form["header"] = 0 if _is_header(top, form["decimal"]) else None
        table = pd.read_csv(path, low_memory=False, **form)
        table.columns = [str(column) for column in table.columns]
        label_column = _label_column(table, labels)
        if label_column and not pd.api.types.is_numeric_dtype(table[label_column]):
            place = [list(table.columns).index(label_column)]
            names = pd.read_csv(path, usecols=place, keep_default_na=False, na_values=[""], low_memory=False, **form)
            table[label_column] = names.iloc[:, 0]
    except InputError:
        raise
    except (ValueError, OSError, UnicodeError) as error:
        raise InputError(
            "the file must be a table of comma-separated values",
            got=str(error).strip(),
            cure="open it in a text editor",
        ) from error
    if table.columns[0] == "Unnamed: 0":
        raise InputError(
            "every column needs a name",
            got="the first column has none",
            cause="row numbers that pandas wrote along; as a feature they would give the order of the rows away",
            cure="write the table with to_csv(path, index=False)",
        )
    return _from_table(table, path.stem, labels, has_names=form["header"] is not None)


def _form(path: Path) -> dict[str, Any]:
    """What separates the cells, and the decimal sign: a comma between digits is one where no other comma stands."""
    with path.open(encoding="utf-8-sig") as file:
        lines = [line for line in islice(file, 21) if line.strip()] or [""]
    bare = re.sub(r"(?<=\d),(?=\d)", "", lines[0])
    separator = next((sign for sign in ";\t" if sign in bare and "," not in bare), ",")
    is_comma_decimal = separator != "," and any(re.search(r"\d,\d", line) for line in lines)
    return {"sep": separator, "decimal": "," if is_comma_decimal else "."}


def load_parquet(path: Path, labels: str | None) -> Read:
    """A table in Parquet's format."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InputError(
            "reading Parquet needs pyarrow", got="pyarrow is not installed", cure="pip install 'leadline[parquet]'"
        ) from error
    try:
        table = parquet.ParquetFile(path).read().to_pandas()
    except (ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("the file must be a readable Parquet file", got=str(error).strip()) from error
    return _from_table(table, path.stem, labels)


def _from_table(table: "pd.DataFrame", name: str, labels: str | None, *, has_names: bool = True) -> Read:
    if len(table) == 0:
        raise InputError("a table needs at least one row", got="columns without rows", cure="check how it was written")
    table.columns = [str(column) for column in table.columns]
    label_column = _label_column(table, labels)
    features = table.drop(columns=[label_column]) if label_column else table
    for column in features.columns:
        _refuse_text(features[column], column)
    values = features.to_numpy(dtype=np.float64, na_value=np.nan)
    X = check_features(values, columns=list(features.columns))
    columns = tuple(features.columns) if has_names else None
    is_whole = all(dtype.kind in "iu" for dtype in features.dtypes)
    dataset = Dataset(X, None, name, columns=columns, divisor=1 if is_whole else None)
    if label_column is None:
        return dataset, None
    raw = table[label_column]
    values = [None if missing else value for value, missing in zip(raw.tolist(), raw.isna(), strict=True)]
    return dataset, Labels(np.array(values, dtype=object), label_column)


def _label_column(table: "pd.DataFrame", labels: str | None) -> str | None:
    columns = list(table.columns)
    refuse_unknown(labels, columns, "column")
    return labels or ("y" if "y" in columns else None)


def _refuse_text(column: "pd.Series", name: str) -> None:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return
    row = next((i for i, value in enumerate(column.tolist()) if not isinstance(value, (bool, int, float))), 0)
    raise InputError(
        "features must be real numbers",
        got=f"row {row} of column {name!r} = {column.tolist()[row]!r}",
        cause="a column of labels or text",
        cure=f"labels={name!r} (--labels {shlex.quote(name)}) if it is the labels, else remove it, or make it numbers",
    )


def _is_header(top: "pd.DataFrame", decimal: str) -> bool:
    """Whether the first of these rows names the columns; refused where it could as well be the first row of data.

    Numbers are data, unless they count the columns: 0, 1, 2, ... is how pandas names columns without names.
    """
    first, below = top.iloc[0], top.iloc[1:]
    if first.tolist() == [str(i) for i in range(len(first))]:
        return True
    is_number = [_is_number(cell, decimal) for cell in first]
    if all(is_number):
        return False
    pairs = list(zip(first, is_number, (below[column].dropna() for column in below), strict=True))
    told = [cell for cell, number, _ in pairs if number and cell == cell]
    is_alike = all(number == all(_is_number(x, decimal) for x in cells) for _, number, cells in pairs if len(cells))
    if told and is_alike and len(below):
        raise InputError(
            "the first line must name the columns where some columns are text",
            got=f"the first line is {listed(first.tolist())}: numbers and text, just where the lines below have them",
            cause="a file without a header, or column names that are numbers",
            cure="put a line of column names on top, and let no name be a number",
        )
    return True


def _is_number(text: Any, decimal: str = ".") -> bool:
    try:
        float(text.replace(decimal, ".") if isinstance(text, str) else text)
    except ValueError:
        return False
    return True
