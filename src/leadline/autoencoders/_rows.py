"""The rows of a training run, in memory or in a file that may be larger than memory.

Both sources give the same numbers and the same training, bit for bit: sums over all rows are
computed in blocks whose size depends only on the width of a row.
"""

import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt64
from torch import Tensor

from leadline import checks
from leadline.autoencoders._row_form import RowForm
from leadline.data import check_features, row_fingerprints
from leadline.errors import InputError
from leadline.randomness import numpy_generator

BLOCK_NUMBERS = 2**21
"""Numbers of the data that are copied at once to be shuffled, corrupted or checked."""


AS_THEY_ARE = RowForm(scale="whole")
"""The form of rows for a user's own module: they are not rescaled."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Finite rows, accessed by their numbers; created by :func:`open_rows`."""

    source: Tensor | np.ndarray
    """Shape (n, features): a tensor on the training device, or a memory map of a file."""
    row_shape: tuple[int, ...]
    """Shape of a row before it was flattened."""
    dtype: type[np.floating]
    """Number type of the rows in training."""
    device: torch.device
    """Device of the rows in training."""
    fingerprints: UInt64[np.ndarray, " n"]
    """One fingerprint per row; see :func:`leadline.data.row_fingerprints`."""
    index: np.ndarray | None = None
    """Numbers of the selected rows of a memory map, in order; ``None`` for all rows."""
    form: RowForm = AS_THEY_ARE
    """The columns and the scale of the rows."""

    def __len__(self) -> int:
        return len(self.source) if self.index is None else len(self.index)

    @property
    def width(self) -> int:
        """Features of a row."""
        return self.source.shape[1]

    @property
    def is_mapped(self) -> bool:
        """True if the rows stay in their file."""
        return not isinstance(self.source, Tensor)

    def take(self, order: Tensor) -> Float[Tensor, "batch features"]:
        """Return the rows with these numbers, in this order."""
        if isinstance(self.source, Tensor):
            return self.source[order]
        wanted = order.cpu().numpy()
        if self.index is not None:
            wanted = self.index[wanted]
        # Reading in the order of the file is faster than seeking.
        by_place = np.argsort(wanted)
        part = self.source[wanted[by_place]]
        rows = np.empty((len(wanted), self.width), self.dtype)
        rows[by_place] = self.form.apply(part) if part.dtype.kind in "iu" else part
        return torch.from_numpy(rows).to(self.device)

    def blocks(self) -> Iterator[Float[Tensor, "rows features"]]:
        """Yield all rows in their order, block by block."""
        size = max(1, BLOCK_NUMBERS // self.width)
        for part in torch.arange(len(self), device=self.device).split(size):
            yield self.take(part)

    def select(self, numbers: np.ndarray) -> "Rows":
        """Return some of the rows, in this order; rows in a file stay there."""
        fingerprints = self.fingerprints[numbers]
        if isinstance(self.source, Tensor):
            chosen = self.source[torch.from_numpy(numbers).to(self.device)]
            return replace(self, source=chosen, fingerprints=fingerprints)
        index = numbers if self.index is None else self.index[numbers]
        return replace(self, fingerprints=fingerprints, index=index)

    def mean(self) -> Float[Tensor, " features"]:
        """Return the mean row, summed in float64."""
        total = sum(block.sum(0, dtype=torch.float64) for block in self.blocks())
        dtype = torch.from_numpy(np.empty(0, self.dtype)).dtype
        return (torch.as_tensor(total) / len(self)).to(dtype)


def open_rows(
    X: Any, name: str, dtype: type[np.floating], device: torch.device, form: RowForm | None = None
) -> Rows:
    """Check rows and prepare them for training.

    Args:
        X: Array-like, tensor, data frame or ``Dataset`` of shape (n, ...). A ``numpy.memmap`` or
            the path of a ``.npy`` file is read block by block.
        name: The argument's name in messages.
        dtype: The model's number type.
        device: The device to train on.
        form: The columns and scale to bring the rows to; by default their own, where pixels are
            divided by 255.

    Raises:
        InputError: Numbers that are not finite, no rows, or a file that is not a ``.npy`` file.
    """
    if isinstance(X, (str, PathLike)):
        X = _mapped(checks.path(X, name), name)
    if form is None:
        form = RowForm.of(X, name)
    if isinstance(X, np.memmap):
        return _checked_by_blocks(X, name, dtype, device, form)
    array = form.apply(X, name)
    row_shape = array.shape[1:]
    is_nested = len(row_shape) > 1 and array.size > 0
    flat = array.reshape(len(array), -1) if is_nested else array
    rows = check_features(flat, name, dtype=dtype)
    source = torch.from_numpy(np.array(rows, order="C")).to(device)
    return Rows(source, row_shape, dtype, device, row_fingerprints(rows), form=form)


def _checked_by_blocks(
    X: np.memmap, name: str, dtype: type[np.floating], device: torch.device, form: RowForm
) -> Rows:
    """Check a memory map without loading it as a whole."""
    if X.ndim > 2 and not X.flags.c_contiguous:
        raise InputError(
            f"{name} must be a memory map in C order",
            got=f"{name} of shape {X.shape} in Fortran order",
            cure=f"save it again with np.save(path, np.ascontiguousarray({name}))",
        )
    flat = X.reshape(len(X), -1) if X.ndim > 2 and X.size else X
    # The first row is enough to check the shape and the type.
    check_features(flat[:1] if flat.ndim else flat, name, dtype=dtype)
    step = max(1, BLOCK_NUMBERS // flat.shape[1])
    fingerprints = []
    for start in range(0, len(flat), step):
        block = form.apply(flat[start : start + step], name)
        rows = check_features(block, name, dtype=dtype, first_row=start)
        fingerprints.append(row_fingerprints(rows))
    return Rows(flat, X.shape[1:], dtype, device, np.concatenate(fingerprints), form=form)


def _mapped(path: Path, name: str) -> np.memmap:
    """Open a ``.npy`` file as a memory map."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ValueError("it is a folder")
        if not stat.S_ISREG(mode):
            raise ValueError("it is not a regular file")
        with warnings.catch_warnings():
            # Python's parser warns about odd literals in a damaged header.
            warnings.simplefilter("ignore")
            return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy raises a dozen types of errors on damaged headers
        is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        cause = "a path from another folder" if is_missing else "another format, or a cut file"
        raise InputError(
            f"{name} must be a .npy file that numpy.save wrote, if it is a path",
            got=f"{name} = {str(path)!r} ({error})",
            cause=cause,
            cure="read other formats with leadline.data.load(path).X",
        ) from error


def check_targets(rows: Rows, targets: Rows, validation: Any) -> None:
    """Refuse targets that do not match the rows, and a validation share next to targets.

    Raises:
        InputError: The shapes differ, or ``validation`` is a share.
    """
    target_shape = (len(targets), *targets.row_shape)
    row_shape = (len(rows), *rows.row_shape)
    if target_shape != row_shape:
        raise InputError(
            "targets must have the shape of X",
            got=f"targets of shape {target_shape} for X of shape {row_shape}",
            cure="select the same rows of both",
        )
    if isinstance(validation, float):
        raise InputError(
            "validation must not be a share if targets are given",
            got=f"validation = {validation}",
            cause="validation measures the reconstruction of clean rows, not of targets",
            cure="give clean rows as validation=, or validation=None to train without",
        )


def split(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Return training rows and validation rows, drawn from a separate stream of the seed.

    Raises:
        InputError: The share leaves no rows for training or for validation.
    """
    num_held_out = round(share * len(rows)) if 0 < share < 1 else 0
    if not 0 < num_held_out < len(rows):
        raise InputError(
            "validation must be a share in (0, 1) that leaves rows for training and validation",
            got=f"validation = {share} of {len(rows)} rows",
            cure="use 0.1, give validation rows, or validation=None to train without",
        )
    order = numpy_generator(seed, "autoencoders.split").permutation(len(rows))
    return rows.select(order[num_held_out:]), rows.select(order[:num_held_out])
