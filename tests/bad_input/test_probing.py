"""Bad input to the probes."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from leadline import data, probing
from leadline.autoencoders import Autoencoder, AutoencoderTransformer
from leadline.errors import InputError
from leadline.probing import (
    LabelEfficiency,
    Scaling,
    fine_tune,
    knn_probe,
    label_efficiency,
    linear_probe,
    rank_agreement,
    rank_me,
    ridge_probe,
    transfer_matrix,
)
from tests.bad_input.harness import Room, call

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 2
X[:, 0] += 2 * Y
QUANTITY = X @ np.ones(4) + 0.1 * RNG.normal(size=60)
ROLES = [data.split_roles(Y, seed=seed) for seed in range(3)]
IMAGES = data.Dataset(X, Y, "squares", image_size=(2, 2))


@cache
def study() -> LabelEfficiency:
    return label_efficiency(
        {"one": 1, "two": 2, "three": 3}, X, Y, roles=ROLES, labels=[4, 8], num_subsets=2
    )


@cache
def transferred() -> probing.TransferMatrix:
    return transfer_matrix({"two": 2}, {"squares": IMAGES}, roles={"squares": ROLES}, num_subsets=2)


@cache
def fitted() -> dict[str, Any]:
    return {
        "knn": knn_probe(X, Y, X, Y),
        "linear": linear_probe(X, Y, X, Y),
        "ridge": ridge_probe(X, QUANTITY, X, QUANTITY),
        "tuned": fine_tune(Autoencoder(4, (3,), seed=0), X, Y, X, Y, epochs=1),
        "agreement": rank_agreement(study(), losses()),
    }


def losses() -> dict[str, list[float]]:
    return {"one": [3.0, 3.1, 3.2], "two": [2.0, 2.1, 2.2], "three": [1.0, 1.1, 1.2]}


def of(name: str, method: str, *args: Any, **kwargs: Any) -> Any:
    return lambda: call(getattr(fitted()[name], method), *args, **kwargs)


def of_study(method: str, *args: Any, **kwargs: Any) -> Any:
    return lambda: call(getattr(study(), method), *args, **kwargs)


CALLS: dict[str, Any] = {
    "Scaling": lambda: call(Scaling, np.zeros(4), 1.0),
    "Scaling.fit": lambda: call(Scaling.fit, X),
    "fine_tune": lambda: call(
        fine_tune,
        Autoencoder(4, (3,), seed=0),
        X,
        Y,
        X,
        Y,
        epochs=1,
        batch_size=30,
        learning_rate=1e-3,
        patience=1,
        seed=0,
    ),
    "knn_probe": lambda: call(
        knn_probe,
        X,
        Y,
        X,
        Y,
        neighbours=[1, 3],
        labels=[20],
        metric="cosine",
        scaling=Scaling.fit(X),
    ),
    "label_efficiency": lambda: call(
        label_efficiency,
        {"pca": 2},
        X,
        Y,
        roles=ROLES,
        labels=[4],
        num_subsets=2,
        seeds=[0, 1, 2],
        probe="logistic",
        strengths=[0.1, 1.0],
        criterion="accuracy",
        baselines=["raw"],
        transductive=False,
    ),
    "linear_probe": lambda: call(
        linear_probe,
        X,
        Y,
        X,
        Y,
        strengths=[0.1, 1.0],
        criterion="accuracy",
        scaling=Scaling.fit(X),
        tolerance=1e-3,
        dtype=np.float64,
    ),
    "rank_agreement": lambda: call(
        rank_agreement, study(), losses(), variants=dict.fromkeys(losses(), "a"), labels=4
    ),
    "rank_me": lambda: call(rank_me, X),
    "ridge_probe": lambda: call(
        ridge_probe,
        X,
        QUANTITY,
        X,
        QUANTITY,
        strengths=[0.1, 1.0],
        subsets=np.arange(60)[None],
        scaling=Scaling.fit(X),
    ),
    "transfer_matrix": lambda: call(
        transfer_matrix,
        {"own": lambda rows: rows[:, :2]},
        {"squares": IMAGES},
        roles={"squares": ROLES},
        labels_per_class=2,
        num_subsets=1,
        seeds=[0, 1, 2],
        adapters={"own": lambda target: target.X},
        transductive=False,
    ),
    "FineTuned.probabilities": of("tuned", "probabilities", X),
    "FineTuned.predict": of("tuned", "predict", X),
    "LinearProbe.probabilities": of("linear", "probabilities", X),
    "LinearProbe.predict": of("linear", "predict", X),
    "RidgeProbe.predict": of("ridge", "predict", X),
    "RankAgreement.tau": of("agreement", "tau", "loss", "all"),
    "LabelEfficiency.at": of_study("at", "one", 4),
    "LabelEfficiency.interval": of_study("interval", "one", 4),
    "LabelEfficiency.gain": of_study("gain", "one", "raw", 4),
    "LabelEfficiency.gain_shrinks": of_study("gain_shrinks", "one", "raw"),
    "LabelEfficiency.crossing": of_study("crossing", "one", "raw", 0.95),
    "LabelEfficiency.multiplier": of_study("multiplier", "one", "raw", 4, 0.95),
    "LabelEfficiency.choices": of_study("choices", 4),
    "LabelEfficiency.honest": of_study("honest", 4),
    "LabelEfficiency.multiplier_sentence": of_study("multiplier_sentence", "one"),
    "LabelEfficiency.crossing_sentence": of_study("crossing_sentence", "one"),
    "LabelEfficiency.optimism": of_study("optimism", 4),
    "TransferMatrix.interval": lambda: call(transferred().interval, "two", "squares"),
    "TransferMatrix.gain": lambda: call(transferred().gain, "two", "squares", "raw"),
}

RESULTS = (
    probing.FineTuned,
    probing.KNNProbe,
    LabelEfficiency,
    probing.LinearProbe,
    probing.RankAgreement,
    probing.RidgeProbe,
    probing.TransferMatrix,
)
FILES = ("save", "load")  # Methods of every sounding; the tests of soundings cover them.
ROOM = Room(probing, CALLS, results=frozenset(kind.__name__ for kind in RESULTS))
CASES = [
    (name, parameter) for name, parameter in ROOM.cases() if name.rpartition(".")[2] not in FILES
]


def test_every_public_name_has_a_good_call():
    assert [name for name in ROOM.without_a_call() if name.rpartition(".")[2] not in FILES] == []


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_succeeds_with_numbers_of_any_type(name):
    ROOM.check_good(name)


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_bad_values_are_refused_with_an_input_error(name, parameter):
    ROOM.check_bad(name, parameter)


class BrokenEncoder:
    """An encoder with a method that does not encode."""

    def __init__(self, encode: Any):
        self.encode = encode


OBJECTS: dict[str, Any] = {
    "a fitted probe": lambda: fitted()["linear"],
    "a study": study,
    "a data set": lambda: IMAGES,
    "an unfitted transformer": AutoencoderTransformer,
    "an encoder that gives text": lambda: BrokenEncoder(lambda rows: ["a"] * len(rows)),
    "an encoder that gives nothing": lambda: BrokenEncoder(lambda rows: None),
    "an encoder that gives complex numbers": lambda: BrokenEncoder(lambda rows: rows + 1j),
    "an encoder that gives one number": lambda: BrokenEncoder(lambda rows: 1.0),
    "an encoder that gives fewer rows": lambda: BrokenEncoder(lambda rows: rows[:-1]),
    "an encoder that gives infinite numbers": lambda: BrokenEncoder(
        lambda rows: rows / np.float32(0)
    ),
    "an encoder without a method": lambda: BrokenEncoder("encode"),
    "an encoder that is not called right": lambda: BrokenEncoder(lambda: 1),
    "an encoder that looks for a key": lambda: BrokenEncoder(lambda rows: {}["codes"]),
    "a module of another width": lambda: Autoencoder(5, (3,), seed=0),
    "a module that gives a pair": lambda: Pair(),
    "a class": lambda: AutoencoderTransformer,
    "components of text": lambda: "16",
    "too many components": lambda: 99,
    "no components": lambda: 0,
}


class Pair(torch.nn.Module):
    """A module that returns outputs and a state, like a recurrent layer."""

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rows, rows[:1]


@pytest.mark.parametrize("title", OBJECTS)
def test_objects_that_cannot_encode_are_refused(title):
    with np.errstate(all="ignore"), pytest.raises(InputError):
        label_efficiency({"mine": OBJECTS[title]()}, X, Y, roles=ROLES, labels=[4], num_subsets=1)


def test_swapped_arguments_are_refused():
    for swapped in ((Y, X, X, Y), (X, X, Y, Y), (X, Y, Y, X)):
        for probe in (linear_probe, knn_probe, ridge_probe):
            with pytest.raises(InputError):
                probe(*swapped)
    with pytest.raises(InputError, match="encoders must be a dictionary"):
        label_efficiency(X, {"pca": 2}, Y, roles=ROLES)  # pyright: ignore[reportArgumentType]
