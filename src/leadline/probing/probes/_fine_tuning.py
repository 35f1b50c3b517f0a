"""Fine-tuning: training a copy of the encoder together with a linear head."""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError
from leadline.probing.encoding._sources import Inputs, run_module
from leadline.probing.probes._checks import FittedProbe, accuracy_verdict, check_probe_data
from leadline.probing.probes._folds import folds, have_every_fold
from leadline.probing.probes._linear import linear_probe
from leadline.sounding import Verdict


@dataclass(frozen=True)
class FineTuningSettings:
    """Settings of fine-tuning.

    Raises:
        InputError: a setting is out of range.
    """

    epochs: int = 100
    """Largest number of passes over the labelled rows, at least 1."""
    batch_size: int = 32
    """Rows of each training step, at least 1."""
    learning_rate: float = 1e-3
    """Learning rate of Adam, > 0."""
    patience: int = 10
    """Number of epochs without improvement on the held-out labels after which training stops."""
    seed: int = 0
    """Seed of the order of the rows and of the module's own random numbers (dropout)."""

    def __post_init__(self):
        for name in ("epochs", "batch_size", "patience"):
            number = checks.whole_number(getattr(self, name), name, least=1)
            object.__setattr__(self, name, number)
        object.__setattr__(self, "seed", checks.seed(self.seed))
        rate = checks.number(self.learning_rate, "learning_rate", above=0, cure="try 1e-3")
        object.__setattr__(self, "learning_rate", rate)


@dataclass(frozen=True, eq=False)
class FineTuned(FittedProbe):
    """A fine-tuned encoder with a linear head, and its accuracy on the test rows."""

    accuracy: float
    """Share of test rows that are classified correctly, in [0, 1]."""
    frozen_accuracy: float
    """Accuracy of the linear probe on the frozen encoder, with the same labels."""
    epochs: int
    """Number of epochs of training. It is 0 if no epoch reduced the loss on the held-out labels, or
    if there are too few labels to hold any out."""
    held_out_loss: Float[np.ndarray, " e"]
    """Mean negative log-likelihood of the held-out labels, in nats, at the start and after each
    epoch; empty if no labels were held out."""
    model: nn.Module
    """Encoder and linear head in evaluation mode, from rows to scores of classes."""
    classes: Int[np.ndarray, " classes"]
    """The labels of the classes, ascending."""
    majority: float
    """Share of the most frequent test class, the accuracy of always predicting it."""
    offset: Float[np.ndarray, " features"] | None = None
    """Numbers that the encoder subtracts from rows in float64, if there are any."""

    @property
    def verdict(self) -> Verdict:
        """The accuracy and the share of the largest class."""
        subject = f"the encoder, tuned for {self.epochs} epochs,"
        return accuracy_verdict(subject, self.accuracy, self.majority)

    def probabilities(self, X: Any) -> Float[np.ndarray, "n classes"]:
        """Return the predicted distribution over :attr:`classes` for rows.

        Raises:
            InputError: the rows are not finite, or differ in shape from the training rows.
        """
        parameter = next(self.model.parameters())
        rows = torch.tensor(_module_rows(_check_rows(X, "X"), self.offset)).to(parameter)
        return run_module(self.model, self.model, rows).softmax(1).cpu().numpy()

    def predict(self, X: Any) -> Int[np.ndarray, " n"]:
        """Return the most likely class of each row."""
        return self.classes[self.probabilities(X).argmax(axis=1)]


class _Classifier(nn.Module):
    """A copy of an encoder, followed by a linear head."""

    def __init__(self, encoder: nn.Module, head: nn.Linear):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        return self.head(_encode(self.encoder, x))


def fine_tune(
    encoder: Any,
    X_train: Any,
    y_train: Any,
    X_test: Any,
    y_test: Any,
    *,
    epochs: int = FineTuningSettings.epochs,
    batch_size: int = FineTuningSettings.batch_size,
    learning_rate: float = FineTuningSettings.learning_rate,
    patience: int = FineTuningSettings.patience,
    seed: int = FineTuningSettings.seed,
) -> FineTuned:
    """Train a copy of the whole encoder, with a linear head, on labelled rows.

    The given encoder does not change. The head starts as the linear probe on the frozen features,
    so that training continues from the probe. A third of the labels is held out to find the number
    of epochs; a new copy is then trained on all labels for that many epochs. If a class has fewer
    than three labels, none can be held out and the linear probe is kept: on the digits with one
    label per class, training for 10 epochs anyway makes 9 of 12 seeds worse.

    Args:
        encoder: an encoder with a ``module``, or a ``torch.nn.Module`` from rows to features of
            shape (n, d). A module's ``encode`` method is used if it has one.
        X_train: rows of shape (n, features), or of the shape that the module accepts.
        y_train: class indices of shape (n,).
        X_test: rows of shape (m, features), or of the shape that the module accepts.
        y_test: class indices of shape (m,), all of which occur in ``y_train``.
        epochs: largest number of passes over the labelled rows.
        batch_size: rows of each training step.
        learning_rate: learning rate of Adam, > 0.
        patience: number of epochs without improvement on the held-out labels after which the search
            for the number of epochs stops.
        seed: seed of the order of the rows and of the module's own random numbers (dropout).

    Returns:
        The tuned model and its accuracy on the test rows.

    Raises:
        InputError: the encoder has no parameters, the rows and labels do not match, or a setting is
            out of range.

    >>> X = np.random.default_rng(0).normal(size=(60, 2)).astype("float32")
    >>> from leadline.autoencoders import Autoencoder
    >>> tuned = fine_tune(Autoencoder(2, (4,), seed=0), X, X[:, 0] > 0, X, X[:, 0] > 0)
    >>> tuned.accuracy > 0.9
    True

    Reference: Kumar et al., *Fine-tuning can distort pretrained features and underperform
    out-of-distribution*, 2022 (first the probe, then the encoder).
    """
    train = _check_rows(X_train, "X_train")
    test = _check_rows(X_test, "X_test")
    if train.shaped.shape[1:] != test.shaped.shape[1:]:
        raise InputError(
            "X_train and X_test must have rows of one shape",
            got=f"rows of shape {train.shaped.shape[1:]} and {test.shaped.shape[1:]}",
        )
    checked = check_probe_data(train.flat, y_train, test.flat, y_test)
    settings = FineTuningSettings(epochs, batch_size, learning_rate, patience, seed)
    module = _trainable_module(encoder)
    parameter = next(module.parameters())
    offset = getattr(encoder, "offset", None)
    rows = torch.tensor(_module_rows(train, offset)).to(parameter)
    tests = torch.tensor(_module_rows(test, offset)).to(parameter)
    y = checked.y_train
    labels = torch.from_numpy(y).to(parameter.device)
    num_classes = len(checked.classes)
    is_held_out = _held_out(y, num_classes)
    losses = np.empty(0)
    best_epochs = 0
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(settings.seed)
        if is_held_out is not None:
            inside = ~is_held_out
            model = _initial_classifier(module, rows[inside], y[inside], num_classes)
            training = _train(model, rows[inside], labels[inside], settings.epochs, settings)
            losses = _held_out_losses(
                training, rows[is_held_out], labels[is_held_out], settings.patience
            )
            best_epochs = int(losses.argmin())
        model = _initial_classifier(module, rows, y, num_classes)
        frozen_accuracy = _accuracy(model, tests, checked.y_test)
        for _ in _train(model, rows, labels, best_epochs, settings):
            pass
    tuned = model.eval().requires_grad_(False)
    return FineTuned(
        accuracy=_accuracy(tuned, tests, checked.y_test),
        frozen_accuracy=frozen_accuracy,
        epochs=best_epochs,
        held_out_loss=losses,
        model=tuned,
        classes=checked.classes,
        majority=checked.majority,
        offset=offset,
    )


def _module_rows(inputs: Inputs, offset: np.ndarray | None) -> np.ndarray:
    """Return the rows as the module reads them, with the offset subtracted in float64."""
    if offset is None:
        return inputs.shaped
    return (inputs.flat - offset).reshape(inputs.shaped.shape)


def _check_rows(X: Any, name: str) -> Inputs:
    """Check rows, and refuse images of whole numbers, whose scale the module does not reveal."""
    array = checks.array(X, name)
    if array.ndim > 2 and array.dtype.kind in "iu":
        raise InputError(
            f"{name} must hold floating-point numbers if its rows are images",
            got=f"{name} of dtype {array.dtype}",
            cause="pixels from 0 to 255; the module does not reveal how it was trained on them",
            cure=f"use {name} / 255 if the encoder was trained on that, as Leadline's are; "
            f"otherwise {name}.astype('float32')",
        )
    return Inputs.of(array, name)


def _trainable_module(encoder: Any) -> nn.Module:
    """Return the module of an encoder, or refuse an encoder without parameters."""
    module = encoder if isinstance(encoder, nn.Module) else getattr(encoder, "module", None)
    if not isinstance(module, nn.Module) or next(module.parameters(), None) is None:
        is_pretrained = hasattr(encoder, "encoder")
        raise InputError(
            "fine_tune() needs a module with parameters",
            got=checks.shown(encoder),
            cause="a pretrained model instead of its encoder" if is_pretrained else None,
            cure="pass pretrained.encoder or the torch.nn.Module; linear_probe() takes features of "
            "any function",
        )
    return module


def _encode(module: nn.Module, x: Tensor) -> Tensor:
    """Return the features of rows; the tokens of a row are concatenated."""
    encode: Any = getattr(module, "encode", module)
    return encode(x).flatten(1)


def _initial_classifier(
    module: nn.Module, rows: Tensor, y: np.ndarray, num_classes: int
) -> _Classifier:
    """Return a copy of the encoder with a head that equals the linear probe on its features."""
    copy = deepcopy(module).requires_grad_(True).eval()
    codes = run_module(module, lambda x: _encode(copy, x), rows)
    if not isinstance(codes, Tensor) or len(codes) != len(rows):
        raise InputError(
            "an encoder must return one row of features for each row",
            got=f"{checks.shown(codes)} for {len(rows)} rows",
        )
    features = codes.double().cpu().numpy()
    probe = linear_probe(features, y, features, y, dtype=np.float64)
    empty_head = nn.Linear(codes.shape[1], num_classes, device="meta")
    head = empty_head.to_empty(device=codes.device).to(codes.dtype)
    # The probe reads scaled features and the head does not, so the scaling moves into the weights.
    W = probe.coefficients / probe.scaling.scale
    bias = probe.intercepts - W @ probe.scaling.centre
    with torch.no_grad():
        head.weight.zero_()[: len(W)] = torch.from_numpy(W)
        head.bias.fill_(-1e3)[: len(W)] = torch.from_numpy(bias)
    return _Classifier(copy, head)


def _train(
    model: _Classifier, rows: Tensor, labels: Tensor, epochs: int, settings: FineTuningSettings
) -> Iterator[_Classifier]:
    """Train a model; yield it in evaluation mode at the start and after each epoch."""
    yield model
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(rows)).to(rows.device)
        for batch in order.tensor_split(-(-len(rows) // settings.batch_size)):
            optimiser.zero_grad()
            try:
                nn.functional.cross_entropy(model(rows[batch]), labels[batch]).backward()
            except (RuntimeError, TypeError, ValueError) as error:
                is_single = len(batch) < 2
                raise InputError(
                    "the encoder must train on batches of batch_size rows",
                    got=f"batch_size = {settings.batch_size}, a batch of {len(batch)} rows: "
                    f"{error}",
                    cause="batch normalisation, which needs two rows" if is_single else None,
                    cure="batch_size=32",
                ) from error
            optimiser.step()
        yield model.eval()


def _held_out_losses(
    training: Iterator[_Classifier], rows: Tensor, labels: Tensor, patience: int
) -> Float[np.ndarray, " e"]:
    """Return the loss on held-out rows for each epoch until it no longer falls."""
    losses: list[float] = []
    for model in training:
        with torch.no_grad():
            loss = float(nn.functional.cross_entropy(model(rows), labels))
        # argmin would take NaN for the smallest loss.
        losses.append(loss if math.isfinite(loss) else math.inf)
        if len(losses) - 1 - int(np.argmin(losses)) >= patience:
            break
    return np.array(losses)


def _accuracy(model: _Classifier, rows: Tensor, y: np.ndarray) -> float:
    """Return the share of rows that a model classifies correctly."""
    with torch.no_grad():
        predicted = model.eval()(rows).argmax(1).cpu().numpy()
    return float((predicted == y).mean())


def _held_out(y: Int[np.ndarray, " n"], num_classes: int) -> Bool[np.ndarray, " n"] | None:
    """Return a mask of every third row of each class, or ``None`` if a class is too small."""
    labels = torch.from_numpy(y)[None]
    if not have_every_fold(labels, num_classes).item():
        return None
    return (folds(labels, num_classes)[0] == 0).numpy()
