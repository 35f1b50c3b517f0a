"""A JSON document and one binary file in the same folder, replaced together.

The name of the binary file contains the digest of its content, and the document contains that name.
The document is written last, so a reader sees either the old pair or the new pair, never a mixture.
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
"""Number of hexadecimal digits of the SHA-256 in the name of a binary file."""

MAX_READS = 100
"""Maximum number of attempts of a reader while writers keep replacing the document."""

IsOurs = Callable[[Mapping[str, Any]], bool]
"""A function that returns true for documents that the same kind of writer wrote."""


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
        name: name of the JSON file.
        document: plain values; the name of the binary file is added under the key ``kind``.
        kind: first part of the binary file's name: ``"arrays"`` gives
            ``arrays-<digest>.safetensors``.
        content: content of the binary file, or ``None`` for a document without a binary file.
        is_ours: returns true for documents that may be replaced.

    Raises:
        SaveError: the folder cannot be written, another process is writing into it, or a file with
            this name was not written by Leadline. The earlier files are left unchanged.
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
    """Read a document and its binary file.

    If a writer replaces the pair in the meantime, it is read again.

    Returns:
        The document, and the content of its binary file or ``None``.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: the document is not a JSON object, or the binary file has changed since it was
            written.
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
        SaveError: another program wrote the file at ``path``, or ``path`` is a symbolic link, whose
            target belongs to another folder.
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
    """Return the digest that belongs into the name of a binary file with this content."""
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
        # Documents of release 0.1 contain the whole digest instead of a file name.
        named = f"{kind}-{named[:DIGITS]}.safetensors"
    if not isinstance(named, str) or not re.fullmatch(_pattern(kind), named):
        raise ValueError(f"{named!r} is not the name of its {kind}")
    content = read(path.parent / named)
    if digest(content) not in named:
        raise ValueError(f"{named} has changed since it was written")
    return content


def _remove_stale(folder: Path, kind: str, keep: str | None) -> None:
    """Delete the binary files of earlier documents.

    A file belongs to an earlier document if its name contains the digest of its content.
    """
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
