"""A JSON document with one binary file beside it, replaced together.

The binary file carries the digest of its content in its name, and the document names it. The document is written last:
a reader meets the old pair or the new one and never a mixture.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from leadline.errors import SaveError
from leadline.storage._files import remove_leftovers, sync_folder, write, writing
from leadline.storage._json import canonical_json, parse_json
from leadline.storage._locks import PATIENCE, lock_folder
from leadline.storage._paths import not_written, open_regular, read

DIGITS = 16
"""Hexadecimal digits of the SHA-256 that the name of a binary file carries."""

MAX_READS = 100
"""Times that a reader begins again because a writer has replaced the document meanwhile."""

IsOurs = Callable[[Mapping[str, Any]], bool]
"""True for documents that this kind of writer wrote."""


def save_document(
    folder: str | PathLike[str],
    name: str,
    document: Mapping[str, Any],
    *,
    kind: str,
    content: bytes | None,
    is_ours: IsOurs,
) -> None:
    """Replace the document ``name`` in ``folder`` and its binary file.

    Args:
        folder: created if it is missing.
        name: of the JSON file.
        document: plain values; the name of the binary file is added under the key ``kind``.
        kind: the first part of the binary file's name: ``"arrays"`` gives ``arrays-<digest>.safetensors``.
        content: of the binary file, or ``None`` for a document without one.
        is_ours: recognises the documents that may be replaced.

    Raises:
        SaveError: the folder cannot be written, another process writes it, or it holds a file ``name`` that is not
            ours. What was there is untouched.
    """
    folder = Path(folder)
    path = folder / name
    with lock_folder(folder, patience=PATIENCE):
        check_document(path, is_ours)
        full = dict(document)
        if content is not None:
            beside = f"{kind}-{digest(content)}.safetensors"
            full[kind] = beside
            with writing(folder / beside, slot=f"{kind}.safetensors") as file:
                file.write(content)
        else:
            remove_leftovers(folder / f"{kind}.safetensors")
        write(path, canonical_json(full))
        _remove_stale(folder, kind, keep=full.get(kind))


def load_document(path: Path, kind: str) -> tuple[dict[str, Any], bytes | None]:
    """Read a document and its binary file; a pair that a writer replaces meanwhile is read again.

    Returns:
        The document, and the content of its binary file or ``None``.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: the document is not a JSON object, or the binary file has changed since it was written.
    """
    text = read(path)
    for _ in range(MAX_READS):
        document = _as_object(text)
        try:
            return document, _beside(path, document.get(kind), kind)
        except (OSError, ValueError):
            newer = read(path)
            if newer == text:
                raise
            text = newer
    raise ValueError("another process replaces it again and again")


def check_document(path: Path, is_ours: IsOurs) -> None:
    """Refuse to replace a file that this kind of writer did not write.

    Raises:
        SaveError: ``path`` is there and is not ours, or is a symbolic link: its target belongs to another folder.
    """
    try:
        text = read(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise not_written(path, error) from error
    with suppress(ValueError):
        if not path.is_symlink() and is_ours(_as_object(text)):
            return
    raise SaveError(
        f"could not write {path}: the file that is there was not written by Leadline; "
        "name another folder, or move that file away"
    )


def digest(content: bytes) -> str:
    """The digits that the name of a binary file carries."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _as_object(text: bytes) -> dict[str, Any]:
    document = parse_json(text)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return document


def _beside(path: Path, named: Any, kind: str) -> bytes | None:
    if named is None:
        return None
    if isinstance(named, str) and re.fullmatch("[0-9a-f]{64}", named):
        named = f"{kind}-{named[:DIGITS]}.safetensors"  # files of release 0.1 hold the whole digest
    if not isinstance(named, str) or not re.fullmatch(_pattern(kind), named):
        raise ValueError(f"{named!r} is not the name of its {kind}")
    content = read(path.parent / named)
    if digest(content) not in named:
        raise ValueError(f"{named} has changed since it was written")
    return content


def _remove_stale(folder: Path, kind: str, keep: str | None) -> None:
    """Delete the binary files of earlier documents. Their mark: the digest in the name is that of the content."""
    for path in folder.glob(f"{kind}-*.safetensors"):
        marked = re.fullmatch(_pattern(kind), path.name)
        if marked is None or path.name == keep or path.is_symlink():
            continue
        with suppress(OSError):
            with open_regular(path) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
            if found == marked[1]:
                path.unlink()
    sync_folder(folder)


def _pattern(kind: str) -> str:
    return f"{kind}-([0-9a-f]{{{DIGITS}}})\\.safetensors"
