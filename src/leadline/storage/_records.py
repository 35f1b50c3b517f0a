"""Saving of dataclasses as JSON and arrays, and loading without executing code.

A folder contains ``sounding.json`` and one safetensors file with its arrays.
"""

import dataclasses
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from leadline.errors import LeadlineError, SaveError
from leadline.storage._documents import check_document, load_document, save_document
from leadline.storage._registry import class_of, is_name, name_of

SCHEMA = 2
"""Version of the file format.

Version 1, of Leadline 0.1, can still be read. Its names of classes contain the file of the class.
"""

DOCUMENT = "sounding.json"

_UNPACK_ERRORS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LeadlineError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors that a damaged document can cause while its records are built."""

Kind = TypeVar("Kind")


def save(record: Any, folder: str | PathLike[str]) -> None:
    """Write a dataclass of plain values, arrays and other dataclasses into ``folder``.

    Raises:
        SaveError: the folder cannot be written, or contains a ``sounding.json`` that Leadline did
            not write.
        TypeError: the record contains a value that cannot be saved.
    """
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, np.ndarray] = {}
    tree = pack(record, arrays)
    save_document(
        folder,
        DOCUMENT,
        {"schema": SCHEMA, "record": tree},
        kind="arrays",
        content=to_bytes(arrays) if arrays else None,
        is_ours=_is_sounding,
    )


def check_replaceable(folder: str | PathLike[str]) -> None:
    """Check that :func:`save` may replace ``sounding.json`` in a folder.

    Raises:
        SaveError: Leadline did not write this file.
    """
    check_document(Path(folder) / DOCUMENT, _is_sounding)


def load(folder: str | PathLike[str], kind: type[Kind]) -> Kind:
    """Load the record that :func:`save` wrote, and check that it is an instance of ``kind``.

    Raises:
        SaveError: the folder contains no sounding, a damaged sounding, or a sounding of another
            kind or schema.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    path = Path(folder) / DOCUMENT
    try:
        document, content = load_document(path, "arrays")
        arrays = {} if content is None else from_bytes(content)
    except FileNotFoundError as error:
        raise SaveError(
            f"{error.filename or folder} does not exist; was the sounding saved elsewhere?"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        raise SaveError(
            f"{path.parent} holds no readable sounding ({error}); take it again or restore it"
        ) from error
    if document.get("schema") not in (1, SCHEMA):
        raise SaveError(
            f"{path} has schema {document.get('schema')!r}; this release reads schema {SCHEMA}"
        )
    try:
        record = unpack(document["record"], arrays)
    except _UNPACK_ERRORS as error:
        if document.get("schema") == 1:
            raise SaveError(
                f"{path} was written by Leadline 0.1 and cannot be read any more ({error!r}); "
                "measure again"
            ) from error
        raise SaveError(f"{path} is damaged or from another release ({error!r})") from error
    if not isinstance(record, kind):
        raise SaveError(f"{path} holds a {type(record).__name__}, not a {kind.__name__}")
    return record


def _is_sounding(document: Mapping[str, Any]) -> bool:
    record = document.get("record")
    name = record.get("$type") if isinstance(record, dict) else None
    return isinstance(document.get("schema"), int) and isinstance(name, str) and is_name(name)


def pack(value: Any, arrays: dict[str, np.ndarray], name: str = "record") -> Any:
    """Turn a value into JSON, moving its arrays into ``arrays``.

    Raises:
        TypeError: the value contains an item that cannot be saved. The error gives its dotted name.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # UTF-8 cannot encode a lone surrogate.
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.generic):
        return pack(value.item(), arrays, name)
    if isinstance(value, np.ndarray):
        return _pack_array(value, arrays, name)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if field.init
        }
        inner = {key: pack(item, arrays, f"{name}.{key}") for key, item in fields.items()}
        kind = name_of(type(value))
        if kind is None:
            raise TypeError(
                f"{name} is a {type(value).__name__}, which has no name in files; see "
                "storage.record()"
            )
        return {"$type": kind, "fields": inner}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, (str, int)):
                raise TypeError(
                    f"{name} has the key {key!r}; only text and whole numbers can be saved as keys"
                )
        return {"$map": [[key, pack(item, arrays, f"{name}.{key}")] for key, item in value.items()]}
    if isinstance(value, (tuple, list)):
        items = [pack(item, arrays, f"{name}[{i}]") for i, item in enumerate(value)]
        return {"$tuple" if isinstance(value, tuple) else "$list": items}
    raise TypeError(f"{name} is a {type(value).__name__}, which cannot be saved")


def _pack_array(value: np.ndarray, arrays: dict[str, np.ndarray], name: str) -> Any:
    if value.dtype.kind == "U":
        return {"$texts": value.tolist()}
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise TypeError(f"{name} is an array of {value.dtype}, which cannot be saved")
    # The number makes names unique: {"a.b": …} and {"a": {"b": …}} have equal dotted names.
    place = f"{len(arrays)}:{name}"
    arrays[place] = np.array(value, order="C")
    return {"$array": place}


def unpack(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Turn JSON from :func:`pack` back into a value.

    Only Leadline's own dataclasses are created, and only by calling their constructors.
    """
    if not isinstance(tree, dict):
        return tree
    (tag, content), *rest = tree.items()
    match tag:
        case "$float":
            return float(content)
        case "$array":
            return arrays[content]
        case "$texts":
            return np.array(content, dtype=str)
        case "$map":
            return {key: unpack(item, arrays) for key, item in content}
        case "$tuple":
            return tuple(unpack(item, arrays) for item in content)
        case "$list":
            return [unpack(item, arrays) for item in content]
    if set(tree) != {"$type", "fields"}:
        raise ValueError(f"unknown entry {tag!r} {rest and 'and more'}")
    return class_of(tree["$type"])(
        **{key: unpack(item, arrays) for key, item in tree["fields"].items()}
    )
