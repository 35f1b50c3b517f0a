"""Pretraining: one loop for a population of autoencoders, whatever their corruption.

Vanilla, denoising and masked autoencoders differ in one line, in ``Member._shown``: what :meth:`Corruption.corrupt`
returns. Pairs that were corrupted beforehand (``targets=``, ``shuffle=False``) give a vanilla one the same bits.
A member draws its permutations and its corruption from its own generator, in an order that its company cannot change;
together with :mod:`leadline.autoencoders.training._stack` this makes a result independent of how members are grouped.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from leadline import checks, storage
from leadline.autoencoders.models._custom import Alone, check_batches
from leadline.autoencoders.models._dense import Autoencoder
from leadline.autoencoders.models._transformer import MaskedPatchTransformer
from leadline.autoencoders.training._checkpoint import CHECKPOINT, JOURNAL, Epoch, Journal
from leadline.autoencoders.training._member import Engine, Member, Opener, check_settings
from leadline.autoencoders.training._pretrained import Pretrained
from leadline.autoencoders.training._progress import reporting
from leadline.autoencoders.training._rows import check_targets, split
from leadline.autoencoders.training._single import Single
from leadline.autoencoders.training._stack import Stack, stack_size
from leadline.errors import InputError, context

Schedule = Literal["cosine", "constant"]
"""How the learning rate changes from epoch to epoch."""

Progress = bool | Callable[[Epoch], object]
"""Whether to show a progress bar, or what to call after each epoch."""


def pretrain(
    model: nn.Module,
    X: Any,
    *,
    targets: Any = None,
    validation: Any = 0.1,
    epochs: int = 200,
    batch_size: int = 150,
    lr: float | None = None,
    schedule: Schedule = "cosine",
    patience: int = 40,
    centre: bool = True,
    shuffle: bool = True,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
    progress: Progress = False,
) -> Pretrained:
    """Train an autoencoder to reconstruct rows: a population of one; see :func:`pretrain_many`.

    With ``checkpoint=folder`` the run is written to the folder itself, and one that was interrupted goes on.

    >>> X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    >>> pretrained = pretrain(Autoencoder(3, (2,), "linear", seed=0), X, epochs=5)
    >>> pretrained.encoder.encode(X).shape
    (50, 2)
    """
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "schedule": schedule}
    settings |= {"patience": patience, "centre": centre, "shuffle": shuffle, "seed": seed}
    checks.instance(model, "model", nn.Module, wanted="an autoencoder, or a module of your own")
    folders = None if checkpoint is None else [checks.path(checkpoint, "checkpoint")]
    (result,) = _pretrain(
        [model], [X], [targets], [validation], [settings], folders, device, progress
    )
    return result


def pretrain_many(
    models: Sequence[nn.Module],
    X: Any,
    *,
    seeds: Sequence[int],
    targets: Any = None,
    validation: Any = 0.1,
    epochs: int | Sequence[int] = 200,
    batch_size: int | Sequence[int] = 150,
    lr: float | Sequence[float] | None = None,
    schedule: Schedule | Sequence[Schedule] = "cosine",
    patience: int | Sequence[int] = 40,
    centre: bool | Sequence[bool] = True,
    shuffle: bool | Sequence[bool] = True,
    checkpoint: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
    progress: Progress = False,
) -> list[Pretrained]:
    """Train a population of autoencoders at once; each comes out as if it had been trained alone, bit for bit.

    Minibatches by a new permutation in each epoch, Adam, early stopping on the validation error of what the model is
    trained for (for a corrupted one: on a corruption of the validation rows that is drawn once), best weights kept.
    The models end with these weights.

    Training begins by moving the model to where the data are: f becomes ``f(x - c) + c``, c being the mean of the
    training rows, and stays in these coordinates to its end, where c is absorbed by the first and the last bias. Adam
    descends much faster on centred rows; rows that are hidden or noisy were so before c was subtracted.

    Args:
        models: autoencoders, each a different object; dense ones of equal shape are stacked. A module of your own
            takes part if ``forward(x)`` is the reconstruction; if it has ``encode(x)``, that is the representation,
            and if its attribute ``corruption`` is one, it is trained with it. It is not moved to the data.
        X: rows of shape (n, features) for all, or a list with one for each model: an array, a tensor, or, for data
            larger than memory, a ``numpy.memmap`` or the path of a ``.npy`` file, read block by block. For transformers
            also images of shape (n, channels, height, width), whose whole numbers are divided by 255 (which
            ``Pretrained.notes`` tells); for a module of your own rows of any shape (n, ...).
        seeds: one for each model: draws its validation rows, permutations and corruption. The weights that it
            starts from are the model's own; see ``Autoencoder(seed=...)``.
        targets: what is to be reconstructed, as one array of the shape of X, or a list: row i of X is shown (corrupted,
            if the model has a corruption) and row i of the targets is learned, as from measured pairs of noisy and
            clean. By default the rows themselves.
        validation: share of the rows, in (0, 1), or rows of their own (one for all, a list for each), or ``None``: no
            early stopping, last weights kept.
        epochs: passes over the data at most, at least 1.
        batch_size: rows per step, at least 1; the last batch of an epoch may be smaller.
        lr: highest learning rate of Adam, > 0; by default 0.005 for dense autoencoders and 0.001 for others.
        schedule: ``"cosine"``: the learning rate rises during the first twentieth of the epochs and then falls to 0
            along half a cosine; or ``"constant"``.
        patience: epochs without improvement after which training stops, at least 1.
        centre: whether to begin by moving the model to the data; not for one that was trained before.
        shuffle: whether each epoch takes the rows in a new random order, or always in their own.
        checkpoint: a folder with a folder for each model in it, ``0``, ``1``, ...: after each epoch the model's state
            replaces ``checkpoint.safetensors``, and a line is added to ``metrics.jsonl``. Called again with the same
            arguments, a run that was interrupted goes on and ends with the same bits; one that is done is read back.
        device: where to train, as ``"cuda"``; by default where the model is. Models and results stay where they are.
        progress: ``True`` for a progress bar on the terminal; or what to call with an :class:`Epoch` after each one.

    Those from ``epochs`` to ``shuffle`` take one value for all, or a list with one for each.

    Returns:
        One :class:`Pretrained` for each model, in order.

    Raises:
        InputError: settings out of range, rows that are not finite or do not fit the model, a checkpoint of another
            run.
        SaveError: a checkpoint that is damaged, or that cannot be written.

    >>> X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    >>> models = [Autoencoder(3, (2,), "linear", seed=seed) for seed in range(2)]
    >>> [pretrained.ending for pretrained in pretrain_many(models, X, seeds=[0, 1], lr=[1e-2, 1e-3], epochs=5)]
    ['budget', 'budget']

    Reference: LeCun et al., *Efficient backprop*, 1998 (on centring).
    """
    models = checks.items(models, "models", least=1, of="models")
    for i, model in enumerate(models):
        checks.instance(
            model, f"models[{i}]", nn.Module, wanted="an autoencoder, or a module of your own"
        )
    if len({id(model) for model in models}) < len(models):
        raise InputError(
            "each model must be an object of its own", cure="build one Autoencoder for each seed"
        )
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "schedule": schedule}
    settings |= {"patience": patience, "centre": centre, "shuffle": shuffle}
    columns = {name: _one_each(value, len(models), name) for name, value in settings.items()}
    if isinstance(seeds, (int, np.integer)):
        raise InputError(
            "each model has its own seed",
            got=f"seeds = {seeds}",
            cure=f"seeds=range({len(models)})",
        )
    columns |= {"seed": _one_each(checks.items(seeds, "seeds", of="seeds"), len(models), "seeds")}
    sources = {"X": X, "targets": targets, "validation": validation}
    rows, wanted, held_out = (
        _rows_each(value, len(models), name) for name, value in sources.items()
    )
    each = [{name: column[i] for name, column in columns.items()} for i in range(len(models))]
    folder = None if checkpoint is None else checks.path(checkpoint, "checkpoint")
    folders = None if folder is None else [folder / str(i) for i in range(len(models))]
    return _pretrain(models, rows, wanted, held_out, each, folders, device, progress)


def _pretrain(
    models: Sequence[nn.Module],
    X: list[Any],
    targets: list[Any],
    validation: list[Any],
    settings: list[dict[str, Any]],
    folders: list[Path] | None,
    device: str | torch.device | None,
    progress: Progress,
) -> list[Pretrained]:
    if isinstance(progress, type) or not callable(progress):
        progress = checks.flag(progress, "progress")
    opener = Opener(None if device is None else checks.device(device))
    members: list[Member] = []
    total_epochs = sum(s["epochs"] for s in settings if isinstance(s["epochs"], int))
    with reporting(progress, total_epochs) as report, ExitStack() as locks:
        for kind in (
            "cpu",
            "cuda",
        ):  # models compute in their own number type, whatever surrounds the call
            locks.enter_context(torch.autocast(kind, enabled=False))
        for folder in folders or ():
            locks.enter_context(storage.lock_folder(folder))
            storage.remove_leftovers(folder / CHECKPOINT, folder / JOURNAL)
        for i, model in enumerate(models):
            with context(f"in model {i} of {len(models)}"):
                member = _member(i, model, (X[i], targets[i], validation[i]), settings[i], opener)
                member.progress = report
                if folders is not None:
                    member.journal = Journal(folders[i], member.configuration())
                    member.restore()
                members.append(member)
        for company in _companies([member for member in members if member.ending is None]):
            _train(company)
        return [member.result() for member in members]


def _member(
    number: int,
    model: nn.Module,
    sources: tuple[Any, Any, Any],
    settings: dict[str, Any],
    opener: Opener,
) -> Member:
    X, targets, validation = sources
    validation = _share(validation)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            "a model that is trained has parameters that may change",
            got=f"a {type(model).__name__} without any",
            cause="a frozen model" if next(model.parameters(), None) is not None else None,
            cure="model.requires_grad_(True)",
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise InputError(
            "a model that is trained has its parameters in memory",
            got=f"a {type(model).__name__} on the meta device",
            cure="create it on 'cpu'",
        )
    if settings["lr"] is None:
        settings["lr"] = 5e-3 if isinstance(model, Autoencoder) else 1e-3
    settings = check_settings(settings)
    rows = opener(model, X, "X")
    wanted = None if targets is None else opener(model, targets, "targets", rows.form)
    if wanted is not None:
        check_targets(rows, wanted, validation)
    if isinstance(validation, float):
        rows, held_out = split(rows, validation, settings["seed"])
    else:
        held_out = (
            None if validation is None else opener(model, validation, "validation", rows.form)
        )
    if not isinstance(model, (Autoencoder, MaskedPatchTransformer)):
        check_batches(model, rows, settings["batch_size"])
    return Member(number, model, rows, held_out, settings, wanted)


def _share(validation: Any) -> Any:
    """The share of the rows as a plain number, if ``validation`` is a number; else what it is."""
    is_number = (
        isinstance(validation, (int, float, np.number)) or getattr(validation, "ndim", None) == 0
    )
    return checks.number(validation, "validation") if is_number else validation


def _train(members: list[Member]) -> None:
    """The training loop, for members of equal shape that have come equally far."""
    engine, epoch = _engine(members), members[0].epoch
    for k, member in enumerate(members):
        member.company = member.company or len(members)
        member.begin(engine, k)
    batch, device = members[0].settings["batch_size"], members[0].rows.device
    while members:
        engine.lr = [member.lr(epoch) for member in members]
        epoch += 1
        total = torch.zeros(len(members), dtype=torch.float64, device=device)
        for blocks in zip(*(member.blocks() for member in members), strict=True):
            seen, target, counts = (_stack(parts) for parts in zip(*blocks, strict=True))
            assert seen is not None
            assert target is not None
            for start in range(0, seen.shape[1], batch):
                rows = slice(start, start + batch)
                total += engine.step(
                    seen[:, rows], target[:, rows], None if counts is None else counts[:, rows]
                )
        for k, (member, error) in enumerate(zip(members, total.tolist(), strict=True)):
            member.finish_epoch(engine, k, error / len(member.rows))
        going_on = [k for k, member in enumerate(members) if member.ending is None]
        if 0 < len(going_on) < len(members):
            engine.keep(going_on)
        members = [members[k] for k in going_on]


def _engine(members: list[Member]) -> Engine:
    """What takes the steps: all members at once where they are dense, else the only one by autograd."""
    first, lr = members[0], [member.lr(member.epoch) for member in members]
    device = first.rows.device
    if isinstance(first.model, Autoencoder):
        states = [
            {name: tensor.to(device) for name, tensor in member.model.state_dict().items()}
            for member in members
        ]
        return Stack(first.architecture, states, lr)
    if isinstance(first.model, MaskedPatchTransformer):
        return Single(deepcopy(first.model).to(device), lr)
    return Alone(first.model, first.rows.row_shape, lr[0], first.settings["seed"], device)


def _companies(members: list[Member]) -> Iterator[list[Member]]:
    """Members that are trained together: of equal shape, as many as a stack holds, in even parts."""
    groups: dict[Any, list[Member]] = {}
    for member in members:
        groups.setdefault(member.shape, []).append(member)
    for group in groups.values():
        model, batch = group[0].model, group[0].settings["batch_size"]
        size = stack_size(model.architecture, batch) if isinstance(model, Autoencoder) else 1
        parts = -(-len(group) // size)
        yield from (
            [group[i] for i in part] for part in np.array_split(np.arange(len(group)), parts)
        )


def _stack(parts: Sequence[Tensor | None]) -> Tensor | None:
    return None if parts[0] is None else torch.stack([part for part in parts if part is not None])


def _one_each(value: Any, count: int, name: str) -> list[Any]:
    if not isinstance(value, (list, tuple, range, np.ndarray)):
        return [value] * count
    if len(value) != count:
        raise InputError(
            f"{name} has one value for all models or one for each",
            got=f"{len(value)} for {count} models",
        )
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
