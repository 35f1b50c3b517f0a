"""Checks of arrays."""

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import PurePath
from typing import Any, NoReturn

import numpy as np

from leadline.checks._shown import shown
from leadline.errors import InputError

_EXACT = 2**53
"""Whole numbers up to this size are exact as float64."""

_DATA_ENDINGS = (".npz", ".npy", ".csv", ".parquet")
"""Endings of the files that ``leadline.data.load`` reads."""


def array(value: Any, name: str, *, wanted: str = "an array of numbers") -> np.ndarray:
    """Convert an array-like value to a NumPy array.

    Lists, NumPy arrays, torch tensors on any device and pandas objects are accepted. A masked cell
    of a NumPy masked array becomes NaN in an array of numbers, and ``None`` in other arrays. The
    dtype of the result is not checked.

    Raises:
        InputError: ``value`` is a text, a path, sparse, quantised, on the meta device, ragged,
            complex, or not array-like.

    >>> array(np.ma.masked_array([1, 2], mask=[False, True]), "x")
    array([ 1., nan])
    """
    if isinstance(value, (str, bytes, os.PathLike)):
        _refuse_text(value, name, wanted)
    if isinstance(value, (list, tuple)) and any(
        isinstance(item, np.ma.MaskedArray) for item in value
    ):
        value = _joined(value, name, wanted)
    if isinstance(value, np.ma.MaskedArray) and value.dtype.kind not in "cV":
        return _unmasked(value)
    if type(value).__module__.partition(".")[0] == "torch":
        value = _numbers_of_tensor(value, name, wanted)
    if type(value).__module__.startswith("scipy.sparse"):
        raise InputError(
            f"{name} must be dense", got=f"{name} = {shown(value)}", cure=f"use {name}.toarray()"
        )
    try:
        with warnings.catch_warnings() if isinstance(value, (list, tuple)) else nullcontext():
            if isinstance(value, (list, tuple)):
                # A masked cell in a list of lists becomes NaN on purpose, so NumPy need not warn.
                warnings.simplefilter("ignore")
            plain = np.asarray(value)
    except Exception as error:  # The conversion method of an object may raise any exception.
        raise InputError(
            f"{name} must be {wanted}",
            got=f"{name} = {shown(value)}",
            cause=f"rows that differ in length, or objects that NumPy cannot convert ({error})",
            cure="make the rows equal in length",
        ) from None
    if plain.dtype.kind in "cV":
        raise InputError(f"{name} must be {wanted}", got=f"{name} of dtype {plain.dtype}")
    if plain.dtype == object and not isinstance(value, np.ndarray) and plain.ndim == 0:
        raise InputError(f"{name} must be {wanted}", got=f"{name} = {shown(value)}")
    return plain


def _refuse_text(value: Any, name: str, wanted: str) -> NoReturn:
    """Raise an error for a text or a path, which is often the name of a file."""
    is_path = isinstance(value, os.PathLike)
    plain = os.fspath(value)
    is_file = isinstance(plain, str) and PurePath(plain).suffix.lower() in _DATA_ENDINGS
    cure = "pass the values themselves, not a name"
    if is_path or is_file:
        cure = f"leadline.data.load({plain!r}) reads the file; pass its result, or its X"
    raise InputError(
        f"{name} must be {wanted}",
        got=f"{name} = {shown(plain)}, {'a path' if is_path else 'a text'}",
        cure=cure,
    )


def _joined(value: Sequence[Any], name: str, wanted: str) -> np.ma.MaskedArray:
    """Join a list of masked arrays into one masked array.

    ``numpy.asarray`` would drop their masks.
    """
    try:
        with warnings.catch_warnings():
            # A masked cell becomes NaN on purpose, so NumPy need not warn.
            warnings.simplefilter("ignore")
            return np.ma.array(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} must be {wanted}", got=f"{name} = {shown(value)}", cause=str(error)
        ) from None


def _unmasked(value: np.ma.MaskedArray) -> np.ndarray:
    if not np.ma.is_masked(value):
        return np.asarray(value)
    kind = value.dtype
    if kind.kind in "biu":
        kept = value.compressed()
        is_exact = not kept.size or (kept.max() <= _EXACT and kept.min() >= -_EXACT)
        kind = np.dtype(float if is_exact else object)
    elif kind.kind != "f":
        kind = np.dtype(object)
    filled = np.asarray(value.data).astype(kind)
    filled[np.ma.getmaskarray(value)] = np.nan if kind.kind == "f" else None
    return filled


def _numbers_of_tensor(value: Any, name: str, wanted: str) -> np.ndarray:
    import torch

    if not isinstance(value, torch.Tensor):
        raise InputError(f"{name} must be {wanted}", got=f"{name} = {shown(value)}")
    cure = None
    if value.is_meta:
        cure = "tensors on the meta device hold no numbers; create the tensor on 'cpu'"
    elif value.layout is not torch.strided:
        cure = f"use {name}.to_dense()"
    elif value.is_quantized:
        cure = f"use {name}.dequantize()"
    elif value.is_complex():
        cure = f"use {name}.real or {name}.abs()"
    if cure is not None:
        raise InputError(
            f"{name} must be a dense tensor of real numbers",
            got=f"{name} = {shown(value)}",
            cure=cure,
        )
    value = value.detach().cpu()
    is_small_float = value.is_floating_point() and value.dtype not in (
        torch.float16,
        torch.float32,
        torch.float64,
    )
    return (value.float() if is_small_float else value).resolve_neg().numpy()
