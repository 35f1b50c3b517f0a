"""A file of JSON Lines that grows while something runs: one object per line, and no line that is half there."""

import json
import math
import os
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

from leadline import checks
from leadline.errors import SaveError

if TYPE_CHECKING:
    import pandas as pd


def append_metrics(path: str | PathLike[str], step: int, scalars: Mapping[str, float]) -> None:
    """Add one line. What an interrupted run left half-written at the end is cut off first.

    Args:
        path: the file; it is made if missing, folders on the way too.
        step: written as ``"step"``.
        scalars: what is not finite has no form in JSON and is written as ``null``.

    Raises:
        SaveError: the file cannot be written; its whole lines are kept.
    """
    path = checks.path(path, "path")
    written = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
    line = json.dumps({"step": step, **written}, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            _cut_half_line(file)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SaveError(f"could not write {path}: {error.strerror or error}; its whole lines are kept") from error


def read_metrics(path: str | PathLike[str]) -> "pd.DataFrame":
    """What a monitor wrote, one row per step in ascending order.

    A line that is being written is left out. Where a run was resumed and told a step twice, the later line holds.

    Args:
        path: the file.

    Returns:
        A table with a column for each scalar, indexed by ``step``; NaN where a value was not finite.

    Raises:
        SaveError: there is no such file, or a line of it is damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for step in (0, 100):
    ...         append_metrics(f"{folder}/metrics.jsonl", step, {"lstm[0]/slope": -0.5})
    ...     metrics = read_metrics(f"{folder}/metrics.jsonl")
    >>> metrics["lstm[0]/slope"].to_dict()
    {0: -0.5, 100: -0.5}
    """
    import pandas as pd

    path = checks.path(path, "path")
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # behind the last line's end there is nothing, or half a line
    except OSError as error:
        raise SaveError(f"could not read {path}: {error.strerror or error}") from error
    records = {}
    for number, line in enumerate(lines, 1):
        try:
            record = dict(json.loads(line))
            records[int(record.pop("step"))] = record
        except (ValueError, TypeError, KeyError) as error:
            raise SaveError(f"line {number} of {path} is not what a monitor writes ({error!r})") from error
    table = pd.DataFrame.from_dict({step: records[step] for step in sorted(records)}, orient="index", dtype=float)
    return table.rename_axis("step")


def _cut_half_line(file) -> None:
    """Make the file end with its last whole line."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        file.truncate(end)
