"""Loading of CSV tables with one column per feature and an optional column of labels.

A table is read in blocks of rows. This limits the memory for pandas' working copies, and an error
in the first rows is found at once.
"""

import csv
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from leadline import checks
from leadline.data._dataset import Dataset, check_features
from leadline.data._memory import refuse_too_large
from leadline.data._spread import ROUNDED, are_blurred, fitting_type
from leadline.data.files._labels import (
    Labels,
    Read,
    label_column,
    listed,
    refuse_repeated_names,
    refuse_text,
)
from leadline.data.files._regular import open_regular, refusing_damage
from leadline.errors import InputError

MOST_COLUMNS = 200_000
"""Maximum number of columns. Reading more columns takes minutes."""

LONGEST_LINE = 2**24
"""Maximum number of characters in each of the first lines."""

BLOCK_CELLS = 2**21
"""Number of cells that are read at a time."""

_TOP = 21
"""Number of lines from which separator, decimal sign and header are recognised."""

_MISSING = frozenset(
    {
        *(
            "",
            "#N/A",
            "#N/A N/A",
            "#NA",
            "-1.#IND",
            "-1.#QNAN",
            "-NaN",
            "-nan",
            "1.#IND",
            "1.#QNAN",
        ),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)
"""Texts that pandas reads as missing numbers."""

_LOOK = "open it in a text editor"


@dataclass(frozen=True)
class _Form:
    """The layout of one table."""

    separator: str
    decimal: str
    names: list[str]
    has_header: bool
    bytes_per_cell: float


def load_csv(path: Path, labels: str | None) -> Read:
    """Load a CSV table; see :func:`leadline.data.load`."""
    with open_regular(path) as file:
        form = _form(file, path.name)
        label_name = label_column(form.names, labels)
        features = [name for name in form.names if name != label_name]
        _refuse_size(path, form)
        file.seek(0)
        rows = []
        cells: list[str] = []
        is_whole = True
        is_rounded = False
        for frame in _blocks(file, form, label_name, path.name):
            texts = [cell[1:] for cell in frame.pop(label_name).tolist()] if label_name else []
            is_whole = is_whole and all(dtype.kind in "iu" for dtype in frame.dtypes)
            first_row = sum(len(block) for block in rows)
            matrix = _matrix(frame, form)
            # All blocks of a table have the dtype of the first block.
            dtype = rows[0].dtype.type if rows else fitting_type(matrix)
            rows.append(check_features(matrix, columns=features, first_row=first_row, dtype=dtype))
            is_rounded = is_rounded or (dtype == np.float32 and are_blurred(matrix))
            cells += texts
    if not rows:
        raise InputError(
            "a table needs at least one row",
            got="columns without rows",
            cure="check how it was written",
        )
    X = rows[0] if len(rows) == 1 else np.concatenate(rows)
    values = Labels(_label_values(cells, form.decimal), label_name) if label_name else None
    columns = tuple(features) if form.has_header else None
    notes = (ROUNDED,) if is_rounded else ()
    return Dataset(
        X, None, path.stem, columns=columns, divisor=1 if is_whole else None, notes=notes
    ), values


def _form(file: IO[bytes], name: str) -> _Form:
    with refusing_damage(name, cure=_LOOK):
        text = io.TextIOWrapper(file, encoding="utf-8-sig")
        lines = list(islice((line for line in _lines(text) if line.strip()), _TOP)) or [""]
        text.seek(0)
        separator, decimal = _signs(lines)
        rows = csv.reader(_lines(text), delimiter=separator)
        top = list(islice((row for row in rows if not _is_blank(row)), _TOP)) or [[]]
        text.detach()
    width = len(top[0])
    if width == 0:
        raise InputError(
            "the file must be a table of comma-separated values", got=f"{name} is empty", cure=_LOOK
        )
    if width > MOST_COLUMNS:
        raise InputError(
            f"a table of text must have at most {MOST_COLUMNS} columns",
            got=f"the first line of {name} has {width}",
            cure="save the numbers with np.save or np.savez",
        )
    for i, row in enumerate(top):
        if len(row) > width:
            raise InputError(
                "every line of a table must have the same number of cells",
                got=f"Expected {width} fields in line {i + 1}, saw {len(row)}",
                cure="quote cells that contain the separator",
            )
    has_header = _is_header(top, decimal)
    names = (
        [cell or f"Unnamed: {i}" for i, cell in enumerate(top[0])]
        if has_header
        else list(map(str, range(width)))
    )
    if has_header and not top[0][0]:
        raise InputError(
            "every column needs a name",
            got="the first column has none",
            cause="row numbers that pandas wrote along; as a feature they would give the order of "
            "the rows away",
            cure="write the table with to_csv(path, index=False)",
        )
    refuse_repeated_names(names)
    num_cells = sum(map(len, top))
    return _Form(separator, decimal, names, has_header, sum(map(len, lines)) / num_cells)


def _lines(text: IO[str]) -> Iterator[str]:
    while line := text.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise InputError(
                f"a line of a table must have at most {LONGEST_LINE} characters",
                got="a longer line among the first",
                cause="too many columns, or a file of another format",
                cure="save the numbers with np.save or np.savez",
            )
        yield line


def _signs(lines: list[str]) -> tuple[str, str]:
    """Return the separator and the decimal sign.

    Semicolon or tab is the separator if all commas of the first line stand between digits. Only
    then can the comma be the decimal sign.
    """
    bare = re.sub(r"(?<=\d),(?=\d)", "", lines[0])
    separator = next((sign for sign in ";\t" if sign in bare and "," not in bare), ",")
    has_comma_decimal = separator != "," and any(re.search(r"\d,\d", line) for line in lines)
    return separator, "," if has_comma_decimal else "."


def _is_blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())


def _refuse_size(path: Path, form: _Form) -> None:
    """Check that the table fits into the free memory.

    The number of cells is estimated from the length of the first lines. A cell is stored as float32
    and copied once.
    """
    length = path.stat().st_size
    cells = int(length / max(form.bytes_per_cell, 1))
    refuse_too_large(
        8 * cells, f"about {cells} cells in {length} bytes", cure="save the numbers with np.save"
    )


def _blocks(file: IO[bytes], form: _Form, label_name: str | None, name: str) -> Iterator[Any]:
    """Yield the table in blocks of rows. The labels are kept as text."""
    import pandas as pd

    with refusing_damage(name, cure=_LOOK), warnings.catch_warnings():
        warnings.simplefilter("error")
        blocks = pd.read_csv(
            file,
            sep=form.separator,
            decimal=form.decimal,
            header=0 if form.has_header else None,
            names=form.names,
            index_col=False,
            converters={label_name: _marked} if label_name else None,
            chunksize=max(1, BLOCK_CELLS // len(form.names)),
            low_memory=False,
        )
    while True:
        with refusing_damage(name, cure=_LOOK), warnings.catch_warnings():
            warnings.simplefilter("error")  # pandas cuts a line that is too long and only warns.
            block = next(blocks, None)
        if block is None:
            return
        if len(block):
            yield block


def _marked(cell: str) -> str:
    """Return the text of a cell after a mark. Without it, pandas would read "NA" as missing."""
    return "=" + cell


def _matrix(frame: Any, form: _Form) -> np.ndarray:
    strange = {
        i
        for i, kind in enumerate(frame.dtypes.tolist())
        if getattr(kind, "kind", "O") not in "biuf"
    }
    if not strange:
        return frame.to_numpy(dtype=np.float64)
    X = np.empty((len(frame), len(frame.columns)), np.float64)
    for place in range(len(frame.columns)):
        column = frame.iloc[:, place]
        X[:, place] = (
            _numbers(column, form.decimal) if place in strange else column.to_numpy(np.float64)
        )
    return X


def _numbers(column: Any, decimal: str) -> list[float]:
    """Return the numbers of a column that pandas has read as text.

    Such columns contain long whole numbers, or true and false with missing cells.
    """
    is_known = column.notna()
    cells = column[is_known].astype(str)
    are_truths = all(cell.lower() in _TRUTH for cell in cells)
    meaning = {}
    for row, cell in cells.items():
        if are_truths:
            meaning[cell] = _TRUTH[cell.lower()]
        elif _is_number(cell, decimal):
            meaning[cell] = float(cell.replace(decimal, "."))
        else:
            refuse_text(
                f"row {row} of column {str(column.name)!r} = {checks.shown(cell)}", str(column.name)
            )
    return [
        meaning[str(cell)] if known else np.nan
        for cell, known in zip(column, is_known, strict=True)
    ]


_TRUTH = {"true": 1.0, "false": 0.0}


def _label_values(cells: list[str], decimal: str) -> np.ndarray:
    """Return labels as numbers if all labels are numbers, and as text otherwise.

    In text, only an empty cell is a missing label.
    """
    known = {cell for cell in cells if cell not in _MISSING}
    are_numbers = bool(known) and all(_is_number(cell, decimal) for cell in known)
    if are_numbers:
        meaning: dict[str, Any] = {cell: _number(cell, decimal) for cell in known}
    else:
        meaning = {cell: cell for cell in cells if cell}
    return np.fromiter((meaning.get(cell) for cell in cells), dtype=object, count=len(cells))


def _is_header(top: list[list[str]], decimal: str) -> bool:
    """True if the first row contains the names of the columns.

    Numbers are data, unless they count the columns: pandas writes 0, 1, 2, ... as the names of
    columns without names. If the first row could be either, an error is raised.
    """
    first = top[0]
    below = top[1:]
    if first == [str(i) for i in range(len(first))]:
        return True
    is_number = [cell in _MISSING or _is_number(cell, decimal) for cell in first]
    if all(is_number):
        return False
    has_number = any(
        number and cell not in _MISSING for cell, number in zip(first, is_number, strict=True)
    )
    if has_number and below and _is_alike(is_number, below, decimal):
        raise InputError(
            "the first line must name the columns where some columns are text",
            got=f"the first line is {listed(first)}: numbers and text, just where the lines below "
            "have them",
            cause="a file without a header, or column names that are numbers",
            cure="put a line of column names on top, and let no name be a number",
        )
    return True


def _is_alike(is_number: list[bool], below: list[list[str]], decimal: str) -> bool:
    """True if the other rows have numbers in the same columns as the first row."""
    for place, number in enumerate(is_number):
        cells = [row[place] for row in below if place < len(row) and row[place] not in _MISSING]
        if cells and number != all(_is_number(cell, decimal) for cell in cells):
            return False
    return True


def _is_number(text: str, decimal: str = ".") -> bool:
    try:
        _number(text, decimal)
    except ValueError:
        return False
    return True


def _number(text: str, decimal: str) -> int | float:
    """Convert text to a number as pandas does.

    Raises:
        ValueError: the text is not a number.
    """
    if "_" in text or not text.isascii():
        raise ValueError(text)
    try:
        return int(text)
    except ValueError:
        return float(text.replace(decimal, "."))
