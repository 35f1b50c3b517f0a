"""Output folders of commands. Leadline replaces only the files that it wrote there itself.

A hidden manifest contains the digest of every file that a command wrote. If a file is not in the
manifest, or its content has changed since, the command raises an error before it starts to work.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from leadline.errors import InputError, SaveError
from leadline.storage._documents import check_document
from leadline.storage._files import remove_leftovers, sync_folder, write
from leadline.storage._json import canonical_json, parse_json
from leadline.storage._locks import lock_folder, short_digest
from leadline.storage._paths import not_written, read
from leadline.storage._records import check_replaceable

MANIFEST = ".leadline.json"
"""Name of the hidden file that lists the files that Leadline wrote into a folder."""

SCHEMA = 1


@contextmanager
def output_folder(
    folder: str | PathLike[str], *, files: Iterable[str] = (), soundings: Iterable[str] = ()
) -> "Iterator[OutputFolder]":
    """Lock a folder for a command, and check that only Leadline's own files will be replaced.

    Args:
        folder: created if it is missing.
        files: names of the files that the command will write, relative to the folder.
        soundings: names of the subfolders into which the command will save soundings.

    Raises:
        InputError: a file with one of these names was not written by Leadline, or has changed
            since.
        SaveError: another process is writing into the folder, or it cannot be written.
    """
    folder = Path(folder)
    with lock_folder(folder):
        outputs = OutputFolder(folder)
        names = tuple(files)
        outputs.check(names)
        for name in soundings:
            check_replaceable(folder / name)
        remove_leftovers(*(folder / name for name in (MANIFEST, *names)))
        outputs.remove_drafts(names)
        yield outputs


class OutputFolder:
    """A folder with a manifest of Leadline's own files.

    :func:`output_folder` opens it under a lock.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._digests = _read_manifest(folder / MANIFEST)

    def check(self, names: Iterable[str]) -> None:
        """Check that every file with one of these names was written by Leadline.

        Raises:
            InputError: a file is not in the manifest, has changed since it was written, or is a
                folder or a link.
        """
        for name in names:
            path = self.folder / name
            if not (path.exists() or path.is_symlink()) or self._is_ours(name):
                continue
            is_known = name in self._digests
            raise InputError(
                "a command replaces only the files that it wrote itself",
                got=f"{path}, which "
                + ("has changed since Leadline wrote it" if is_known else "Leadline did not write"),
                cure="name another folder, or move this file away",
            )

    def remove_drafts(self, names: Iterable[str]) -> None:
        """Remove the drafts that a killed command left behind."""
        drafts = [self._place_of_draft(name) for name in names]
        remove_leftovers(*drafts)
        _remove(drafts)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write one file, add it to the manifest and return its path.

        See :meth:`write_together`.
        """
        self.write_together({name: content})
        return self.folder / name

    def write_together(self, contents: Mapping[str, str | bytes]) -> None:
        """Write several files that belong together. If the disk is full, all earlier files stay.

        Raises:
            InputError: a file with one of these names was not written by Leadline.
            SaveError: a file could not be written.
        """
        drafts = {name: self._draft(name) for name in contents}
        try:
            for name, content in contents.items():
                write(drafts[name], content)
            self._put(drafts)
        finally:
            _remove(drafts.values())

    def produce(self, name: str, save: Callable[[Path], object]) -> Path:
        """Write one file with the function ``save``, add it to the manifest and return its path."""
        draft = self._draft(name)
        try:
            save(draft)
            self._put({name: draft})
        finally:
            _remove([draft])
        return self.folder / name

    def _draft(self, name: str) -> Path:
        """Return an unused path for the draft of a file.

        A draft gets its final name only after its digest is in the manifest.
        """
        draft = self._place_of_draft(name)
        try:
            draft.unlink(missing_ok=True)  # If the draft were a link, its target would be written.
        except OSError as error:
            raise not_written(self.folder / name, error) from error
        return draft

    def _place_of_draft(self, name: str) -> Path:
        return self.folder / f".leadline-{short_digest(name)}.draft"

    def _put(self, drafts: Mapping[str, Path]) -> None:
        """Rename the drafts.

        Meanwhile the manifest contains the old and the new digests. If the process is killed, every
        file is therefore still known.
        """
        self.check(drafts)
        digests = {name: _digest(draft) for name, draft in drafts.items()}
        for name, digest in digests.items():
            self._digests[name] = [*self._digests.get(name, []), digest]
        self._write_manifest()
        replaced: list[str] = []
        for name, draft in drafts.items():
            target = self.folder / name
            try:
                draft.replace(target)
            except OSError as error:
                raise not_replaced(target, error, replaced, [*drafts][len(replaced) :]) from error
            replaced.append(name)
        sync_folder(self.folder)
        for name, digest in digests.items():
            self._digests[name] = [digest]
        self._write_manifest()

    def _is_ours(self, name: str) -> bool:
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            return False
        return _digest(path) in self._digests.get(name, [])

    def _write_manifest(self) -> None:
        document = {"schema": SCHEMA, "program": "leadline", "files": self._digests}
        write(self.folder / MANIFEST, canonical_json(document))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def not_replaced(
    path: Path, error: OSError, replaced: Sequence[str], kept: Sequence[str]
) -> SaveError:
    """Return an error that lists the files that were replaced and the files that were not."""
    if not replaced:
        return not_written(path, error)
    return SaveError(
        f"could not write {path}: {error.strerror or error}; replaced: {', '.join(replaced)}; as "
        f"before: {', '.join(kept)}; run the command again to make them belong together"
    )


def _remove(drafts: Iterable[Path]) -> None:
    for draft in drafts:
        with suppress(OSError):
            draft.unlink()


def _is_manifest(document: Mapping[str, Any]) -> bool:
    files = document.get("files")
    return document.get("program") == "leadline" and isinstance(files, dict)


def _read_manifest(path: Path) -> dict[str, list[str]]:
    """Return the digests by file name. Entries of another form are ignored."""
    check_document(path, _is_manifest)
    try:
        files = parse_json(read(path))["files"]
    except FileNotFoundError:
        return {}
    return {
        name: [digest for digest in digests if isinstance(digest, str)]
        for name, digests in files.items()
        if isinstance(digests, list)
    }
