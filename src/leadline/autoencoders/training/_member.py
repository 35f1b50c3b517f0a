"""One model on its way through pretraining: its rows, its random numbers, what was seen of it, where it is written."""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from leadline import checks
from leadline.autoencoders._corruption import Corruption, Nothing
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders.models._custom import CustomArchitecture, check_module
from leadline.autoencoders.models._dense import Autoencoder, number_type
from leadline.autoencoders.models._patches import check_images, check_size
from leadline.autoencoders.models._transformer import MaskedPatchTransformer
from leadline.autoencoders.training._checkpoint import Epoch, Journal, plain, weights_fingerprint
from leadline.autoencoders.training._pretrained import Ending, Pretrained
from leadline.autoencoders.training._resume import read_run
from leadline.autoencoders.training._rows import AS_THEY_ARE, BLOCK_NUMBERS, Rows, open_rows
from leadline.data import DIVIDED, Dataset, fingerprint
from leadline.errors import InputError
from leadline.randomness import torch_generator
from leadline.sounding import Protocol as HowItWasTaken

WARM_UP = 0.05
"""Share of the epochs in which the learning rate of the cosine schedule rises."""

DIVERGED = 10.0
"""A run whose error grows to this many times what it was before training has diverged."""

Block = tuple[Tensor, Tensor, Tensor | None]
"""What the encoder sees, the clean rows, and where the loss counts: shapes (rows, features); counts may be ``None``."""


class Engine(Protocol):
    """What takes the steps of one member or of many: see :class:`~leadline.autoencoders.training._stack.Stack`."""

    lr: list[float]

    def keep(self, members: list[int]) -> None:
        """Go on with some of the members only."""

    def step(self, seen: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        """One step of Adam for every member; the losses before it, summed over the batch."""
        ...

    def error(self, member: int, seen: Tensor, target: Tensor, counts: Tensor | None) -> float:
        """Squared error, summed over what counts and averaged over rows."""
        ...

    def snapshot(self, member: int) -> dict[str, Tensor]:
        """A copy of a member's weights, by their names in the model."""
        ...

    def memory(self, member: int) -> dict[str, Tensor]:
        """All that training goes on from."""
        ...

    def recall(self, member: int, memory: dict[str, Tensor]) -> None:
        """Go on from what :meth:`memory` gave."""


@dataclass(eq=False)
class Member:
    """One model on its way.

    Three streams belong to its seed, beside the one that drew its weights: which rows validate, how these are
    corrupted (always in the same way), and the permutations and corruption of training.
    """

    number: int
    model: nn.Module
    rows: Rows
    held_out: Rows | None
    settings: dict[str, Any]
    targets: Rows | None = None
    """What is to be reconstructed from each row; ``None`` for the row itself."""
    journal: Journal | None = None
    progress: Callable[[Epoch], object] | None = None
    training_error: list[float] = field(default_factory=list)
    clean_error: list[float] = field(default_factory=list)
    own_error: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    ending: Ending | None = None
    company: int = 0
    memory: dict[str, Tensor] | None = None
    """What a resumed run goes on from; ``None`` before the first epoch."""

    def __post_init__(self):
        device = self.rows.device
        self.rows_seen = np.unique(np.concatenate([rows.fingerprints for rows in self._all_rows]))
        earlier = getattr(self.model, "rows_seen", None)
        if isinstance(earlier, np.ndarray):
            self.rows_seen = np.union1d(self.rows_seen, earlier)
        self.fingerprint = fingerprint(*(rows.fingerprints for rows in self._all_rows))
        self.generator = torch_generator(self.seed, "autoencoders.training", device)
        mean = self.rows.mean()
        self.centre = (
            self.architecture.centre(mean) if self.settings["centre"] else torch.zeros_like(mean)
        )
        # What is in memory is corrupted once and kept; what stays in a file is corrupted anew, in the same way.
        is_kept = self.held_out is not None and not self.held_out.is_mapped
        self._validation_blocks = list(self._corrupted_validation()) if is_kept else None

    @property
    def seed(self) -> int:
        """Names the member's streams of random numbers."""
        return self.settings["seed"]

    @property
    def corruption(self) -> Corruption:
        """What the encoder is shown."""
        corruption = getattr(self.model, "corruption", None)
        return corruption if isinstance(corruption, Corruption) else Nothing()

    @property
    def architecture(self) -> Any:
        """What is known of the model's shape."""
        if isinstance(self.model, (Autoencoder, MaskedPatchTransformer)):
            return self.model.architecture
        return CustomArchitecture(type(self.model).__name__, self.rows.row_shape)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.training_error)

    def lr(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 0."""
        peak, epochs = self.settings["lr"], self.settings["epochs"]
        if self.settings["schedule"] == "constant":
            return peak
        rising = WARM_UP * epochs
        if epoch < rising:
            return peak * (epoch + 1) / (rising + 1)
        return peak * (1 + math.cos(math.pi * (epoch - rising) / (epochs - rising))) / 2

    @property
    def shape(self) -> tuple[Any, ...]:
        """Members of equal shape can be stacked."""
        if not isinstance(self.model, Autoencoder):
            return (self.number,)
        device = self.rows.device
        return (
            self.architecture,
            self.corruption.counts_everywhere,
            (len(self.rows), self.rows.width),
            self.settings["batch_size"],
            self.rows.dtype,
            (device.type, device.index or 0),
            self.epoch,
        )

    def blocks(self) -> Iterator[Block]:
        """One epoch, shuffled and corrupted, cut into blocks of whole batches."""
        batch = self.settings["batch_size"]
        length = max(1, BLOCK_NUMBERS // (batch * self.rows.width)) * batch
        if self.settings["shuffle"]:
            order = torch.randperm(
                len(self.rows), generator=self.generator, device=self.rows.device
            )
        else:
            order = torch.arange(len(self.rows), device=self.rows.device)
        for part in order.split(length):
            target = None if self.targets is None else self.targets.take(part)
            yield self._shown(self.rows.take(part), target, self.generator)

    def begin(self, engine: Engine, k: int) -> None:
        """Start as member ``k`` of the engine: where an earlier run stopped, or before the first epoch."""
        if self.memory is not None:
            assert self.journal is not None
            with self.journal.refusing_damage():
                engine.recall(k, self.memory)
            self.memory = None
        else:
            self._observe(engine, k)

    def finish_epoch(self, engine: Engine, k: int, training_error: float) -> None:
        """Take stock after an epoch, as member ``k`` of the engine."""
        self.training_error.append(training_error)
        self._observe(engine, k)

    def result(self) -> Pretrained:
        """What came out; the model is given the weights that were kept."""
        assert self.ending is not None
        state = self.architecture.moved(self.best, self.centre)
        self.model.load_state_dict(state)
        self.model.rows_seen = self.rows_seen  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        settings = {name: value for name, value in self.settings.items() if name != "seed"}
        pretrained = Pretrained(
            protocol=HowItWasTaken(
                settings={**settings, "stack": self.company, "dtype": self.rows.dtype.__name__},
                seeds=(self.seed,),
                fingerprints={"rows": self.fingerprint},
            ),
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
        )
        if isinstance(self.architecture, CustomArchitecture):
            object.__setattr__(pretrained, "custom", deepcopy(self.model))
        return pretrained

    def configuration(self) -> dict[str, Any]:
        """What tells this run from others: only the same one goes on from its checkpoint."""
        return {
            **self.settings,
            "architecture": plain(self.architecture),
            "corruption": plain(self.corruption),
            "number type": self.rows.dtype.__name__,
            "fingerprint of the rows": self.fingerprint,
            "fingerprint of the starting weights": weights_fingerprint(self.model.state_dict()),
        }

    def restore(self) -> None:
        """Take up an earlier run, if its folder holds one."""
        found = self.journal.load() if self.journal else None
        if found is None:
            return
        assert self.journal is not None
        with self.journal.refusing_damage():
            run = read_run(
                *found, self.model.state_dict(), has_validation=self.held_out is not None
            )
            self.generator.set_state(run.generator)
        self.memory = {name: tensor.to(self.rows.device) for name, tensor in run.memory.items()}
        self.best = {name: tensor.to(self.rows.device) for name, tensor in run.best.items()}
        self.training_error = run.training_error
        self.clean_error = run.clean_error
        self.own_error = run.own_error
        self.best_epoch = run.best_epoch
        self.ending = run.ending
        self.company = run.company
        self.journal.write([self._told(epoch) for epoch in range(self.epoch + 1)])

    @property
    def _all_rows(self) -> list[Rows]:
        return [rows for rows in (self.rows, self.held_out, self.targets) if rows is not None]

    def _shown(self, rows: Tensor, target: Tensor | None, generator: torch.Generator) -> Block:
        """The pair that the model learns from. Vanilla, denoising and masked ones differ in this line and in no other.

        What an autoencoder reconstructs from corrupted rows, a vanilla one is taught by the pairs (corrupted, clean).
        """
        seen, counts = self.corruption.corrupt(rows, generator)
        return seen - self.centre, (rows if target is None else target) - self.centre, counts

    def _corrupted_validation(self) -> Iterator[Block]:
        assert self.held_out is not None
        generator = torch_generator(self.seed, "autoencoders.validation", self.rows.device)
        for block in self.held_out.blocks():
            yield self._shown(block, None, generator)

    def _validate(self, engine: Engine, k: int) -> None:
        """Errors on the validation rows, clean and as trained."""
        assert self.held_out is not None
        clean, own = 0.0, 0.0
        for seen, target, counts in self._validation_blocks or self._corrupted_validation():
            share = len(target) / len(self.held_out)
            error = engine.error(k, target, target, None)
            clean += share * error
            own += share * (
                error
                if isinstance(self.corruption, Nothing)
                else engine.error(k, seen, target, counts)
            )
        self.clean_error.append(clean)
        self.own_error.append(own)

    def _observe(self, engine: Engine, k: int) -> None:
        error = self.training_error[-1] if self.training_error else None
        if self.held_out is not None:
            self._validate(engine, k)
            error = self.own_error[-1]
        if self.epoch == 0:
            self.best = engine.snapshot(k)
        elif self.held_out is None:
            weights = engine.snapshot(k)
            if all(bool(tensor.isfinite().all()) for tensor in weights.values()):
                self.best_epoch, self.best = self.epoch, weights
        elif self.own_error[-1] < self.own_error[self.best_epoch]:
            self.best_epoch, self.best = self.epoch, engine.snapshot(k)
        first = self.own_error[0] if self.own_error else (self.training_error or [0.0])[0]
        if error is not None and not error <= DIVERGED * first + 1e-12:
            self.ending = "diverged"
        elif (
            self.held_out is not None and self.epoch - self.best_epoch >= self.settings["patience"]
        ):
            self.ending = "stopped early"
        elif self.epoch >= self.settings["epochs"]:
            self.ending = "budget"
        self._tell(engine, k)

    def _tell(self, engine: Engine, k: int) -> None:
        """Write the checkpoint and the journal's line, then call the progress."""
        told = self._told(self.epoch)
        if self.journal is not None:
            curves = {"training_error": self.training_error, "clean_error": self.clean_error}
            curves |= {"own_error": self.own_error}
            tensors = {f"memory/{name}": tensor for name, tensor in engine.memory(k).items()}
            tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
            tensors |= {
                f"curves/{n}": torch.tensor(curve, dtype=torch.float64)
                for n, curve in curves.items()
            }
            tensors["generator"] = self.generator.get_state()
            facts = {"best_epoch": self.best_epoch, "ending": self.ending, "company": self.company}
            facts["threads"] = torch.get_num_threads()
            self.journal.save(tensors, facts)
            if self.epoch:
                self.journal.add(told)
            else:
                self.journal.write([told])
        if self.progress is not None:
            self.progress(told)

    def _told(self, epoch: int) -> Epoch:
        at = {"clean_error": self.clean_error, "own_error": self.own_error}
        return Epoch(
            model=self.number,
            epoch=epoch,
            epochs=self.settings["epochs"],
            training_error=self.training_error[epoch - 1] if epoch else None,
            **{name: curve[epoch] if curve else None for name, curve in at.items()},
        )


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as plain values, or a refusal of those that are out of range."""
    plain: dict[str, Any] = {
        name: check_size(settings[name], name) for name in ("epochs", "batch_size")
    }
    plain["lr"] = checks.number(settings["lr"], "lr", above=0)
    plain["schedule"] = checks.choice(settings["schedule"], "schedule", ("cosine", "constant"))
    plain["patience"] = check_size(settings["patience"], "patience")
    plain["centre"] = checks.flag(settings["centre"], "centre")
    plain["shuffle"] = checks.flag(settings["shuffle"], "shuffle")
    plain["seed"] = checks.seed(settings["seed"])
    return plain


class Opener:
    """Opens rows for models; rows that several models share are opened once.

    Args:
        device: where training takes place; by default where the model is.
    """

    def __init__(self, device: torch.device | None):
        self.device = device
        self.opened: dict[Any, Rows] = {}

    def __call__(self, model: nn.Module, X: Any, name: str, form: RowForm | None = None) -> Rows:
        """Rows in the form that the model takes, or a refusal.

        Args:
            model: is trained on them.
            X: the rows.
            name: what messages call them.
            form: of the training rows, for rows that go with them; by default these are the training rows.
        """
        device = self.device or next(model.parameters()).device
        dtype = number_type(model)
        is_ours = isinstance(model, (Autoencoder, MaskedPatchTransformer))
        key = (id(X), name, dtype, device, model.architecture if is_ours else None, form)
        if key not in self.opened:
            self.opened[key] = _opened(model, X, name, dtype, device, form)
        rows = self.opened[key]
        if is_ours:
            _check_width(model, rows, name)
        else:
            check_module(
                model, rows.take(torch.arange(min(2, len(rows)), device=device)), rows.row_shape
            )
        return rows


def _opened(
    model: nn.Module,
    X: Any,
    name: str,
    dtype: type[np.floating],
    device: torch.device,
    form: RowForm | None,
) -> Rows:
    if not isinstance(model, (Autoencoder, MaskedPatchTransformer)):
        if isinstance(X, Dataset):
            X = X.X if X.image_size is None else X.images
        return open_rows(X, name, dtype, device, AS_THEY_ARE)
    if isinstance(model, Autoencoder) or isinstance(X, (str, PathLike, np.memmap)):
        return open_rows(X, name, dtype, device, form)
    form = RowForm.of(X, name) if form is None else form
    images = check_images(X, model.architecture.grid, name, dtype=dtype, form=form)
    flat = images.reshape(len(images), -1)
    return replace(open_rows(flat, name, dtype, device, AS_THEY_ARE), form=form)


def _check_width(model: Autoencoder | MaskedPatchTransformer, rows: Rows, name: str) -> None:
    if len(rows.row_shape) > 1:
        raise InputError(
            "features are a matrix of shape (samples, features)",
            got=f"{name} of shape {(len(rows), *rows.row_shape)}",
            cause="images that are not flattened",
            cure=f"use {name}.reshape(len({name}), -1)",
        )
    if rows.width != model.architecture.input_size:
        raise InputError(
            "rows must have as many features as the model takes",
            got=f"{name} has {rows.width} features, the model takes {model.architecture.input_size}",
            cure=f"build Autoencoder({rows.width}, ...)"
            if isinstance(model, Autoencoder)
            else None,
        )
