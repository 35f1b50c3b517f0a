"""Safetensors files with a digest of all their bytes, for encoders and checkpoints.

The header holds a document of plain values as JSON, next to the names, types and shapes of the
tensors. The document contains the SHA-256 of the whole file, computed with zeros in place of the
digest. A change of any bit is detected before a tensor is read. The sizes in the header are checked
against the file before that.
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
"""Maximum length of a header in bytes; a header has about a hundred bytes for each tensor."""

_KEY = "leadline"
_UNKNOWN = "0" * 64
_DIGEST = re.compile(rb'\\"digest\\": \\"([0-9a-f]{64})\\"')


def seal(serialise: Callable[[dict[str, str]], bytes], document: Mapping[str, Any]) -> bytes:
    """Return the content of a file with a digest.

    Args:
        serialise: Returns the file for the texts of its header, such as
            ``lambda texts: save(tensors, texts)`` with ``save`` from ``safetensors.numpy``.
        document: Plain values for the header.
    """
    text = json.dumps({**document, "digest": _UNKNOWN}, sort_keys=True)
    content = serialise({_KEY: text})
    start, end = _place_of_digest(content)
    return content[:start] + _digest(content, start, end).encode() + content[end:]


def read_sealed(
    path: str | PathLike[str], what: str, schema: int, cure: str
) -> tuple[dict[str, Any], bytes]:
    """Return the document and the content of a file that :func:`seal` made.

    Args:
        path: The file to read.
        what: The kind of the file in messages, such as ``"encoder"``.
        schema: The version of the document that this release reads.
        cure: The cure in messages about a damaged file.

    Raises:
        FileNotFoundError: The file does not exist.
        NotADirectoryError: A parent of the file is not a folder.
        SaveError: The file cannot be read, has another kind or schema, or its digest is wrong.
    """
    path = checks.path(path, "path")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SaveError(f"{path} holds no readable {what} (it is not a regular file); {cure}")
        with path.open("rb") as file:
            document, header = _document(file, path.stat().st_size)
            _check_schema(document, path, what, schema, cure)
            content = header + file.read()
        start, end = _place_of_digest(header)
        if _digest(content, start, end).encode() != content[start:end]:
            raise ValueError("it is damaged or from another release: its digest is wrong")
    except (FileNotFoundError, NotADirectoryError, SaveError):
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SaveError(f"{path} holds no readable {what} ({reason}); {cure}") from error
    return document, content


def _document(file: BinaryIO, size: int) -> tuple[dict[str, Any], bytes]:
    """Return the document in a header, and the bytes up to the end of the header."""
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
    written = document.get("schema")
    if type(written) is int and written == schema:
        return
    if type(written) is int and 0 < written < schema:
        raise SaveError(
            f"{path} was written by an earlier release of Leadline ({what} schema {written}, "
            f"this release reads schema {schema}); use that release, or {cure}"
        )
    raise SaveError(
        f"{path} has {what} schema {checks.shown(written)}; this release reads schema {schema}; "
        f"use the release that wrote it, or {cure}"
    )


def _place_of_digest(content: bytes) -> tuple[int, int]:
    """Return the first and last place of the digest, which must occur once in the header."""
    length = int.from_bytes(content[:8], "little")
    matches = list(_DIGEST.finditer(content, 8, 8 + length))
    if len(matches) != 1:
        raise ValueError("its header has no digest")
    return matches[0].span(1)


def _digest(content: bytes, start: int, end: int) -> str:
    """Return the digest of a content, with zeros in place of ``start:end``."""
    view = memoryview(content)
    state = hashlib.sha256(view[:start])
    state.update(_UNKNOWN.encode())
    state.update(view[end:])
    return state.hexdigest()
