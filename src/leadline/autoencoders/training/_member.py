"""One model during pretraining: its rows, random numbers, curves and checkpoint."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leadline.autoencoders._corruption import Corruption, Nothing
from leadline.autoencoders._rows import BLOCK_NUMBERS, Rows
from leadline.autoencoders.models._architecture import TrainableArchitecture
from leadline.autoencoders.training._checkpoint import Epoch, Journal, plain, weights_fingerprint
from leadline.autoencoders.training._engine import Engine
from leadline.autoencoders.training._pretrained import Ending, Pretrained
from leadline.autoencoders.training._resume import read_run
from leadline.autoencoders.training._settings import PretrainingSettings
from leadline.data import DIVIDED, fingerprint
from leadline.errors import InputError
from leadline.randomness import torch_generator
from leadline.sounding import Protocol

DIVERGED = 10.0
"""A run has diverged if its error is this many times the error before training."""

Block = tuple[Tensor, Tensor, Tensor | None]
"""The input of the encoder, the clean rows, and the entries where the loss counts, each of shape
(rows, features). The last is ``None`` if the loss counts everywhere."""


@dataclass(eq=False)
class Member:
    """One model during pretraining.

    Its seed has three streams next to that of the weights: the choice of the validation rows, their
    corruption (always the same), and the permutations and corruption of training.
    """

    number: int
    """Number of the model in the population."""
    model: nn.Module
    """The user's model; it is changed when training has ended."""
    architecture: TrainableArchitecture
    rows: Rows
    """The training rows."""
    held_out: Rows | None
    """The validation rows."""
    settings: PretrainingSettings
    targets: Rows | None = None
    """The rows to reconstruct; ``None`` for the training rows themselves."""
    journal: Journal | None = None
    progress: Callable[[Epoch], object] | None = None
    training_error: list[float] = field(default_factory=list)
    clean_error: list[float] = field(default_factory=list)
    own_error: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    """The weights of the best epoch."""
    best_epoch: int = 0
    ending: Ending | None = None
    """``None`` while the model is trained."""
    stack_size: int = 0
    """Number of models that are trained together; 0 before training."""
    memory: dict[str, Tensor] | None = None
    """The engine's state in a checkpoint; ``None`` before the first epoch."""

    def __post_init__(self):
        device = self.rows.device
        self.rows_seen = np.unique(np.concatenate([rows.fingerprints for rows in self._all_rows]))
        earlier = getattr(self.model, "rows_seen", None)
        if isinstance(earlier, np.ndarray):
            self.rows_seen = np.union1d(self.rows_seen, earlier)
        self.fingerprint = fingerprint(*(rows.fingerprints for rows in self._all_rows))
        self.generator = torch_generator(self.settings.seed, "autoencoders.training", device)
        mean = self.rows.mean()
        is_centred = self.settings.centre
        self.centre = self.architecture.centre(mean) if is_centred else torch.zeros_like(mean)
        # Validation rows in memory are corrupted once. Rows in a file are corrupted in every epoch,
        # always in the same way.
        is_in_memory = self.held_out is not None and not self.held_out.is_mapped
        self._validation_blocks = list(self._corrupted_validation()) if is_in_memory else None

    @property
    def corruption(self) -> Corruption:
        """The model's corruption; :class:`Nothing` if it has none."""
        corruption = getattr(self.model, "corruption", None)
        return corruption if isinstance(corruption, Corruption) else Nothing()

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.training_error)

    @property
    def shape(self) -> tuple[Any, ...]:
        """A key that is equal for members that can be stacked."""
        if not self.architecture.can_stack:
            return (self.number,)
        device = self.rows.device
        return (
            self.architecture,
            self.corruption.counts_everywhere,
            (len(self.rows), self.rows.width),
            self.settings.batch_size,
            self.rows.dtype,
            (device.type, device.index or 0),
            self.epoch,
        )

    def blocks(self) -> Iterator[Block]:
        """Yield the rows of one epoch, shuffled and corrupted, in blocks of whole batches."""
        batch = self.settings.batch_size
        length = max(1, BLOCK_NUMBERS // (batch * self.rows.width)) * batch
        device = self.rows.device
        if self.settings.shuffle:
            order = torch.randperm(len(self.rows), generator=self.generator, device=device)
        else:
            order = torch.arange(len(self.rows), device=device)
        for part in order.split(length):
            target = None if self.targets is None else self.targets.take(part)
            yield self._corrupted(self.rows.take(part), target, self.generator)

    def begin(self, engine: Engine, k: int) -> None:
        """Start as member ``k`` of the engine, from the checkpoint if there is one."""
        if self.memory is not None:
            assert self.journal is not None
            with self.journal.refusing_damage():
                engine.recall(k, self.memory)
            self.memory = None
        else:
            self._observe(engine, k)

    def finish_epoch(self, engine: Engine, k: int, training_error: float) -> None:
        """Validate, save and report after an epoch, as member ``k`` of the engine."""
        self.training_error.append(training_error)
        self._observe(engine, k)

    def result(self) -> Pretrained:
        """Return the result, and give the best weights to the user's model."""
        assert self.ending is not None
        state = self.architecture.moved(self.best, self.centre)
        self.model.load_state_dict(state)
        # A later pretraining of the model adds these rows to its own.
        setattr(self.model, "rows_seen", self.rows_seen)  # noqa: B010
        recorded = self.settings.record()
        seed = recorded.pop("seed")
        recorded |= {"stack": self.stack_size, "dtype": self.rows.dtype.__name__}
        pretrained = Pretrained(
            protocol=Protocol(recorded, (seed,), {"rows": self.fingerprint}),
            architecture=self.architecture,
            corruption=self.corruption,
            weights={name: tensor.cpu().numpy() for name, tensor in state.items()},
            rows_seen=self.rows_seen,
            training_error=np.array(self.training_error),
            clean_error=np.array(self.clean_error),
            own_error=np.array(self.own_error),
            best_epoch=self.best_epoch,
            ending=self.ending,
            notes=(DIVIDED,) if self.rows.form.scale == "divided" else (),
            form=self.rows.form,
            settings=self.settings,
        )
        if not self.architecture.can_be_built:
            object.__setattr__(pretrained, "custom", deepcopy(self.model))
        return pretrained

    def configuration(self) -> dict[str, Any]:
        """Return the values that identify the run: its checkpoint resumes no other run."""
        return {
            **self.settings.record(),
            "architecture": plain(self.architecture),
            "corruption": plain(self.corruption),
            "number type": self.rows.dtype.__name__,
            "fingerprint of the rows": self.fingerprint,
            "fingerprint of the starting weights": weights_fingerprint(self.model.state_dict()),
        }

    def restore(self) -> None:
        """Restore the run of an earlier call if the folder holds its checkpoint."""
        found = self.journal.load() if self.journal else None
        if found is None:
            return
        assert self.journal is not None
        tensors, facts = found
        has_validation = self.held_out is not None
        with self.journal.refusing_damage():
            run = read_run(tensors, facts, self.model.state_dict(), has_validation=has_validation)
            self.generator.set_state(run.generator)
        device = self.rows.device
        self.memory = {name: tensor.to(device) for name, tensor in run.memory.items()}
        self.best = {name: tensor.to(device) for name, tensor in run.best.items()}
        self.training_error = run.training_error
        self.clean_error = run.clean_error
        self.own_error = run.own_error
        self.best_epoch = run.best_epoch
        self.ending = run.ending
        self.stack_size = run.stack_size
        self.journal.write([self._report(epoch) for epoch in range(self.epoch + 1)])

    @property
    def _all_rows(self) -> list[Rows]:
        return [rows for rows in (self.rows, self.held_out, self.targets) if rows is not None]

    def _corrupted(self, rows: Tensor, target: Tensor | None, generator: torch.Generator) -> Block:
        """Return a training pair. Vanilla, denoising and masked models differ only in this method.

        A vanilla autoencoder that is trained on the pairs (corrupted, clean) has the same training.
        """
        seen, counts = self.corruption.corrupt(rows, generator)
        # Models that train together share one tensor of counted entries, so all have it or none.
        if (counts is None) != self.corruption.counts_everywhere:
            kind = type(self.corruption).__name__
            returned = "no mask" if counts is None else "a mask"
            raise InputError(
                f"{kind}.corrupt() must return a mask of the counted entries, or None if "
                "counts_everywhere is True",
                got=f"{returned}, with counts_everywhere = {self.corruption.counts_everywhere}",
                cure="define the property counts_everywhere",
            )
        clean = rows if target is None else target
        return seen - self.centre, clean - self.centre, counts

    def _corrupted_validation(self) -> Iterator[Block]:
        """Yield the validation rows with their fixed corruption, in blocks."""
        assert self.held_out is not None
        generator = torch_generator(self.settings.seed, "autoencoders.validation", self.rows.device)
        for block in self.held_out.blocks():
            yield self._corrupted(block, None, generator)

    def _validate(self, engine: Engine, k: int) -> None:
        """Append the errors on the validation rows, clean and corrupted, to the curves."""
        assert self.held_out is not None
        clean = 0.0
        own = 0.0
        for seen, target, counts in self._validation_blocks or self._corrupted_validation():
            share = len(target) / len(self.held_out)
            clean_error = engine.error(k, target, target, None)
            own_error = clean_error
            if self.corruption.changes_rows:
                own_error = engine.error(k, seen, target, counts)
            clean += share * clean_error
            own += share * own_error
        self.clean_error.append(clean)
        self.own_error.append(own)

    def _observe(self, engine: Engine, k: int) -> None:
        """Validate, keep the best weights, decide the ending, and write the checkpoint."""
        error = self.training_error[-1] if self.training_error else None
        if self.held_out is not None:
            self._validate(engine, k)
            error = self.own_error[-1]
        self._keep_best(engine, k)
        first = self.own_error[0] if self.own_error else (self.training_error or [0.0])[0]
        has_validation = self.held_out is not None
        if error is not None and not error <= DIVERGED * first + 1e-12:
            self.ending = "diverged"
        elif has_validation and self.epoch - self.best_epoch >= self.settings.patience:
            self.ending = "stopped early"
        elif self.epoch >= self.settings.epochs:
            self.ending = "budget"
        report = self._report(self.epoch)
        if self.journal is not None:
            self._save(self.journal, engine, k, report)
        if self.progress is not None:
            self.progress(report)

    def _keep_best(self, engine: Engine, k: int) -> None:
        """Keep the best weights so far; without validation rows, the last finite weights."""
        if self.epoch == 0:
            self.best = engine.snapshot(k)
        elif self.held_out is None:
            weights = engine.snapshot(k)
            if all(bool(tensor.isfinite().all()) for tensor in weights.values()):
                self.best_epoch = self.epoch
                self.best = weights
        elif self.own_error[-1] < self.own_error[self.best_epoch]:
            self.best_epoch = self.epoch
            self.best = engine.snapshot(k)

    def _save(self, journal: Journal, engine: Engine, k: int, report: Epoch) -> None:
        """Write the checkpoint and a line of the journal."""
        curves = {
            "training_error": self.training_error,
            "clean_error": self.clean_error,
            "own_error": self.own_error,
        }
        tensors = {f"memory/{name}": tensor for name, tensor in engine.memory(k).items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for name, curve in curves.items():
            tensors[f"curves/{name}"] = torch.tensor(curve, dtype=torch.float64)
        tensors["generator"] = self.generator.get_state()
        facts = {
            "best_epoch": self.best_epoch,
            "ending": self.ending,
            # Leadline 0.1 called the size of the stack "company".
            "company": self.stack_size,
            "threads": torch.get_num_threads(),
        }
        journal.save(tensors, facts)
        if self.epoch:
            journal.add(report)
        else:
            journal.write([report])

    def _report(self, epoch: int) -> Epoch:
        """Return the progress after an epoch."""
        return Epoch(
            model=self.number,
            epoch=epoch,
            epochs=self.settings.epochs,
            training_error=self.training_error[epoch - 1] if epoch else None,
            clean_error=self.clean_error[epoch] if self.clean_error else None,
            own_error=self.own_error[epoch] if self.own_error else None,
        )
