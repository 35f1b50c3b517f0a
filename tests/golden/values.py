"""Results as flat dictionaries of numbers and words, on disk as JSON and safetensors."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from tests.golden.names import OUTCOMES, PARAMETERS

Values = dict[str, Any]
"""Arrays, numbers, words and None by a path such as ``decoding/beam/tokens``."""

SKIPPED = {
    "architecture",
    "corruption",
    "custom",
    "findings",
    "form",
    "module",
    "names",
    "notes",
    "protocol",
    "reason",
}
"""Fields that hold settings or sentences, and no results."""

RELATIVE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}
"""Largest relative difference, by type."""

FLOOR = {np.dtype(np.float64): 1e-13, np.dtype(np.float32): 1e-6}
"""Largest difference of numbers near zero, by type, relative to the largest number of the array."""


def flat(result: Any, path: str = "") -> Values:
    """Flatten a result: soundings into their fields, tables into their columns of numbers."""
    return dict(_leaves(result, path))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, torch.Tensor):
        yield path, value.detach().numpy().copy()
    elif isinstance(value, np.ndarray):
        yield path, np.array(value)
    elif isinstance(value, Enum):
        yield path, int(value.value)
    elif isinstance(value, np.generic):
        yield path, value.item()
    elif value is None or isinstance(value, bool | int | float | str):
        yield path, value
    elif isinstance(value, torch.nn.Module):
        yield from _leaves(value.state_dict(), path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}/{key}")
    elif dataclasses.is_dataclass(value):
        for entry in dataclasses.fields(value):
            if entry.name not in SKIPPED:
                yield from _leaves(getattr(value, entry.name), f"{path}/{entry.name}")
    elif isinstance(value, list | tuple):
        yield from _sequence(value, path)
    else:
        raise TypeError(f"{path} holds a {type(value).__name__}")


def _sequence(items: list[Any] | tuple[Any, ...], path: str) -> Iterator[tuple[str, Any]]:
    if items and all(isinstance(item, bool | int | float) for item in items):
        yield path, np.array(items)
        return
    for number, item in enumerate(items):
        yield from _leaves(item, f"{path}/{number}")


def columns(sounding: Any) -> np.ndarray:
    """Return the columns of a sounding's table that hold numbers, of shape (columns, rows).

    A path that ends with ``table`` or ``tables/0`` is compared column by column, in any order:
    columns may be renamed, moved and added.
    """
    table = sounding.table().select_dtypes("number")
    return table.to_numpy(np.float64).T.copy()


def save(values: Values, folder: Path, name: str) -> None:
    """Write values as ``name.json`` and ``name.safetensors``."""
    arrays = {path: value for path, value in values.items() if isinstance(value, np.ndarray)}
    others = {path: value for path, value in values.items() if path not in arrays}
    save_file(
        {path: np.array(array, order="C") for path, array in arrays.items()},
        folder / f"{name}.safetensors",
    )
    (folder / f"{name}.json").write_text(json.dumps(others, indent=0, sort_keys=True) + "\n")


def load(folder: Path, name: str) -> Values:
    """Read what :func:`save` wrote."""
    others = json.loads((folder / f"{name}.json").read_text())
    return {**others, **load_file(folder / f"{name}.safetensors")}


def current_path(path: str) -> str:
    """Return a path of 0.1 with the names of fields that are current."""
    return "/".join(PARAMETERS.get(part, part) for part in path.split("/"))


def differences(
    expected: Values,
    got: Values,
    *,
    bits: bool = False,
    tolerances: Mapping[str, float] | None = None,
) -> list[str]:
    """Return one line for each expected value that is missing or different.

    More values are allowed.

    Args:
        expected: the values of 0.1.
        got: the current values.
        bits: compare bit for bit.
        tolerances: relative tolerances of values whose arithmetic has changed, by a part of their
            path; ``inf`` leaves a value out.
    """
    lines = []
    for path, value in expected.items():
        changed = [size for part, size in (tolerances or {}).items() if part in path]
        tolerance = changed[0] if changed else None
        if tolerance == math.inf:
            continue
        place = path if path in got else current_path(path)
        if place not in got:
            lines.append(f"{path}: missing")
            continue
        is_table = (
            re.search(r"table(s/\d+)?$", path) and isinstance(value, np.ndarray) and value.ndim == 2
        )
        compare = _missing_columns if is_table else _difference
        difference = compare(value, got[place], bits, tolerance)
        if difference:
            lines.append(f"{path}: {difference}")
    return lines


def _difference(expected: Any, got: Any, bits: bool, tolerance: float | None) -> str:
    if isinstance(expected, float) and isinstance(got, float | int):
        expected, got = np.array(expected), np.array(float(got))
    if not isinstance(expected, np.ndarray):
        words = OUTCOMES.get(expected, expected) if isinstance(expected, str) else expected
        return "" if got in (words, expected) else f"{expected!r} became {got!r}"
    if (
        not isinstance(got, np.ndarray)
        or got.shape != expected.shape
        or got.dtype != expected.dtype
    ):
        form = f"{got.dtype} {got.shape}" if isinstance(got, np.ndarray) else repr(got)
        return f"{expected.dtype} {expected.shape} became {form}"
    if (bits and tolerance is None) or expected.dtype.kind != "f":
        same = np.array_equal(expected, got, equal_nan=expected.dtype.kind == "f")
        return "" if same else f"other {'bits' if expected.dtype.kind == 'f' else 'values'}"
    return _distance(expected, got, tolerance)


def _missing_columns(
    expected: np.ndarray, got: np.ndarray, bits: bool, tolerance: float | None
) -> str:
    missing = [
        number
        for number, column in enumerate(expected)
        if all(_difference(column, other, bits, tolerance) for other in got)
    ]
    return f"no column like {missing}" if missing else ""


def _distance(expected: np.ndarray, got: np.ndarray, tolerance: float | None) -> str:
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], got[~finite], equal_nan=True):
        return "other infinite or missing values"
    largest = np.abs(expected[finite]).max(initial=0.0)
    allowed = RELATIVE[expected.dtype] * np.abs(expected) + FLOOR[expected.dtype] * largest
    if tolerance is not None:
        allowed = np.full_like(expected, tolerance * largest)
    distance = np.abs(got[finite] - expected[finite])
    if (distance <= allowed[finite]).all():
        return ""
    return f"differs by up to {distance.max():.3g} where {largest:.3g} is the largest value"
