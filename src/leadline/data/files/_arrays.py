"""Safe loading of arrays in NumPy's formats, without ``numpy.load``.

``numpy.load`` allocates as much memory as a header declares, and raises a dozen kinds of errors on
damaged files. This module compares the header with the size of the file before it allocates memory,
and never unpickles.
"""

import io
import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from leadline.data._classes import one_per_row
from leadline.data._dataset import Dataset, check_features
from leadline.data._memory import refuse_expansion, refuse_too_large
from leadline.data._pixels import DIVIDED, flatten_images, scale_pixels
from leadline.data._spread import fitting_type
from leadline.data.files._labels import Labels, Read, listed, refuse_unknown
from leadline.data.files._regular import open_regular, refusing_damage
from leadline.errors import InputError

LONGEST_HEADER = 2**16
"""Maximum length of an array's header in bytes; NumPy's own headers have 128."""

BLOCK = 2**20
"""Number of bytes that are read at a time."""

_MAGIC = b"\x93NUMPY"
_SAVE = "save it once more with np.save or np.savez"
_UNCOMPRESSED = "save it without compression: np.savez instead of np.savez_compressed"


def load_npz(path: Path, labels: str | None) -> Read:
    """Load the arrays ``X`` and, if it exists, ``y`` of an archive."""
    with _opened(path) as (archive, members):
        names = list(members)
        if "X" not in members:
            raise InputError(
                "an .npz file must hold the features as the array X",
                got=f"arrays {listed(names)}" if names else "an archive without arrays",
                cure="np.savez(path, X=features, y=labels)",
            )
        refuse_unknown(labels, names, "array")
        label_name = labels or ("y" if "y" in members else None)
        X = _read_member(archive, members["X"], "X")
        y = _read_member(archive, members[label_name], label_name) if label_name else None
    return _from_arrays(X, y, path.stem, label_name)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of an archive by name. They have any shape and contain numbers or text.

    Raises:
        InputError: the file is not a regular file, is damaged, contains an object array, or is too
            large for the free memory.
    """
    with _opened(path) as (archive, members):
        return {name: _read_member(archive, member, name) for name, member in members.items()}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an archive, and return it with its members by the names of their arrays."""
    with open_regular(path) as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            raise InputError(
                "an .npz file is an archive of arrays",
                got="a single array",
                cure="name the file .npy",
            )
        file.seek(0)
        with refusing_damage(path.name, cure=_SAVE):
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive, _members(archive)


def load_npy(path: Path, labels: str | None) -> Read:
    """Load the array of a file as features without labels."""
    if labels is not None:
        raise InputError(
            "an .npy file holds one array, and so no labels",
            got=f"labels = {labels!r}",
            cure="np.savez(path, X=features, y=labels) keeps both in an .npz file",
        )
    return _from_arrays(read_npy(path), None, path.stem, None)


def read_npy(path: Path) -> np.ndarray:
    """Return the array in a file. It has any shape and contains numbers or text.

    Raises:
        InputError: the file is not a regular file, is damaged, contains an object array, or is too
            large for the free memory.
    """
    with open_regular(path) as file:
        if file.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
            raise InputError(
                "an .npy file is a single array",
                got="an archive of arrays",
                cure="name the file .npz",
            )
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        return _read_array(file, length, path.name)


def map_npy(path: Path) -> np.memmap:
    """Return a memory map of the numbers in a file, which may be larger than the memory.

    Raises:
        InputError: the file is not a regular file, is damaged, or is not an array of numbers.
    """
    with open_regular(path) as file:
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        with refusing_damage(path.name, cure=_SAVE):
            header = _read_header(file, path.name)
        _check_header(header, length, path.name)
        if header.dtype.kind not in "biuf" or 0 in header.shape:
            what = f"{path.name} of dtype {header.dtype} and shape {header.shape}"
            raise InputError("a memory map must hold real numbers, at least one", got=what)
        order = "F" if header.is_fortran else "C"
        return np.memmap(file, header.dtype, "r", header.num_bytes, header.shape, order)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive by the names of their arrays."""
    members = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name in members:
            raise InputError(
                "every array of an archive needs a name of its own",
                got=f"two arrays named {name!r}",
            )
        members[name] = member
    return members


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    if member.flag_bits & 1:
        raise InputError(
            "the file must be readable",
            got=f"{name} is encrypted",
            cure="save it without a password",
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(
            "arrays must be stored plainly or deflated, as NumPy stores them",
            got=f"{name} is compressed by method {member.compress_type}",
            cure=_SAVE,
        )
    # The size in a damaged entry may be larger than the file.
    stored = min(member.compress_size, Path(archive.filename or "").stat().st_size)
    refuse_expansion(member.file_size, stored, name, cure=_UNCOMPRESSED)
    with refusing_damage(name, cure=_SAVE), archive.open(member) as stream:
        return _read_array(stream, member.file_size, name)


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool
    num_bytes: int
    """Length of the header in bytes."""


def _read_array(stream: IO[bytes], length: int, name: str) -> np.ndarray:
    """Read one array from a stream of ``length`` bytes."""
    with refusing_damage(name, cure=_SAVE):
        header = _read_header(stream, name)
    _check_header(header, length, name)
    count = math.prod(header.shape)
    stored = count * header.dtype.itemsize
    working = stored + count * (np.dtype(np.float32).itemsize + 1)
    refuse_too_large(
        working,
        f"{name} of shape {header.shape}, {header.dtype}",
        cure="take fewer rows or columns",
    )
    content = np.empty(stored, np.uint8)
    with refusing_damage(name, cure=_SAVE):
        for start in range(0, stored, BLOCK):
            part = stream.read(min(BLOCK, stored - start))
            content[start : start + len(part)] = np.frombuffer(part, np.uint8)
            if len(part) < min(BLOCK, stored - start):
                raise EOFError(
                    f"it ends after {header.num_bytes + start + len(part)} of {length} bytes"
                )
        if stream.read(1):  # At the end of a member, zipfile compares the checksum.
            raise ValueError("it is longer than its header says")
    order = "F" if header.is_fortran else "C"
    array = content.view(header.dtype) if stored else np.zeros(count, header.dtype)
    return _plain(array.reshape(header.shape, order=order), name)


def _read_header(stream: IO[bytes], name: str) -> _Header:
    begin = stream.read(8)
    if begin[:1] == b"\x80":
        raise _pickle(name)
    if begin[:6] != _MAGIC:
        raise ValueError("not an array in NumPy's format")
    version = (begin[6], begin[7]) if len(begin) == 8 else (0, 0)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(
            f"version {version[0]}.{version[1]} of NumPy's format, which holds no plain numbers or "
            "text"
        )
    width = 2 if version == (1, 0) else 4
    prefix = stream.read(width)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < width or length > LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    text = stream.read(length)
    parse = (
        np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    )
    with warnings.catch_warnings():
        # Python's parser warns about unusual literals in a damaged header.
        warnings.simplefilter("ignore")
        shape, is_fortran, dtype = parse(io.BytesIO(prefix + text), max_header_size=LONGEST_HEADER)
    return _Header(shape, dtype, is_fortran, len(begin) + width + length)


def _check_header(header: _Header, length: int, name: str) -> None:
    shape = header.shape
    dtype = header.dtype
    if dtype.hasobject:
        raise _pickle(name)
    if dtype.kind not in "biufUS" or dtype.shape:
        raise InputError("arrays must hold real numbers or text", got=f"{name} of dtype {dtype}")
    if any(type(side) is not int or side < 0 for side in shape) or len(shape) > 32:
        raise InputError(
            "the file must be readable",
            got=f"{name} declares the shape {str(shape)[:60]}",
            cure=_SAVE,
        )
    count = math.prod(shape)
    declared = header.num_bytes + count * dtype.itemsize
    if declared != length or (dtype.itemsize == 0 and count > 0):
        cause = "several arrays in one file, or a damaged header"
        raise InputError(
            "the header of an array must agree with the file",
            got=f"{name} declares the shape {str(shape)[:60]}, {dtype}, which takes "
            f"{_digits(declared)} bytes; the file holds {length}",
            cause=cause if declared < length else "a file cut short, or a damaged header",
            cure=_SAVE,
        )


def _plain(array: np.ndarray, name: str) -> np.ndarray:
    """Return the array with a dtype that every later step can convert."""
    if array.dtype.kind == "b":
        return array.view(np.uint8) != 0  # A damaged file may contain other bytes than 0 and 1.
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        codes = np.ascontiguousarray(array).view(
            np.dtype(np.uint32).newbyteorder(array.dtype.byteorder)
        )
        wrong = codes[(codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))]
        if wrong.size:
            raise InputError(
                "text must consist of characters of Unicode",
                got=f"{name} holds the code point {int(wrong[0]):#x}",
                cause="a damaged file",
                cure=_SAVE,
            )
    return array


def _digits(number: int) -> str:
    return (
        str(number) if number < 10**15 else f"about 10^{int(number.bit_length() * math.log10(2))}"
    )


def _pickle(name: str) -> InputError:
    return InputError(
        "arrays must be plain numbers or strings: pickled objects can run code and are never "
        "loaded",
        got=f"{name} is an object array, or a pickle",
        cause="rows that differ in length, missing values, or strings in an array of objects",
        cure="save it with .astype('float32'), labels with .astype(str)",
    )


def _from_arrays(X: np.ndarray, y: np.ndarray | None, name: str, label_name: str | None) -> Read:
    scaled = scale_pixels(X)
    notes = () if scaled is X else (DIVIDED,)
    image_size = None
    channels = 1
    if scaled.ndim in (3, 4):
        scaled, image_size, channels = flatten_images(scaled)
    divisor = None
    if X.dtype.kind in "iu":
        divisor = 1 if scaled is X else 255
    checked = check_features(scaled, dtype=fitting_type(scaled))
    dataset = Dataset(checked, None, name, image_size, channels, notes=notes, divisor=divisor)
    if y is None:
        return dataset, None
    label_name = label_name or "y"
    return dataset, Labels(one_per_row(y, len(dataset), label_name), label_name)
