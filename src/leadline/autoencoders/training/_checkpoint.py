"""The files that a training writes: a checkpoint from which it can resume, and a journal with a line per epoch.

A folder holds ``checkpoint.safetensors`` (weights, optimiser, generator, curves; what run it is, as JSON in the
header), replaced in one step after each epoch, and ``metrics.jsonl``, a line per epoch. Equal runs leave equal files:
neither knows the time of day.
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
"""Version of the checkpoint. A reader refuses other versions; files of version 1 have no digest."""

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
    """The progress of one training; the progress callback receives it after each epoch."""

    model: int
    """Number of the model in the population; 0 for a single one."""
    epoch: int
    """Epochs that are done; 0 before the first."""
    epochs: int
    """Epochs at most."""
    training_error: float | None
    """Of this epoch, as in :class:`Pretrained`; ``None`` before the first."""
    clean_error: float | None
    """On clean validation rows; ``None`` without any."""
    own_error: float | None
    """What the model is trained for, on validation rows."""

    def line(self) -> str:
        """A line of the journal."""
        numbers = {key: getattr(self, name) for name, key in COLUMNS.items()}
        # JSON has no infinity: a run that diverged says so in words.
        plain = {k: v if v is None or np.isfinite(v) else repr(v) for k, v in numbers.items()}
        return storage.json_line(plain)


def _is_journal(path: Path) -> bool:
    """True if every line of a file has the keys that :meth:`Epoch.line` writes; the last may be cut off."""
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
        folder: made when the first checkpoint is written.
        configuration: settings, data and start of the run, as plain values: only the same run goes on.
    """

    folder: Path
    configuration: Mapping[str, Any]

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of the last checkpoint, or ``None`` where there is none.

        Raises:
            InputError: it belongs to another run, or the folder holds a ``metrics.jsonl`` that no training wrote.
            SaveError: it is damaged, or of a schema that this release does not read.
        """
        from safetensors.torch import load

        path = self.folder / CHECKPOINT
        self._refuse_journal_of_others()
        try:
            document, content = read_sealed(
                path, "checkpoint", SCHEMA, "delete it to begin again, or restore it"
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
        """Turn the errors of a block that reads the checkpoint into one that names the file."""
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
                "delete it to begin again, or restore it"
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
        """Begin the journal anew with the epochs that the checkpoint holds."""
        storage.write(self.folder / JOURNAL, "".join(epoch.line() for epoch in epochs))

    def add(self, epoch: Epoch) -> None:
        """Add a line."""
        with storage.appending_lines(self.folder / JOURNAL) as file:
            # The checkpoint, which is on the disk, restores a line that a crash loses.
            file.append(epoch.line(), sync=False)

    def _refuse_journal_of_others(self) -> None:
        """Refuse to replace a ``metrics.jsonl`` that no training wrote."""
        path = self.folder / JOURNAL
        try:
            path.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise SaveError(f"could not write {path}: {error.strerror}") from error
        if path.is_symlink() or not _is_journal(path):
            raise InputError(
                "a training replaces only a metrics.jsonl that a training wrote",
                got=f"{path}, which holds something else",
                cure="give another folder as checkpoint, or move this file away",
            )

    def _refuse_another(self, found: Mapping[str, Any], threads: Any) -> None:
        here = json.loads(json.dumps(self.configuration))
        found = storage.with_current_names(found)
        for name in sorted({*here, *found}):
            if here.get(name) != found.get(name):
                raise InputError(
                    "a checkpoint goes on with the run that wrote it, and with no other",
                    got=f"{name} = {here.get(name)!r}; {self.folder / CHECKPOINT} has {found.get(name)!r}",
                    cause=_cause(name, threads),
                    cure="give another folder, or delete this checkpoint to begin again",
                )


def _cause(name: str, threads: Any) -> str:
    """The likely reason why a run differs from the one that wrote the checkpoint."""
    now = torch.get_num_threads()
    if "fingerprint" in name and type(threads) is int and threads != now:
        return (
            f"data or weights that were computed with {now} threads and, for the checkpoint, with {threads}, which may "
            f"round otherwise (torch.set_num_threads({threads})); or that changed since"
        )
    return "settings, data or starting weights that changed since"


def discard(folder: Path) -> None:
    """Delete the checkpoints and journals that :func:`pretrain_many` wrote into numbered folders below ``folder``.

    Only files that a training wrote are deleted, and only folders that are empty then.
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
    """True if the header of a safetensors file says that a training wrote it."""
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
    """A setting, an architecture or a corruption in a form that JSON keeps; arrays by their fingerprint."""
    from leadline.data import fingerprint

    arrays: dict[str, np.ndarray] = {}
    tree = storage.pack(value, arrays)
    return [tree, fingerprint(*arrays.values())] if arrays else tree


def weights_fingerprint(state: Mapping[str, Tensor]) -> str:
    """The fingerprint of the weights that a run starts from."""
    from leadline.data import fingerprint

    tensors = [tensor.detach().cpu() for tensor in state.values()]
    return fingerprint(
        *(t.float().numpy() if t.dtype == torch.bfloat16 else t.numpy() for t in tensors)
    )
