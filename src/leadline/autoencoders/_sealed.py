"""Safetensors files that carry a digest of all their bytes: encoders and checkpoints.

A document of plain values stands as JSON in the header, beside the tensors' names, types and shapes. The document holds
the SHA-256 of the whole file, computed with zeros in the place of the digest itself. One bit that changes anywhere is
noticed before any tensor is read. The header's sizes are checked against the file before the tensors are read.
"""

import hashlib
import json
import re
import stat
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from leadline import checks, storage
from leadline.errors import SaveError

LONGEST_HEADER = 2**26
"""Bytes of the longest header that is read; a header has about a hundred bytes for each tensor."""

_KEY = "leadline"
_UNKNOWN = "0" * 64
_DIGEST = re.compile(rb'\\"digest\\": \\"([0-9a-f]{64})\\"')


def seal(serialise: Callable[[dict[str, str]], bytes], document: Mapping[str, Any]) -> bytes:
    """The content of a file with a digest.

    Args:
        serialise: makes the file from the texts of its header, such as ``lambda texts: save(tensors, texts)`` with
            ``save`` from ``safetensors.numpy`` or ``safetensors.torch``.
        document: plain values for the header.
    """
    text = json.dumps({**document, "digest": _UNKNOWN}, sort_keys=True)
    content = serialise({_KEY: text})
    start, end = _place_of_digest(content)
    return content[:start] + _digest(content, start, end).encode() + content[end:]


def read_sealed(
    path: str | PathLike[str], what: str, schema: int, cure: str
) -> tuple[dict[str, Any], bytes]:
    """The document of a file that :func:`seal` made, and the whole content, whose digest is right.

    Args:
        path: of the file.
        what: names the kind of file in messages, such as ``"encoder"``.
        schema: the version of the document that this release reads.
        cure: what the user can do about a damaged file.

    Raises:
        FileNotFoundError: the file does not exist; NotADirectoryError where a folder on the way to it is a file.
        SaveError: it cannot be read, is of another kind or schema, or has changed since it was written.
    """
    path = checks.path(path, "path")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SaveError(f"{path} holds no readable {what} (it is not a regular file); {cure}")
        with path.open("rb") as file:
            document, begin = _document(file, path.stat().st_size)
            _check_schema(document, path, what, schema, cure)
            content = begin + file.read()
        start, end = _place_of_digest(begin)
        if _digest(content, start, end).encode() != content[start:end]:
            raise ValueError("it is damaged or from another release: its digest is wrong")
    except (FileNotFoundError, NotADirectoryError, SaveError):
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SaveError(f"{path} holds no readable {what} ({reason}); {cure}") from error
    return document, content


def _document(file: BinaryIO, size: int) -> tuple[dict[str, Any], bytes]:
    """The document in a header, and the bytes up to the header's end."""
    begin = file.read(8)
    length = int.from_bytes(begin, "little")
    if len(begin) < 8 or not 2 <= length <= min(size - 8, LONGEST_HEADER):
        raise ValueError("it is not a safetensors file, or it was cut")
    header = file.read(length)
    tensors = _object(header, "its header")
    texts = tensors.get("__metadata__")
    text = texts.get(_KEY) if isinstance(texts, dict) else None
    if not isinstance(text, str):
        raise ValueError("its header has no document of Leadline")
    return _object(text, "its document"), begin + header


def _object(text: str | bytes, name: str) -> dict[str, Any]:
    value = storage.parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    return value


def _check_schema(
    document: Mapping[str, Any], path: Path, what: str, schema: int, cure: str
) -> None:
    found = document.get("schema")
    if type(found) is int and found == schema:
        return
    if type(found) is int and 0 < found < schema:
        raise SaveError(
            f"{path} has {what} schema {found}, which has no digest and may have changed unnoticed; this release reads "
            f"schema {schema}: use the release that wrote it, or {cure}"
        )
    raise SaveError(
        f"{path} has {what} schema {checks.shown(found)}; this release reads schema {schema}: "
        f"use the release that wrote it, or {cure}"
    )


def _place_of_digest(content: bytes) -> tuple[int, int]:
    """Where the digits of the digest begin and end; the header holds exactly one."""
    length = int.from_bytes(content[:8], "little")
    found = list(_DIGEST.finditer(content, 8, 8 + length))
    if len(found) != 1:
        raise ValueError("its header has no digest")
    return found[0].span(1)


def _digest(content: bytes, start: int, end: int) -> str:
    """The digest of a content in which ``start:end`` counts as zeros."""
    view = memoryview(content)
    state = hashlib.sha256(view[:start])
    state.update(_UNKNOWN.encode())
    state.update(view[end:])
    return state.hexdigest()
