"""Pretraining: one loop for a population of autoencoders, whatever their corruption.

Vanilla, denoising and masked autoencoders differ in one line of this file: what :meth:`Corruption.corrupt` returns.
A member draws its permutations and its corruption from its own generator, in an order that its company cannot change;
together with :mod:`leadline.autoencoders.stack` this makes a result independent of how members are grouped.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from leadline.autoencoders.corruption import Nothing
from leadline.autoencoders.model import Autoencoder, number_type
from leadline.autoencoders.pretrained import Ending, Pretrained
from leadline.autoencoders.single import Single
from leadline.autoencoders.stack import Stack, stack_size
from leadline.autoencoders.transformer import MaskedPatchTransformer, images_for
from leadline.data import check_features, fingerprint, row_fingerprints
from leadline.data.dataset import check_count
from leadline.errors import InputError, context
from leadline.sounding import Protocol

BLOCK_NUMBERS = 2**21
"""Numbers of an epoch's data that a member holds shuffled and corrupted at once."""

Schedule = Literal["cosine", "constant"]
"""How the learning rate changes from epoch to epoch."""

WARM_UP = 0.05
"""Share of the epochs in which the learning rate of the cosine schedule rises."""

DIVERGED = 10.0
"""A run whose error grows to this many times what it was before training has diverged."""


def pretrain(
    model: Autoencoder | MaskedPatchTransformer,
    X: Any,
    *,
    validation: Any = 0.1,
    epochs: int = 200,
    batch_size: int = 150,
    lr: float | None = None,
    schedule: Schedule = "cosine",
    patience: int = 40,
    centre: bool = True,
    seed: int = 0,
) -> Pretrained:
    """Train an autoencoder to reconstruct rows: a population of one; see :func:`pretrain_many`.

    >>> X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    >>> pretrained = pretrain(Autoencoder(3, (2,), "linear", seed=0), X, epochs=5)
    >>> pretrained.encoder.encode(X).shape
    (50, 2)
    """
    (result,) = pretrain_many(
        [model],
        X,
        seeds=[seed],
        validation=validation,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        schedule=schedule,
        patience=patience,
        centre=centre,
    )
    return result


def pretrain_many(
    models: Sequence[Autoencoder | MaskedPatchTransformer],
    X: Any,
    *,
    seeds: Sequence[int],
    validation: Any = 0.1,
    epochs: int | Sequence[int] = 200,
    batch_size: int | Sequence[int] = 150,
    lr: float | Sequence[float] | None = None,
    schedule: Schedule | Sequence[Schedule] = "cosine",
    patience: int | Sequence[int] = 40,
    centre: bool | Sequence[bool] = True,
) -> list[Pretrained]:
    """Train a population of autoencoders at once; each comes out as if it had been trained alone, bit for bit.

    Minibatches by a new permutation in each epoch, Adam, early stopping on the validation error of what the model is
    trained for (for a corrupted one: on a corruption of the validation rows that is drawn once), best weights kept.
    The models end with these weights.

    Training begins by moving the model to where the data are: f becomes ``f(x - c) + c``, c being the mean of the
    training rows, and stays in these coordinates to its end, where c is absorbed by the first and the last bias. Adam
    descends much faster on centred rows; rows that are hidden or noisy were so before c was subtracted.

    Args:
        models: autoencoders, each a different object; dense ones of equal shape are stacked.
        X: rows of shape (n, features) for all, or a list with an array for each model; for transformers also images
            of shape (n, channels, height, width).
        seeds: one for each model: draws its validation rows, permutations and corruption. The weights that it
            starts from are the model's own; see ``Autoencoder(seed=...)``.
        validation: share of the rows, in (0, 1), or rows of their own (an array for all, a list for each), or
            ``None``: no early stopping, last weights kept.
        epochs: passes over the data at most, at least 1.
        batch_size: rows per step, at least 1; the last batch of an epoch may be smaller.
        lr: highest learning rate of Adam, > 0; by default 0.005, and 0.001 for a transformer.
        schedule: ``"cosine"``: the learning rate rises during the first twentieth of the epochs and then falls to 0
            along half a cosine; or ``"constant"``.
        patience: epochs without improvement after which training stops, at least 1.
        centre: whether to begin by moving the model to the data; not for one that was trained before.

    The last six take one value for all, or a list with one for each.

    Returns:
        One :class:`Pretrained` for each model, in order.

    Raises:
        InputError: settings out of range, rows that are not finite or do not fit the model.

    >>> X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    >>> models = [Autoencoder(3, (2,), "linear", seed=seed) for seed in range(2)]
    >>> [pretrained.ending for pretrained in pretrain_many(models, X, seeds=[0, 1], lr=[1e-2, 1e-3], epochs=5)]
    ['budget', 'budget']

    Reference: LeCun et al., *Efficient backprop*, 1998 (on centring).
    """
    if len({id(model) for model in models}) < len(models):
        raise InputError("each model must be an object of its own", cure="build one Autoencoder for each seed")
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "schedule": schedule}
    settings |= {"patience": patience, "centre": centre}
    columns = {name: _one_each(value, len(models), name) for name, value in settings.items()}
    columns |= {"seed": _one_each(list(seeds), len(models), "seeds")}
    data = _rows_each(X, len(models), "X"), _rows_each(validation, len(models), "validation")
    members = []
    for i, (model, rows, held_out) in enumerate(zip(models, *data, strict=True)):
        with context(f"in model {i} of {len(models)}"):
            members.append(_Member(model, rows, held_out, {name: column[i] for name, column in columns.items()}))
    for company in _companies(members):
        _train(company)
    return [member.result() for member in members]


@dataclass(eq=False)
class _Member:
    """One model on its way: its rows, its generator, and what has been seen of it so far."""

    model: Autoencoder | MaskedPatchTransformer
    X: Any
    validation: Any
    settings: dict[str, Any]
    training_error: list[float] = field(default_factory=list)
    clean_error: list[float] = field(default_factory=list)
    own_error: list[float] = field(default_factory=list)
    best_epoch: int = 0
    ending: Ending | None = None
    company: int = 1

    def __post_init__(self):
        if self.settings["lr"] is None:
            self.settings["lr"] = 1e-3 if isinstance(self.model, MaskedPatchTransformer) else 5e-3
        self._check_settings()
        parameter = next(self.model.parameters())
        self.generator = torch.Generator(parameter.device).manual_seed(self.settings["seed"])
        X = _rows(self.X, "X", self.model)
        if isinstance(self.validation, (int, float)):
            X, held_out = self._split(X, self.validation)
        else:
            held_out = None if self.validation is None else _rows(self.validation, "validation", self.model)
        arrays = [X] if held_out is None else [X, held_out]
        self.rows_seen = row_fingerprints(np.concatenate(arrays))
        self.fingerprint = fingerprint(*arrays)
        self.rows = torch.tensor(X, device=parameter.device)
        self.centre = torch.zeros_like(self.rows[0])
        if self.settings["centre"]:
            self.centre += self.model.architecture.centre(self.rows.mean(0))
        self.held_out = None
        if held_out is not None:
            target = torch.tensor(held_out, device=parameter.device)
            seen, counts = self.model.corruption.corrupt(target, self.generator)
            self.held_out = (target - self.centre, seen - self.centre, counts)
        self.best = parameter.new_empty(0)

    @property
    def is_corrupted(self) -> bool:
        """Whether the model is shown anything but the rows themselves."""
        return not isinstance(self.model.corruption, Nothing)

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
        corruption = self.model.corruption
        device = self.rows.device
        return (
            self.model.architecture,
            corruption.counts_everywhere,
            tuple(self.rows.shape),
            self.settings["batch_size"],
            self.rows.dtype,
            (device.type, device.index or 0),
        )

    def blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """One epoch as (seen, target, counts), shuffled and corrupted, cut into blocks of whole batches."""
        batch = self.settings["batch_size"]
        length = max(1, BLOCK_NUMBERS // (batch * self.rows.shape[1])) * batch
        order = torch.randperm(len(self.rows), generator=self.generator, device=self.rows.device)
        for rows in order.split(length):
            target = self.rows[rows]
            seen, counts = self.model.corruption.corrupt(target, self.generator)
            yield seen - self.centre, target - self.centre, counts

    def observe(self, stack: Stack | Single, k: int, training_error: float | None) -> None:
        """Take stock after an epoch (or, with no training error, before the first) as member ``k`` of the stack."""
        if training_error is not None:
            self.training_error.append(training_error)
        error = training_error
        if self.held_out is not None:
            target, seen, counts = self.held_out
            clean = stack.error(k, target, target, None)
            self.clean_error.append(clean)
            self.own_error.append(stack.error(k, seen, target, counts) if self.is_corrupted else clean)
            error = self.own_error[-1]
        epoch = len(self.training_error)
        if epoch == 0 or self._has_improved():
            self.best_epoch = epoch
            self.best = stack.weights[k].clone()
        first = self.own_error[0] if self.own_error else (self.training_error or [0.0])[0]
        if error is not None and not error <= DIVERGED * first + 1e-12:
            self.ending = "diverged"
        elif self.held_out is not None and epoch - self.best_epoch >= self.settings["patience"]:
            self.ending = "stopped early"
        elif epoch >= self.settings["epochs"]:
            self.ending = "budget"
        if self.ending is not None:
            self.state = self.model.architecture.moved(stack.state(self.best), self.centre)

    def result(self) -> Pretrained:
        """What came out; the model is given the weights that were kept."""
        self.model.load_state_dict(self.state)
        assert self.ending is not None
        settings = {name: value for name, value in self.settings.items() if name != "seed"}
        corruption = self.model.corruption
        return Pretrained(
            protocol=Protocol(
                settings={**settings, "stack": self.company, "dtype": number_type(self.model).__name__},
                seeds=(self.settings["seed"],),
                fingerprints={"rows": self.fingerprint},
            ),
            architecture=self.model.architecture,
            corruption=corruption,
            weights={name: tensor.cpu().numpy() for name, tensor in self.state.items()},
            rows_seen=self.rows_seen,
            training_error=np.array(self.training_error),
            clean_error=np.array(self.clean_error),
            own_error=np.array(self.own_error),
            best_epoch=self.best_epoch,
            ending=self.ending,
        )

    def _has_improved(self) -> bool:
        if self.held_out is None:
            return np.isfinite(self.training_error[-1]).item()
        return self.own_error[-1] < self.own_error[self.best_epoch]

    def _split(self, X: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        held_out = round(share * len(X)) if 0 < share < 1 else 0
        if not 0 < held_out < len(X):
            raise InputError(
                "the validation share must lie in (0, 1) and leave rows on both sides",
                got=f"validation = {share} of {len(X)} rows",
                cure="use 0.1, give rows of their own, or validation=None to train without",
            )
        order = torch.randperm(len(X), generator=self.generator, device=self.generator.device).cpu().numpy()
        return X[order[held_out:]], X[order[:held_out]]

    def _check_settings(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            check_count(self.settings[name], name)
        check_count(self.settings["seed"], "seed", least=0)
        if not 0 < self.settings["lr"] < float("inf"):
            raise InputError("the learning rate must be positive and finite", got=f"lr = {self.settings['lr']}")
        if self.settings["schedule"] not in ("cosine", "constant"):
            raise InputError("the schedule is 'cosine' or 'constant'", got=f"schedule = {self.settings['schedule']!r}")


def _train(members: list[_Member]) -> None:
    """The training loop, for members of equal shape."""
    states = [member.model.state_dict() for member in members]
    lr, first = [member.lr(0) for member in members], members[0].model
    stack = Single(first, lr) if isinstance(first, MaskedPatchTransformer) else Stack(first.architecture, states, lr)
    for k, member in enumerate(members):
        member.company = len(members)
        member.observe(stack, k, None)
    batch = members[0].settings["batch_size"]
    epoch = 0
    while members:
        stack.lr = [member.lr(epoch) for member in members]
        epoch += 1
        total = torch.zeros(len(members), dtype=torch.float64, device=stack.weights.device)
        for blocks in zip(*(member.blocks() for member in members), strict=True):
            seen, target, counts = (_stack(parts) for parts in zip(*blocks, strict=True))
            assert seen is not None
            assert target is not None
            for start in range(0, seen.shape[1], batch):
                rows = slice(start, start + batch)
                total += stack.step(seen[:, rows], target[:, rows], None if counts is None else counts[:, rows])
        for k, (member, error) in enumerate(zip(members, total.tolist(), strict=True)):
            member.observe(stack, k, error / len(member.rows))
        going_on = [k for k, member in enumerate(members) if member.ending is None]
        if 0 < len(going_on) < len(members):
            stack.keep(going_on)
        members = [members[k] for k in going_on]


def _companies(members: list[_Member]) -> Iterator[list[_Member]]:
    """Members that are trained together: of equal shape, as many as a stack holds, in even parts."""
    groups: dict[Any, list[_Member]] = {}
    for member in members:
        groups.setdefault(member.shape, []).append(member)
    for group in groups.values():
        model, batch = group[0].model, group[0].settings["batch_size"]
        size = 1 if isinstance(model, MaskedPatchTransformer) else stack_size(model.architecture, batch)
        parts = -(-len(group) // size)
        yield from ([group[i] for i in part] for part in np.array_split(np.arange(len(group)), parts))


def _stack(parts: Sequence[Tensor | None]) -> Tensor | None:
    return None if parts[0] is None else torch.stack([part for part in parts if part is not None])


def _one_each(value: Any, count: int, name: str) -> list[Any]:
    if not isinstance(value, (list, tuple, range, np.ndarray)):
        return [value] * count
    if len(value) != count:
        raise InputError(f"{name} has one value for all models or one for each", got=f"{len(value)} for {count} models")
    return [item.item() if isinstance(item, np.generic) else item for item in value]


def _rows_each(value: Any, count: int, name: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise InputError(
            f"{name} is one array for all models or a list with one for each",
            got=f"a list of {len(value)} for {count} models",
            cure=f"pass a single set of rows as an array: np.asarray({name})",
        )
    return list(value)


def _rows(X: Any, name: str, model: Autoencoder | MaskedPatchTransformer) -> np.ndarray:
    if isinstance(model, MaskedPatchTransformer):
        return images_for(model.architecture, X, name, number_type(model))
    rows = check_features(X, name, dtype=number_type(model))
    if rows.shape[1] != model.architecture.input_size:
        raise InputError(
            "rows must have as many features as the model takes",
            got=f"{name} has {rows.shape[1]} features, the model takes {model.architecture.input_size}",
            cure=f"build Autoencoder({rows.shape[1]}, ...)",
        )
    return rows
