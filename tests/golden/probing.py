"""Results of ``leadline.probing``: probes, studies of labels, transfer, agreement and RankMe."""

from typing import Any

import numpy as np

from leadline import data
from leadline.autoencoders import Autoencoder, GaussianNoise
from tests.golden.names import call, public
from tests.golden.values import columns


def table(num: int = 150, features: int = 8, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows around one centre for each class."""
    draw = np.random.default_rng(0)
    y = np.arange(num) % classes
    centres = 1.2 * draw.standard_normal((classes, features))
    return (draw.standard_normal((num, features)) + centres[y]).astype(np.float32), y


def probes() -> dict[str, Any]:
    """Fit each probe."""
    X, y = table()
    train, test = slice(0, 60), slice(60, None)
    found: dict[str, Any] = {"rank_me": public("probing.rank_me")(X)}
    for criterion in ("likelihood", "accuracy"):
        linear = call(
            "probing.linear_probe", X[train], y[train], X[test], y[test], criterion=criterion
        )
        found[f"linear {criterion}"] = linear
    found["linear one strength"] = call(
        "probing.linear_probe", X[train], y[train] == 0, X[test], y[test] == 0, strengths=0.3
    )
    for metric in ("cosine", "euclidean"):
        found[f"knn {metric}"] = call(
            "probing.knn_probe", X[train], y[train], X[test], y[test],
            neighbours=(1, 3, 5), budgets=[20, 60], metric=metric,
        )  # fmt: skip
    targets = X[:, :2] @ np.array([[1.0, 0.5], [0.2, -1.0]], np.float32)
    found["ridge"] = call("probing.ridge_probe", X[train], targets[train], X[test], targets[test])
    encoder = encoders()["denoising"][0]
    tuned = call(
        "probing.fine_tune",
        encoder,
        X[train],
        y[train],
        X[test],
        y[test],
        epochs=3,
        batch_size=16,
        lr=1e-3,
    )
    names = ("accuracy", "frozen_accuracy", "epochs", "held_out_loss", "majority")
    found["fine tuned"] = {name: getattr(tuned, name) for name in names}
    return found


def encoders() -> dict[str, Any]:
    """Pretrain an encoder for each of three seeds."""
    X, _ = table()
    models = [Autoencoder(8, (6, 3), corruption=GaussianNoise(0.4), seed=seed) for seed in range(3)]
    trained = call(
        "autoencoders.pretrain_many", models, X[:70], seeds=range(3), epochs=3, batch_size=16
    )
    return {"denoising": [one.encoder for one in trained]}


def studies() -> dict[str, Any]:
    """Compare encoders by labels, and rank agreement and transfer between data sets."""
    X, y = table()
    roles = [
        data.split_roles(150, seed=seed, fractions=(0.4, 0.1, 0.2, 0.1, 0.2)) for seed in range(3)
    ]
    pretrained = []
    for seed, role in enumerate(roles):
        model = Autoencoder(8, (6, 3), corruption=GaussianNoise(0.4), seed=seed)
        pretrained.append(
            call(
                "autoencoders.pretrain",
                model,
                X[role.pretrain_train],
                epochs=3,
                batch_size=16,
                seed=seed,
            )
        )
    codes: dict[str, Any] = {"denoising": [one.encoder for one in pretrained]}
    for first in (0, 10):
        codes[f"untrained {first}"] = [
            one.encoder.untrained(first + seed) for seed, one in enumerate(pretrained)
        ]
    study = call(
        "probing.label_efficiency", codes, X, y, roles=roles, labels=[6, 12, "all"], num_subsets=2
    )
    losses = {
        "denoising": [3.0, 2.0, 1.0],
        "untrained 0": [4.0, 1.0, 2.0],
        "untrained 10": [2.0, 2.5, 3.0],
    }
    agreement = call("probing.rank_agreement", study, losses)
    ridge = call(
        "probing.label_efficiency", codes, X, X[:, :1], roles=roles, labels=[12, "all"],
        num_subsets=2, probe="ridge",
    )  # fmt: skip
    other = data.Dataset(X[:, ::-1].copy(), y, "mirrored")
    same = data.Dataset(X, y, "rows")
    matrix = call(
        "probing.transfer_matrix",
        {"rows": codes["denoising"]},
        {"rows": same, "mirrored": other},
        roles=dict.fromkeys(("rows", "mirrored"), roles),
        labels_per_class=2,
        num_subsets=2,
    )
    return {
        "labels": study,
        "labels table": columns(study),
        "agreement": agreement,
        "agreement table": columns(agreement),
        "ridge": ridge,
        "transfer": matrix,
        "transfer table": columns(matrix),
    }


CASES = (probes, studies)
