"""One model during pretraining: its rows, random numbers, curves and checkpoint."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt64
from torch import Tensor, nn

from leadline.autoencoders._corruption import Corruption, Nothing
from leadline.autoencoders._rows import BLOCK_NUMBERS
from leadline.autoencoders.models._architecture import TrainableArchitecture
from leadline.autoencoders.training._checkpoint import Epoch, Journal, plain, weights_fingerprint
from leadline.autoencoders.training._engine import Engine
from leadline.autoencoders.training._opening import RunRows
from leadline.autoencoders.training._pretrained import Pretrained
from leadline.autoencoders.training._run import Run, read_run
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
    rows: RunRows
    settings: PretrainingSettings
    journal: Journal | None = None
    progress: Callable[[Epoch], object] | None = None
    run: Run = field(default_factory=Run)
    """The state of the run, which a checkpoint stores."""
    memory: dict[str, Tensor] | None = None
    """The engine's state in a checkpoint; ``None`` before the first epoch."""

    def __post_init__(self):
        self.device = self.rows.training.device
        self.generator = torch_generator(self.settings.seed, "autoencoders.training", self.device)
        mean = self.rows.training.mean()
        is_centred = self.settings.centre
        self.centre = self.architecture.centre(mean) if is_centred else torch.zeros_like(mean)
        # Validation rows in memory are corrupted once. Rows in a file are corrupted in every epoch,
        # always in the same way.
        held_out = self.rows.validation
        is_in_memory = held_out is not None and not held_out.is_mapped
        self._validation_blocks = list(self._corrupted_validation()) if is_in_memory else None

    @property
    def corruption(self) -> Corruption:
        """The model's corruption; :class:`Nothing` if it has none."""
        corruption = getattr(self.model, "corruption", None)
        return corruption if isinstance(corruption, Corruption) else Nothing()

    @property
    def has_ended(self) -> bool:
        """True if training has ended."""
        return self.run.ending is not None

    @property
    def stack_key(self) -> tuple[Any, ...]:
        """A key that is equal for members that can be stacked."""
        if not self.architecture.can_stack:
            return (self.number,)
        rows = self.rows.training
        return (
            self.architecture,
            self.corruption.counts_everywhere,
            (len(rows), rows.width),
            self.settings.batch_size,
            rows.dtype,
            (self.device.type, self.device.index or 0),
            self.run.epoch,
        )

    def blocks(self) -> Iterator[Block]:
        """Yield the rows of one epoch, shuffled and corrupted, in blocks of whole batches."""
        rows = self.rows.training
        targets = self.rows.targets
        batch = self.settings.batch_size
        length = max(1, BLOCK_NUMBERS // (batch * rows.width)) * batch
        if self.settings.shuffle:
            order = torch.randperm(len(rows), generator=self.generator, device=self.device)
        else:
            order = torch.arange(len(rows), device=self.device)
        for part in order.split(length):
            target = None if targets is None else targets.take(part)
            yield self._corrupted(rows.take(part), target, self.generator)

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
        self.run.training_error.append(training_error)
        self._observe(engine, k)

    def result(self) -> Pretrained:
        """Return the result, and give the best weights to the user's model."""
        run = self.run
        assert run.ending is not None
        state = self.architecture.moved(run.best, self.centre)
        rows_seen = self._rows_seen()
        self.model.load_state_dict(state)
        # A later pretraining of the model adds these rows to its own.
        setattr(self.model, "rows_seen", rows_seen)  # noqa: B010
        rows = self.rows.training
        recorded = self.settings.record()
        seed = recorded.pop("seed")
        recorded |= {"stack": run.stack_size, "dtype": rows.dtype.__name__}
        return Pretrained(
            protocol=Protocol(recorded, (seed,), {"rows": self._fingerprint()}),
            architecture=self.architecture,
            corruption=self.corruption,
            weights={name: tensor.cpu().numpy() for name, tensor in state.items()},
            rows_seen=rows_seen,
            training_error=np.array(run.training_error),
            clean_error=np.array(run.clean_error),
            own_error=np.array(run.own_error),
            best_epoch=run.best_epoch,
            ending=run.ending,
            notes=(DIVIDED,) if rows.form.scale == "divided" else (),
            form=rows.form,
            settings=self.settings,
            own_module=None if self.architecture.can_be_built else self.model,
        )

    def configuration(self) -> dict[str, Any]:
        """Return the values that identify the run: its checkpoint resumes no other run."""
        return {
            **self.settings.record(),
            "architecture": plain(self.architecture),
            "corruption": plain(self.corruption),
            "number type": self.rows.training.dtype.__name__,
            "fingerprint of the rows": self._fingerprint(),
            "fingerprint of the starting weights": weights_fingerprint(self.model.state_dict()),
        }

    def restore(self) -> None:
        """Restore the run of an earlier call if the folder holds its checkpoint."""
        checkpoint = self.journal.load() if self.journal else None
        if checkpoint is None:
            return
        assert self.journal is not None
        tensors, facts = checkpoint
        state = self.model.state_dict()
        has_validation = self.rows.validation is not None
        with self.journal.refusing_damage():
            saved = read_run(tensors, facts, state, has_validation=has_validation)
            self.generator.set_state(saved.generator)
        self.memory = {name: tensor.to(self.device) for name, tensor in saved.memory.items()}
        self.run = saved.run
        self.run.best = {name: tensor.to(self.device) for name, tensor in self.run.best.items()}
        self.journal.write([self._report(epoch) for epoch in range(self.run.epoch + 1)])

    def _rows_seen(self) -> UInt64[np.ndarray, " n"]:
        """Return the fingerprints of all rows of this run, and of earlier runs of the model."""
        rows_seen = np.unique(np.concatenate(self.rows.fingerprints))
        earlier = getattr(self.model, "rows_seen", None)
        return np.union1d(rows_seen, earlier) if isinstance(earlier, np.ndarray) else rows_seen

    def _fingerprint(self) -> str:
        """Return the fingerprint of all rows of this run."""
        return fingerprint(*self.rows.fingerprints)

    def _corrupted(self, rows: Tensor, target: Tensor | None, generator: torch.Generator) -> Block:
        """Return a training pair. Vanilla, denoising and masked models differ only in this method.

        A vanilla autoencoder that is trained on the pairs (corrupted, clean) has the same training.
        """
        seen, loss_mask = self.corruption.corrupt(rows, generator)
        # Models that train together share one tensor of counted entries, so all have it or none.
        if (loss_mask is None) != self.corruption.counts_everywhere:
            kind = type(self.corruption).__name__
            returned = "no mask" if loss_mask is None else "a mask"
            raise InputError(
                f"{kind}.corrupt() must return a mask of the counted entries, or None if "
                "counts_everywhere is True",
                got=f"{returned}, with counts_everywhere = {self.corruption.counts_everywhere}",
                cure="define the property counts_everywhere",
            )
        clean = rows if target is None else target
        return seen - self.centre, clean - self.centre, loss_mask

    def _corrupted_validation(self) -> Iterator[Block]:
        """Yield the validation rows with their fixed corruption, in blocks."""
        assert self.rows.validation is not None
        generator = torch_generator(self.settings.seed, "autoencoders.validation", self.device)
        for block in self.rows.validation.blocks():
            yield self._corrupted(block, None, generator)

    def _validate(self, engine: Engine, k: int) -> None:
        """Append the errors on the validation rows, clean and corrupted, to the curves."""
        held_out = self.rows.validation
        assert held_out is not None
        clean = 0.0
        own = 0.0
        for seen, target, loss_mask in self._validation_blocks or self._corrupted_validation():
            share = len(target) / len(held_out)
            clean_error = engine.error(k, target, target, None)
            own_error = clean_error
            if self.corruption.changes_rows:
                own_error = engine.error(k, seen, target, loss_mask)
            clean += share * clean_error
            own += share * own_error
        self.run.clean_error.append(clean)
        self.run.own_error.append(own)

    def _observe(self, engine: Engine, k: int) -> None:
        """Validate, keep the best weights, decide the ending, and write the checkpoint."""
        run = self.run
        has_validation = self.rows.validation is not None
        error = run.training_error[-1] if run.training_error else None
        if has_validation:
            self._validate(engine, k)
            error = run.own_error[-1]
        self._keep_best(engine, k)
        first = run.own_error[0] if run.own_error else (run.training_error or [0.0])[0]
        if error is not None and not error <= DIVERGED * first + 1e-12:
            run.ending = "diverged"
        elif has_validation and run.epoch - run.best_epoch >= self.settings.patience:
            run.ending = "stopped early"
        elif run.epoch >= self.settings.epochs:
            run.ending = "budget"
        report = self._report(run.epoch)
        if self.journal is not None:
            self._save(self.journal, engine, k, report)
        if self.progress is not None:
            self.progress(report)

    def _keep_best(self, engine: Engine, k: int) -> None:
        """Keep the best weights so far; without validation rows, the last finite weights."""
        run = self.run
        if run.epoch == 0:
            run.best = engine.snapshot(k)
        elif self.rows.validation is None:
            weights = engine.snapshot(k)
            if all(bool(tensor.isfinite().all()) for tensor in weights.values()):
                run.best_epoch = run.epoch
                run.best = weights
        elif run.own_error[-1] < run.own_error[run.best_epoch]:
            run.best_epoch = run.epoch
            run.best = engine.snapshot(k)

    def _save(self, journal: Journal, engine: Engine, k: int, report: Epoch) -> None:
        """Write the checkpoint and a line of the journal."""
        tensors = self.run.tensors(engine.memory(k), self.generator.get_state())
        journal.save(tensors, self.run.facts())
        if self.run.epoch:
            journal.add(report)
        else:
            journal.write([report])

    def _report(self, epoch: int) -> Epoch:
        """Return the progress after an epoch."""
        run = self.run
        return Epoch(
            model=self.number,
            epoch=epoch,
            epochs=self.settings.epochs,
            training_error=run.training_error[epoch - 1] if epoch else None,
            clean_error=run.clean_error[epoch] if run.clean_error else None,
            own_error=run.own_error[epoch] if run.own_error else None,
        )
