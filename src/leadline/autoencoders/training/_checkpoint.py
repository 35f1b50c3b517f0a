"""The files of a training run: a checkpoint to resume from, and a journal of the epochs.

A folder holds ``checkpoint.safetensors`` and ``metrics.jsonl``. The checkpoint contains weights,
optimizer state, generator state and curves; its header identifies the run. It is replaced in one
step after each epoch. The journal has one line per epoch. Equal runs write equal files, as neither
file contains a time.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline import checks, storage
from leadline.autoencoders._sealed import read_sealed, seal
from leadline.checks import ShortRepr
from leadline.errors import InputError, SaveError

SCHEMA = 2
"""Version of the checkpoint. Files of other versions are refused; version 1 has no digest."""

CHECKPOINT = "checkpoint.safetensors"
JOURNAL = "metrics.jsonl"

BEGINNING = b'{"epoch": '
"""The first bytes of every line of a journal."""


COLUMNS = {
    "epoch": "epoch",
    "training_error": "training",
    "clean_error": "validation_clean",
    "own_error": "validation_corrupted",
}
"""Fields of :class:`Epoch` and the keys under which a line of the journal holds them."""


@dataclass(frozen=True)
class Epoch(ShortRepr):
    """The progress of one model; the progress callback receives it after each epoch."""

    model: int
    """Number of the model in the population; 0 for a single model."""
    epoch: int
    """Number of finished epochs; 0 before the first."""
    epochs: int
    """Maximum number of epochs."""
    training_error: float | None
    """Training error of this epoch, as in :class:`Pretrained`; ``None`` before the first."""
    clean_error: float | None
    """Error on clean validation rows; ``None`` without validation rows."""
    own_error: float | None
    """Error on corrupted validation rows; ``None`` without validation rows."""

    def line(self) -> str:
        """Return a line of the journal."""
        plain = {}
        for name, key in COLUMNS.items():
            number = getattr(self, name)
            # JSON has no infinity, so the errors of a diverged run are written as text.
            is_text = number is not None and not np.isfinite(number)
            plain[key] = repr(number) if is_text else number
        return storage.json_line(plain)


def _is_journal(path: Path) -> bool:
    """True if every line has the keys of :meth:`Epoch.line`; the last line may be incomplete."""
    try:
        lines, rest = storage.split_lines(storage.read(path))
        records = [storage.parse_json(line) for line in lines]
    except (OSError, ValueError):
        return False
    if not BEGINNING.startswith(rest[: len(BEGINNING)]):
        return False
    return all(
        isinstance(record, dict) and set(record) == set(COLUMNS.values()) for record in records
    )


@dataclass(frozen=True)
class Journal:
    """The folder of one run.

    Args:
        folder: The folder; it is created with the first checkpoint.
        configuration: Settings, data and initial weights of the run as plain values. Only a run
            with the same configuration resumes.
    """

    folder: Path
    configuration: Mapping[str, Any]

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and facts of the checkpoint; ``None`` if there is no checkpoint.

        Raises:
            InputError: The checkpoint belongs to another run, or Leadline did not write the
                folder's ``metrics.jsonl``.
            SaveError: The checkpoint is damaged, or has another schema.
        """
        from safetensors.torch import load

        path = self.folder / CHECKPOINT
        self._refuse_journal_of_others()
        try:
            document, content = read_sealed(
                path, "checkpoint", SCHEMA, "delete it to start again, or restore it"
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        with self.refusing_damage():
            configuration = checks.mapping(document.get("configuration"), "configuration")
            facts = checks.mapping(document.get("facts"), "facts")
            tensors = load(content)
        self._refuse_another(configuration, facts.get("threads"))
        return tensors, facts

    @contextmanager
    def refusing_damage(self) -> Iterator[None]:
        """Convert errors of a block that reads the checkpoint into one that names the file."""
        from safetensors import SafetensorError

        try:
            yield
        except (
            InputError,
            KeyError,
            ValueError,
            TypeError,
            RuntimeError,
            SafetensorError,
        ) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SaveError(
                f"{self.folder / CHECKPOINT} holds no readable checkpoint ({reason}); "
                "delete it to start again, or restore it"
            ) from error

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the checkpoint."""
        from safetensors.torch import save

        document = {"schema": SCHEMA, "configuration": self.configuration, "facts": facts}
        copies = {
            name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
        }
        storage.write(self.folder / CHECKPOINT, seal(lambda texts: save(copies, texts), document))

    def write(self, epochs: list[Epoch]) -> None:
        """Replace the journal by the epochs that the checkpoint holds."""
        storage.write(self.folder / JOURNAL, "".join(epoch.line() for epoch in epochs))

    def add(self, epoch: Epoch) -> None:
        """Append a line to the journal."""
        with storage.appending_lines(self.folder / JOURNAL) as file:
            # A crash may lose the line; the checkpoint, which is on the disk, restores it.
            file.append(epoch.line(), sync=False)

    def _refuse_journal_of_others(self) -> None:
        """Refuse to replace a ``metrics.jsonl`` that Leadline did not write."""
        path = self.folder / JOURNAL
        try:
            path.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise SaveError(f"could not write {path}: {error.strerror}") from error
        if path.is_symlink() or not _is_journal(path):
            raise InputError(
                "checkpoint must not be a folder with a metrics.jsonl of another program",
                got=f"{path}, which pretrain() did not write",
                cure="give another folder as checkpoint, or move this file away",
            )

    def _refuse_another(self, found: Mapping[str, Any], threads: Any) -> None:
        """Refuse a checkpoint whose configuration differs."""
        own = json.loads(json.dumps(self.configuration))
        found = storage.with_current_names(found)
        # Leadline 0.1 called the learning rate "lr".
        found = {("learning_rate" if name == "lr" else name): found[name] for name in found}
        for name in sorted({*own, *found}):
            if own.get(name) != found.get(name):
                raise InputError(
                    "checkpoint can only resume the run that wrote it",
                    got=f"{name} = {own.get(name)!r}; "
                    f"{self.folder / CHECKPOINT} has {found.get(name)!r}",
                    cause=_cause(name, threads),
                    cure="give another folder, or delete this checkpoint to start again",
                )


def _cause(name: str, threads: Any) -> str:
    """Return the likely reason why a run differs from the one that wrote the checkpoint."""
    now = torch.get_num_threads()
    if "fingerprint" in name and type(threads) is int and threads != now:
        return (
            f"rounding: data or weights were computed with {now} threads, and with {threads} "
            f"for the checkpoint (torch.set_num_threads({threads})); or they changed"
        )
    return "settings, data or initial weights that changed"


def discard(folder: Path) -> None:
    """Delete the checkpoints and journals of :func:`pretrain_many` in numbered folders.

    Only Leadline's files are deleted, and only folders that are then empty.

    Args:
        folder: The folder that contains the numbered folders.
    """
    with suppress(OSError):
        if folder.is_symlink():
            return
        for inner in sorted(folder.iterdir()):
            if inner.name.isdecimal() and not inner.is_symlink():
                _discard_one(inner)
        folder.rmdir()


def _discard_one(folder: Path) -> None:
    checkpoint = folder / CHECKPOINT
    journal = folder / JOURNAL
    storage.remove_leftovers(checkpoint, journal)
    with suppress(OSError):
        if _is_checkpoint(checkpoint):
            checkpoint.unlink()
        if journal.is_file() and not journal.is_symlink() and _is_journal(journal):
            journal.unlink()
        folder.rmdir()


def _is_checkpoint(path: Path) -> bool:
    """True if the header shows that :meth:`Journal.save` wrote the file."""
    from safetensors import SafetensorError, safe_open

    if path.is_symlink() or not path.is_file():
        return False
    try:
        with safe_open(path, "numpy") as file:
            document = storage.parse_json((file.metadata() or {})["leadline"])
        return {"schema", "configuration", "facts"} <= set(document)
    except (OSError, KeyError, ValueError, TypeError, SafetensorError):
        return False


def plain(value: Any) -> Any:
    """Return a value as JSON can store it; arrays are replaced by their fingerprint."""
    from leadline.data import fingerprint

    arrays: dict[str, np.ndarray] = {}
    tree = storage.pack(value, arrays)
    return [tree, fingerprint(*arrays.values())] if arrays else tree


def weights_fingerprint(state: Mapping[str, Tensor]) -> str:
    """Return the fingerprint of the initial weights of a run."""
    from leadline.data import fingerprint

    arrays = []
    for tensor in state.values():
        # NumPy has no bfloat16.
        is_bfloat16 = tensor.dtype == torch.bfloat16
        plain_tensor = tensor.detach().cpu()
        arrays.append((plain_tensor.float() if is_bfloat16 else plain_tensor).numpy())
    return fingerprint(*arrays)
