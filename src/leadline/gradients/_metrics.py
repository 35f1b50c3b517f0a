"""The metrics file of a gradient monitor, in JSON Lines: one object per measured training step."""

import json
import math
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

from leadline import checks
from leadline.errors import SaveError
from leadline.storage import appending_lines, json_line, lock_file, split_lines

BEGINNING = b'{"step": '
"""The first bytes of every line."""

PATIENCE = 30.0
"""Seconds to wait for another process that writes the same file."""

if TYPE_CHECKING:
    import pandas as pd


def append_metrics(path: str | PathLike[str], step: int, scalars: Mapping[str, float]) -> None:
    """Append one line. An unfinished line that an interrupted run left at the end is removed first.

    Args:
        path: the file; it and its folder are created if missing.
        step: number of the training step, written as ``"step"``.
        scalars: the metrics by name. JSON has no infinity and no NaN: both are written as ``null``.

    Raises:
        SaveError: the file cannot be written, or another program wrote it; its complete lines are
            kept.
    """
    path = checks.path(path, "path")
    finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
    with lock_file(path, patience=PATIENCE), appending_lines(path) as file:
        file.remove_unfinished_line(BEGINNING)
        file.append(json_line({"step": step, **finite}))


def read_metrics(path: str | PathLike[str]) -> "pd.DataFrame":
    """Read the file of a :class:`GradientMonitor`: one row per step, in ascending order.

    An unfinished last line is ignored. If a resumed run wrote a step again, the later line counts.

    Args:
        path: the file.

    Returns:
        A table with one column per metric, indexed by ``step``; NaN where a value was not finite.

    Raises:
        SaveError: the file does not exist, or one of its lines is damaged.

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
        lines, _ = split_lines(path.read_bytes())
    except OSError as error:
        raise SaveError(f"could not read {path}: {error.strerror or error}") from error
    records = {}
    for number, line in enumerate(lines, 1):
        try:
            record = dict(json.loads(line))
            records[int(record.pop("step"))] = record
        except (ValueError, TypeError, KeyError) as error:
            raise SaveError(
                f"line {number} of {path} was not written by a GradientMonitor "
                f"({type(error).__name__}: {error})"
            ) from error
    in_order = {step: records[step] for step in sorted(records)}
    table = pd.DataFrame.from_dict(in_order, orient="index", dtype=float)
    return table.rename_axis("step")
