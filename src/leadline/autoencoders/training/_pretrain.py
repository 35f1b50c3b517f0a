"""Pretraining of one or more autoencoders: the checks of the arguments, and the opened runs."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from leadline import checks, storage
from leadline.autoencoders.training._checkpoint import CHECKPOINT, JOURNAL, Epoch, Journal
from leadline.autoencoders.training._member import Member
from leadline.autoencoders.training._opening import Opener, architecture_of
from leadline.autoencoders.training._pretrained import Pretrained
from leadline.autoencoders.training._progress import reporting
from leadline.autoencoders.training._settings import PretrainingSettings, Schedule
from leadline.autoencoders.training._training import train_members
from leadline.errors import InputError, context

Progress = bool | Callable[[Epoch], object]
"""True for a progress bar, or a function that is called after each epoch."""


def pretrain(
    model: nn.Module,
    X: Any,
    *,
    targets: Any = None,
    validation: Any = 0.1,
    epochs: int = 200,
    batch_size: int = 150,
    learning_rate: float | None = None,
    schedule: Schedule = "cosine",
    patience: int = 40,
    centre: bool = True,
    shuffle: bool = True,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
    progress: Progress = False,
) -> Pretrained:
    """Train an autoencoder to reconstruct rows.

    The optimizer is Adam on minibatches. Training stops early when the error on corrupted
    validation rows no longer falls. The model and the result have the weights of the best epoch.

    Training takes place in centred coordinates: the model becomes ``f(x - c) + c``, where c is the
    mean of the training rows. Adam converges much faster on centred rows. At the end the first and
    the last bias absorb c.

    Args:
        model: An :class:`Autoencoder`, a :class:`MaskedPatchTransformer`, or a module of your own
            whose ``forward(x)`` is the reconstruction. If your module has ``encode(x)``, that is
            the representation; if it has an attribute ``corruption``, it is trained with it. Your
            own module is not centred.
        X: Rows of shape (n, features): an array, a tensor or a data frame. For data larger than
            memory: a ``numpy.memmap`` or the path of a ``.npy`` file, which is read block by block.
            A transformer also takes images of shape (n, channels, height, width); their whole
            numbers are divided by 255. A module of your own takes rows of any shape (n, ...).
        targets: Rows to reconstruct, in the shape of ``X``; by default ``X`` itself. Row i of the
            targets is learned from the (corrupted) row i of ``X``, as from measured pairs of noisy
            and clean rows.
        validation: A share of the rows in (0, 1), or separate rows. ``None`` trains without
            validation: all epochs are used and the last weights are kept.
        epochs: Maximum number of passes over the rows, at least 1.
        batch_size: Rows per step, at least 1. The last batch of an epoch may be smaller.
        learning_rate: Highest learning rate of Adam, > 0; by default 0.005 for dense autoencoders
            and 0.001 for other models.
        schedule: ``"cosine"``: the learning rate rises during the first twentieth of the epochs,
            then falls to 0 along half a cosine. ``"constant"``: it does not change.
        patience: Epochs without improvement after which training stops, at least 1.
        centre: True to train in centred coordinates. Use false for a model that is already trained.
        shuffle: True to visit the rows in a new random order in each epoch.
        seed: Seed of the validation rows, the permutations and the corruption. The initial weights
            are the model's own; see ``Autoencoder(seed=...)``.
        checkpoint: A folder for ``checkpoint.safetensors``, which is replaced after each epoch, and
            ``metrics.jsonl``, which gets a line per epoch. The same call resumes an interrupted run
            and gives the same bits; it reads back a finished run.
        device: The device to train on, such as ``"cuda"``; by default that of the model. The model
            and the result stay where they are.
        progress: True for a progress bar on a terminal; or a function that is called with an
            :class:`Epoch` after each epoch.

    Returns:
        The weights, the training curves and the encoder.

    Raises:
        InputError: A setting out of range, rows that are not finite or that the model cannot take,
            or a checkpoint of another run.
        SaveError: A checkpoint that is damaged or that cannot be written.

    >>> X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    >>> from leadline.autoencoders import Autoencoder
    >>> pretrained = pretrain(Autoencoder(3, (2,), "linear", seed=0), X, epochs=5)
    >>> pretrained.encoder.encode(X).shape
    (50, 2)

    Reference: LeCun et al., *Efficient backprop*, 1998 (on centring).
    """
    checks.instance(model, "model", nn.Module, wanted="an autoencoder, or a module of your own")
    folders = None if checkpoint is None else [checks.path(checkpoint, "checkpoint")]
    settings = PretrainingSettings(
        learning_rate=_rate_or_default(learning_rate, model),
        epochs=epochs,
        batch_size=batch_size,
        schedule=schedule,
        patience=patience,
        centre=centre,
        shuffle=shuffle,
        seed=seed,
    )
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
    learning_rate: float | Sequence[float] | None = None,
    schedule: Schedule | Sequence[Schedule] = "cosine",
    patience: int | Sequence[int] = 40,
    centre: bool | Sequence[bool] = True,
    shuffle: bool | Sequence[bool] = True,
    checkpoint: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
    progress: Progress = False,
) -> list[Pretrained]:
    """Train several autoencoders at once, each as :func:`pretrain` does, bit for bit.

    Dense autoencoders of equal shape are trained as one computation, which is faster.

    Args:
        models: The models as in :func:`pretrain`, each a different object.
        X: Rows as in :func:`pretrain` for all models, or a list with rows for each model.
        seeds: One seed for each model: it draws the validation rows, the permutations and the
            corruption.
        targets: Rows to reconstruct, for all models or a list with rows for each; by default ``X``.
        validation: A share of the rows in (0, 1), or separate rows for all models, or a list with
            one of these for each. ``None`` trains without validation.
        epochs: Maximum number of passes over the rows, at least 1. This argument and those up to
            ``shuffle`` take one value for all models, or a list with one value for each.
        batch_size: Rows per step, at least 1.
        learning_rate: Highest learning rate of Adam, > 0; by default 0.005 for dense autoencoders
            and 0.001 for other models.
        schedule: ``"cosine"`` or ``"constant"``, as in :func:`pretrain`.
        patience: Epochs without improvement after which the training of a model stops, at least 1.
        centre: True to train in centred coordinates.
        shuffle: True to visit the rows in a new random order in each epoch.
        checkpoint: A folder with a folder ``0``, ``1``, ... for each model, as in :func:`pretrain`.
        device: The device to train on, such as ``"cuda"``; by default that of each model.
        progress: True for a progress bar on a terminal; or a function that is called with an
            :class:`Epoch` after each epoch of each model.

    Returns:
        One :class:`Pretrained` for each model, in order.

    Raises:
        InputError: A setting out of range, rows that are not finite or that a model cannot take, or
            a checkpoint of another run.
        SaveError: A checkpoint that is damaged or that cannot be written.

    >>> from leadline.autoencoders import Autoencoder
    >>> X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    >>> models = [Autoencoder(3, (2,), "linear", seed=seed) for seed in range(2)]
    >>> results = pretrain_many(models, X, seeds=[0, 1], learning_rate=[1e-2, 1e-3], epochs=5)
    >>> [pretrained.ending for pretrained in results]
    ['budget', 'budget']
    """
    models = checks.items(models, "models", least=1, of="models")
    count = len(models)
    for i, model in enumerate(models):
        checks.instance(
            model, f"models[{i}]", nn.Module, wanted="an autoencoder, or a module of your own"
        )
    if len({id(model) for model in models}) < count:
        raise InputError(
            "models must be different objects", cure="build one Autoencoder for each seed"
        )
    columns = {
        "learning_rate": _one_each(learning_rate, count, "learning_rate"),
        "epochs": _one_each(epochs, count, "epochs"),
        "batch_size": _one_each(batch_size, count, "batch_size"),
        "schedule": _one_each(schedule, count, "schedule"),
        "patience": _one_each(patience, count, "patience"),
        "centre": _one_each(centre, count, "centre"),
        "shuffle": _one_each(shuffle, count, "shuffle"),
    }
    if isinstance(seeds, (int, np.integer)):
        raise InputError(
            "seeds must hold one seed for each model",
            got=f"seeds = {seeds}",
            cure=f"seeds=range({count})",
        )
    columns["seed"] = _one_each(checks.items(seeds, "seeds", of="seeds"), count, "seeds")
    settings = []
    for i, model in enumerate(models):
        with context(f"in model {i} of {count}"):
            values = {name: column[i] for name, column in columns.items()}
            values["learning_rate"] = _rate_or_default(values["learning_rate"], model)
            settings.append(PretrainingSettings(**values))
    folder = None if checkpoint is None else checks.path(checkpoint, "checkpoint")
    folders = None if folder is None else [folder / str(i) for i in range(count)]
    return _pretrain(
        models,
        _rows_each(X, count, "X"),
        _rows_each(targets, count, "targets"),
        _rows_each(validation, count, "validation"),
        settings,
        folders,
        device,
        progress,
    )


def _rate_or_default(learning_rate: Any, model: nn.Module) -> Any:
    """Return the learning rate, or the default of the model's architecture."""
    return architecture_of(model).learning_rate if learning_rate is None else learning_rate


def _pretrain(
    models: Sequence[nn.Module],
    X: list[Any],
    targets: list[Any],
    validation: list[Any],
    settings: list[PretrainingSettings],
    folders: list[Path] | None,
    device: str | torch.device | None,
    progress: Progress,
) -> list[Pretrained]:
    """Train models on their rows; all arguments have one item for each model."""
    if isinstance(progress, type) or not callable(progress):
        progress = checks.flag(progress, "progress")
    opener = Opener(None if device is None else checks.device(device))
    members: list[Member] = []
    total_epochs = sum(each.epochs for each in settings)
    with reporting(progress, total_epochs) as report, ExitStack() as stack:
        # Models compute in their own number type, even if the caller uses autocast.
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.enter_context(torch.autocast("cuda", enabled=False))
        for folder in folders or ():
            stack.enter_context(storage.lock_folder(folder))
            storage.remove_leftovers(folder / CHECKPOINT, folder / JOURNAL)
        for i, model in enumerate(models):
            with context(f"in model {i} of {len(models)}"):
                member = _open_member(
                    i, model, X[i], targets[i], validation[i], settings[i], opener
                )
                member.progress = report
                if folders is not None:
                    member.journal = Journal(folders[i], member.configuration())
                    member.restore()
                members.append(member)
        train_members([member for member in members if not member.has_ended])
        return [member.result() for member in members]


def _open_member(
    number: int,
    model: nn.Module,
    X: Any,
    targets: Any,
    validation: Any,
    settings: PretrainingSettings,
    opener: Opener,
) -> Member:
    """Open and check the rows of a model."""
    validation = _share(validation)
    _check_parameters(model)
    rows = opener.run_rows(model, X, targets, validation, settings.seed)
    architecture = architecture_of(model).for_rows(rows.training)
    architecture.check_batches(model, rows.training, settings.batch_size)
    return Member(number, model, architecture, rows, settings)


def _check_parameters(model: nn.Module) -> None:
    """Refuse a model without trainable parameters, or on the meta device."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        is_frozen = next(model.parameters(), None) is not None
        raise InputError(
            "model must have trainable parameters",
            got=f"a {type(model).__name__} without any",
            cause="a frozen model" if is_frozen else None,
            cure="model.requires_grad_(True)",
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise InputError(
            "model must have its parameters in memory",
            got=f"a {type(model).__name__} on the meta device",
            cure="create it on 'cpu'",
        )


def _share(validation: Any) -> Any:
    """Return a share as a plain number; return anything else unchanged."""
    is_number = (
        isinstance(validation, (int, float, np.number)) or getattr(validation, "ndim", None) == 0
    )
    return checks.number(validation, "validation") if is_number else validation


def _one_each(value: Any, count: int, name: str) -> list[Any]:
    """Return one value for each model."""
    if not isinstance(value, (list, tuple, range, np.ndarray)):
        return [value] * count
    if len(value) != count:
        raise InputError(
            f"{name} must be one value for all models, or a list with one for each",
            got=f"{len(value)} for {count} models",
        )
    return [item.item() if isinstance(item, np.generic) else item for item in value]


def _rows_each(value: Any, count: int, name: str) -> list[Any]:
    """Return the rows of each model."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise InputError(
            f"{name} must be one array for all models, or a list with one for each",
            got=f"a list of {len(value)} for {count} models",
            cure=f"pass a single set of rows as an array: np.asarray({name})",
        )
    return list(value)
