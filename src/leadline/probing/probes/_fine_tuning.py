"""Fine-tuning: what an encoder is worth where it may change, too."""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from leadline import checks
from leadline.checks import ShortRepr
from leadline.errors import InputError
from leadline.probing.probes._linear import FOLDS, accuracy_verdict, linear_probe
from leadline.probing.probes._representation import Inputs, check_probe_data, features_of
from leadline.sounding import Verdict


@dataclass(frozen=True, eq=False)
class FineTuned(ShortRepr):
    """A classifier that grew out of an encoder, and its accuracy on the test rows."""

    accuracy: float
    """Share of test rows that are classified correctly, in [0, 1]."""
    frozen_accuracy: float
    """The same before the encoder was allowed to change: that of a linear probe on the same labels."""
    epochs: int
    """How many it was trained for; 0 where the held-out labels saw no gain in any, or are too few to be held out."""
    held_out_loss: Float[np.ndarray, " e"]
    """Mean negative log-likelihood of held-out labels at the start and after each epoch, in nats; or empty."""
    model: nn.Module
    """Encoder and linear head, in evaluation mode: rows to scores of classes."""
    classes: Int[np.ndarray, " classes"]
    """The labels of the classes, ascending."""
    majority: float
    """Share of the most frequent class among the test rows: the accuracy of always predicting it."""
    offset: Float[np.ndarray, " features"] | None = None
    """What the encoder subtracts from rows in float64 before it converts them; ``None`` for most encoders."""

    @property
    def verdict(self) -> Verdict:
        """The accuracy and the share of the largest class."""
        return accuracy_verdict(
            f"the encoder, tuned for {self.epochs} epochs,", self.accuracy, self.majority
        )

    def __str__(self) -> str:
        return str(self.verdict)

    def probabilities(self, X: Any) -> Float[np.ndarray, "n classes"]:
        """Predicted distribution over :attr:`classes` for rows.

        Raises:
            InputError: rows of another shape than those that it was tuned on, or not finite.
        """
        first = next(self.model.parameters())
        rows = torch.tensor(_shifted(_rows(X, "X"), self.offset)).to(first)
        return features_of(self.model, self.model, rows).softmax(1).cpu().numpy()

    def predict(self, X: Any) -> Int[np.ndarray, " n"]:
        """The most likely class of each row."""
        return self.classes[self.probabilities(X).argmax(axis=1)]


class _Classifier(nn.Module):
    """A copy of an encoder below a linear head."""

    def __init__(self, encoder: nn.Module, head: nn.Linear):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        return self.head(_code(self.encoder, x))


def fine_tune(
    encoder: Any,
    X_train: Any,
    y_train: Any,
    X_test: Any,
    y_test: Any,
    *,
    epochs: int = 100,
    batch_size: int = 32,
    lr: float = 1e-3,
    patience: int = 10,
    seed: int = 0,
) -> FineTuned:
    """Train a copy of the whole encoder, with a linear head, on labelled rows. What was given stays as it was.

    The head begins as the linear probe on the frozen features, so that training begins where a probe ends. How many
    epochs are good is told by a third of the labels, held out; then all labels train anew for as many. Where a class
    has fewer than three labels nothing can tell, and the probe is kept: on the digits at one label per class, 10 epochs
    for better or worse make 9 of 12 seeds worse.

    Args:
        encoder: an encoder with a ``module``, or any ``torch.nn.Module`` from rows to features of shape (n, d), through
            its ``encode`` if it has one.
        X_train: rows of shape (n, features), or of the shape that the module takes.
        y_train: class indices of shape (n,).
        X_test: rows of shape (m, features), or as those for training.
        y_test: class indices of shape (m,), of classes that ``y_train`` holds.
        epochs: passes over the labelled rows at most.
        batch_size: rows per step.
        lr: learning rate of Adam, > 0.
        patience: epochs without improvement on the held-out labels after which the search ends.
        seed: draws the order of the rows, and what the module draws (dropout).

    Raises:
        InputError: nothing that can be trained, or rows and labels that do not fit.

    >>> X = np.random.default_rng(0).normal(size=(60, 2)).astype("float32")
    >>> from leadline.autoencoders import Autoencoder
    >>> tuned = fine_tune(Autoencoder(2, (4,), seed=0), X, X[:, 0] > 0, X, X[:, 0] > 0)
    >>> tuned.accuracy > 0.9
    True

    Reference: Kumar et al., *Fine-tuning can distort pretrained features and underperform out-of-distribution*, 2022
    (first the probe, then the encoder).
    """
    trained, tested = _rows(X_train, "X_train"), _rows(X_test, "X_test")
    if trained.shaped.shape[1:] != tested.shaped.shape[1:]:
        raise InputError(
            "X_train and X_test must have rows of one shape",
            got=f"rows of shape {trained.shaped.shape[1:]} and {tested.shaped.shape[1:]}",
        )
    given = check_probe_data(trained.flat, y_train, tested.flat, y_test)
    y_train, y_test = given.y_train, given.y_test
    epochs = checks.whole_number(epochs, "epochs", least=1)
    batch_size = checks.whole_number(batch_size, "batch_size", least=1)
    patience = checks.whole_number(patience, "patience", least=1)
    seed = checks.seed(seed)
    lr = checks.number(lr, "lr", above=0, cure="try 1e-3")
    module = _module(encoder)
    first = next(module.parameters())
    offset = getattr(encoder, "offset", None)
    rows, tests = (torch.tensor(_shifted(one, offset)).to(first) for one in (trained, tested))
    labels = torch.from_numpy(y_train).to(first.device)
    held_out, classes = _every_third(y_train), int(y_train.max()) + 1
    losses, count = np.empty(0), 0
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        if held_out is not None:
            inside = ~held_out
            search = _start(module, rows[inside], y_train[inside], classes)
            losses = _search(
                _epochs(search, rows[inside], labels[inside], epochs, batch_size, lr),
                patience,
                (rows[held_out], labels[held_out]),
            )
            count = int(losses.argmin())
        model = _start(module, rows, y_train, classes)
        frozen = _accuracy(model, tests, y_test)
        for _ in _epochs(model, rows, labels, count, batch_size, lr):
            pass
    model = model.eval().requires_grad_(False)
    accuracy = _accuracy(model, tests, y_test)
    return FineTuned(accuracy, frozen, count, losses, model, given.classes, given.majority, offset)


def _shifted(given: Inputs, offset: np.ndarray | None) -> np.ndarray:
    """Rows as the module takes them."""
    return given.shaped if offset is None else (given.flat - offset).reshape(given.shaped.shape)


def _rows(X: Any, name: str) -> Inputs:
    array = checks.array(X, name)
    if array.ndim > 2 and array.dtype.kind in "iu":
        raise InputError(
            "images that a module is tuned on are floating-point numbers",
            got=f"{name} of dtype {array.dtype}",
            cause="pixels from 0 to 255, and not known whether the module takes them so",
            cure=f"{name} / 255 if the encoder was trained on that, as Leadline's are; else {name}.astype('float32')",
        )
    return Inputs.of(array, name)


def _module(encoder: Any) -> nn.Module:
    """The part of an encoder that can be trained."""
    module = encoder if isinstance(encoder, nn.Module) else getattr(encoder, "module", None)
    if not isinstance(module, nn.Module) or next(module.parameters(), None) is None:
        raise InputError(
            "only a module with parameters can be fine-tuned",
            got=checks.shown(encoder),
            cause="a pretrained model instead of its encoder"
            if hasattr(encoder, "encoder")
            else None,
            cure="hand over pretrained.encoder, or the torch.nn.Module itself; linear_probe takes any function",
        )
    return module


def _code(module: nn.Module, x: Tensor) -> Tensor:
    encode: Any = getattr(module, "encode", module)
    return encode(x).flatten(1)  # of tokens, which stand side by side


def _start(module: nn.Module, rows: Tensor, y: np.ndarray, classes: int) -> _Classifier:
    """A copy of the encoder below the linear probe on its features, which is what training starts from."""
    copy = deepcopy(module).requires_grad_(True).eval()
    codes = features_of(module, lambda x: _code(copy, x), rows)
    if not isinstance(codes, Tensor) or len(codes) != len(rows):
        raise InputError(
            "an encoder gives one row of features for each row",
            got=f"{checks.shown(codes)} for {len(rows)} rows",
        )
    features = codes.double().cpu().numpy()
    probe = linear_probe(features, y, features, y, dtype=np.float64)
    head = (
        nn.Linear(codes.shape[1], classes, device="meta")
        .to_empty(device=codes.device)
        .to(codes.dtype)
    )
    W = probe.coefficients / probe.scaling.scale
    with torch.no_grad():
        head.weight.zero_()[: len(W)] = torch.from_numpy(W)
        head.bias.fill_(-1e3)[: len(W)] = torch.from_numpy(
            probe.intercepts - W @ probe.scaling.centre
        )
    return _Classifier(copy, head)


def _epochs(
    model: _Classifier, rows: Tensor, labels: Tensor, epochs: int, batch_size: int, lr: float
) -> Iterator[_Classifier]:
    """The model in evaluation mode, at the start and after each epoch of training."""
    yield model
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(rows)).to(rows.device)
        for batch in order.tensor_split(-(-len(rows) // batch_size)):
            optimiser.zero_grad()
            try:
                nn.functional.cross_entropy(model(rows[batch]), labels[batch]).backward()
            except (RuntimeError, TypeError, ValueError) as error:
                raise InputError(
                    "the encoder must train on batches of batch_size rows",
                    got=f"batch_size = {batch_size}, a batch of {len(batch)} rows: {error}",
                    cause="batch normalisation, which needs two rows" if len(batch) < 2 else None,
                    cure="batch_size=32",
                ) from error
            optimiser.step()
        yield model.eval()


def _search(
    training: Iterator[_Classifier], patience: int, held_out: tuple[Tensor, Tensor]
) -> np.ndarray:
    """Loss on held-out rows, epoch by epoch, until it has stopped falling."""
    losses: list[float] = []
    for model in training:
        with torch.no_grad():
            loss = float(nn.functional.cross_entropy(model(held_out[0]), held_out[1]))
        losses.append(loss if math.isfinite(loss) else math.inf)  # NaN would pass for the smallest
        if len(losses) - 1 - int(np.argmin(losses)) >= patience:
            break
    return np.array(losses)


def _accuracy(model: _Classifier, rows: Tensor, y: np.ndarray) -> float:
    with torch.no_grad():
        return float((model.eval()(rows).argmax(1).cpu().numpy() == y).mean())


def _every_third(y: np.ndarray) -> np.ndarray | None:
    """Every third row of each class, or ``None`` where a class has fewer than three."""
    if np.bincount(y)[np.unique(y)].min() < FOLDS:
        return None
    rank = np.empty(len(y), np.int64)
    for label in np.unique(y):
        rank[y == label] = np.arange((y == label).sum())
    return rank % FOLDS == 0
