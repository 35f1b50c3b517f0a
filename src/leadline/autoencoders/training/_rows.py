"""Rows on their way into training: from memory, or from a file that may be larger than memory.

Both give the same numbers, and so the same training to the bit: what is summed over all rows is summed in blocks whose
size follows from the rows' width, wherever the rows are.
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
"""Numbers of the data that are held in memory once more while they are shuffled, corrupted or checked."""


AS_THEY_ARE = RowForm(scale="whole")
"""The form of rows for a module of the user's own: whatever they are, they are not changed."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Finite rows, taken by their numbers; made by :func:`open_rows`."""

    source: Tensor | np.ndarray
    """Shape (n, features): a tensor on the device where training takes place, or a memory map of a file."""
    row_shape: tuple[int, ...]
    """Shape of a row before it was flattened."""
    dtype: type[np.floating]
    device: torch.device
    fingerprints: UInt64[np.ndarray, " n"]
    """Of each row; see :func:`leadline.data.row_fingerprints`."""
    index: np.ndarray | None = None
    """The rows of a memory map that are meant, in their order; ``None`` for all."""
    form: RowForm = AS_THEY_ARE
    """The columns and the scale that the rows were brought to."""

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
        """The rows with these numbers, in this order."""
        if isinstance(self.source, Tensor):
            return self.source[order]
        wanted = order.cpu().numpy()
        wanted = wanted if self.index is None else self.index[wanted]
        by_place = np.argsort(wanted)  # a disk reads forwards
        rows = np.empty((len(wanted), self.width), self.dtype)
        part = self.source[wanted[by_place]]
        rows[by_place] = self.form.apply(part) if part.dtype.kind in "iu" else part
        return torch.from_numpy(rows).to(self.device)

    def blocks(self) -> Iterator[Float[Tensor, "rows features"]]:
        """All rows in their order, block by block."""
        for part in torch.arange(len(self), device=self.device).split(
            max(1, BLOCK_NUMBERS // self.width)
        ):
            yield self.take(part)

    def select(self, numbers: np.ndarray) -> "Rows":
        """Some of the rows, in this order; those in a file stay there."""
        if isinstance(self.source, Tensor):
            chosen = self.source[torch.from_numpy(numbers).to(self.device)]
            return replace(self, source=chosen, fingerprints=self.fingerprints[numbers])
        index = numbers if self.index is None else self.index[numbers]
        return replace(self, fingerprints=self.fingerprints[numbers], index=index)

    def mean(self) -> Float[Tensor, " features"]:
        """The mean row, summed in float64."""
        total = sum(block.sum(0, dtype=torch.float64) for block in self.blocks())
        return (torch.as_tensor(total) / len(self)).to(
            torch.from_numpy(np.empty(0, self.dtype)).dtype
        )


def open_rows(
    X: Any, name: str, dtype: type[np.floating], device: torch.device, form: RowForm | None = None
) -> Rows:
    """Check rows and make them ready for training.

    Args:
        X: array-like, tensor, data frame or ``Dataset`` of shape (n, ...); a ``numpy.memmap``, or the path of a
            ``.npy`` file, which are read block by block and never as a whole.
        name: what messages call the rows.
        dtype: the model's type of number.
        device: where training takes place.
        form: the columns and the scale that the rows are brought to; by default their own, with pixels divided by 255.

    Raises:
        InputError: not finite numbers, no rows, or a file that is no ``.npy``.
    """
    if isinstance(X, (str, PathLike)):
        X = _mapped(checks.path(X, name), name)
    form = RowForm.of(X, name) if form is None else form
    if isinstance(X, np.memmap):
        return _checked_by_blocks(X, name, dtype, device, form)
    array = form.apply(X, name)
    row_shape = array.shape[1:]
    flat = array.reshape(len(array), -1) if len(row_shape) > 1 and array.size else array
    rows = check_features(flat, name, dtype=dtype)
    source = torch.from_numpy(np.array(rows, order="C")).to(device)
    return Rows(source, row_shape, dtype, device, row_fingerprints(rows), form=form)


def _checked_by_blocks(
    X: np.memmap, name: str, dtype: type[np.floating], device: torch.device, form: RowForm
) -> Rows:
    if X.ndim > 2 and not X.flags.c_contiguous:
        raise InputError(
            "a memory map of images lies row by row",
            got=f"{name} of shape {X.shape} in Fortran order",
            cure=f"save it once more with np.save(path, np.ascontiguousarray({name}))",
        )
    flat = X.reshape(len(X), -1) if X.ndim > 2 and X.size else X
    check_features(flat[:1] if flat.ndim else flat, name, dtype=dtype)  # its shape
    step = max(1, BLOCK_NUMBERS // flat.shape[1])
    fingerprints = [
        row_fingerprints(
            check_features(
                form.apply(flat[start : start + step], name), name, dtype=dtype, first_row=start
            )
        )
        for start in range(0, len(flat), step)
    ]
    return Rows(flat, X.shape[1:], dtype, device, np.concatenate(fingerprints), form=form)


def _mapped(path: Path, name: str) -> np.memmap:
    """A ``.npy`` file as a memory map."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Python's parser warns about odd literals in a damaged header
            return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy raises a dozen kinds of errors on damaged headers
        is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        raise InputError(
            "rows in a file are a .npy file, as numpy.save writes it",
            got=f"{name} = {str(path)!r} ({error})",
            cause="a path from another folder"
            if is_missing
            else "another format, or a file that was cut",
            cure="read other formats with leadline.data.load(path).X",
        ) from error


def check_targets(rows: Rows, targets: Rows, validation: Any) -> None:
    """Refuse targets that are not one for each row, and validation rows whose targets would be lost."""
    shapes = [(len(each), *each.row_shape) for each in (targets, rows)]
    if shapes[0] != shapes[1]:
        raise InputError(
            "each row has its target, of the same shape",
            got="targets of shape {} for X of shape {}".format(*shapes),
            cure="select the same rows of both",
        )
    if isinstance(validation, float):
        raise InputError(
            "with targets of their own, rows are not held out by a share: validation is reconstruction of clean rows",
            got=f"validation = {validation}",
            cure="give clean rows as validation=, or validation=None to train without",
        )


def split(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Training rows and validation rows, by a stream of its own."""
    held_out = round(share * len(rows)) if 0 < share < 1 else 0
    if not 0 < held_out < len(rows):
        raise InputError(
            "the validation share must lie in (0, 1) and leave rows on both sides",
            got=f"validation = {share} of {len(rows)} rows",
            cure="use 0.1, give rows of their own, or validation=None to train without",
        )
    order = numpy_generator(seed, "autoencoders.split").permutation(len(rows))
    return rows.select(order[held_out:]), rows.select(order[:held_out])
