"""Measurement of ``ae.d``: encoders worse than raw input, by code width and training data."""

from collections.abc import Sequence

import numpy as np

from leadline import data
from leadline.autoencoders import GaussianNoise
from leadline.data import Dataset, Roles
from leadline.worksheet._answer import Answer, effects_of, finding
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders.arms import compared
from leadline.worksheet.measurements.autoencoders.pretraining import (
    epochs_at_most,
    label_count,
    pretrained_on,
    pretrained_on_own_rows,
    spread,
)

HIDDEN = (96, 96)
"""Units between the input and the code."""

WIDE = 64
NARROW = 2

NOISE = 0.5

LABELS_PER_CLASS = 10


def what_an_encoder_drops(setting: Setting) -> Answer:
    """``ae.d``: a code of two numbers, and an encoder trained on other data, against raw input."""
    dataset = setting.data or data.digits()
    roles = [data.split_roles(dataset.labels, seed=seed) for seed in setting.seeds]
    noise = GaussianNoise(NOISE * spread(dataset))
    wide, narrow = (
        pretrained_on_own_rows({"own": noise}, dataset, roles, setting, (*HIDDEN, width))["own"]
        for width in (WIDE, NARROW)
    )
    foreign = pretrained_on(_unlike_rows(dataset, roles, setting), noise, setting, (*HIDDEN, WIDE))
    named = {
        f"code of {WIDE}, own data": wide,
        f"code of {NARROW}, own data": narrow,
        f"code of {WIDE}, unlike data": foreign,
    }
    wide_name, narrow_name, unlike_name = named
    arms = compared(
        "Encoders by their width and by what they learned on",
        {name: [result.encoder for result in results] for name, results in named.items()},
        dataset,
        roles,
        setting,
        labels=label_count(dataset, roles, per_class=LABELS_PER_CLASS),
        settings={
            "hidden units": list(HIDDEN),
            "noise": noise.std,
            "epochs": epochs_at_most(setting),
            "unlike data": "high-variance vectors",
        },
    )
    effects = effects_of(
        "ae.d",
        narrow_minus_raw=arms.difference(narrow_name, "raw"),
        wide_minus_raw=arms.difference(wide_name, "raw"),
        unlike_minus_raw=arms.difference(unlike_name, "raw"),
        own_minus_raw=arms.difference(wide_name, "raw"),
        narrow_minus_wide=arms.difference(narrow_name, wide_name),
        unlike_minus_own=arms.difference(unlike_name, wide_name),
    )
    return Answer(
        protocol=arms.protocol,
        statement_id="ae.d",
        sentence=f"against raw input, a code of {NARROW} numbers changes the accuracy by "
        f"{effects['narrow_minus_raw'].interval} points and one of {WIDE} by "
        f"{effects['wide_minus_raw'].interval}; pretrained on unlike data, the latter changes it "
        f"by {effects['unlike_minus_raw'].interval}.",
        soundings={"arms": arms},
        effects=effects,
        findings=(
            finding(arms),
            "Unlike data: Gaussian vectors with most of their variance in a fifth of the "
            "directions, drawn at random, moved and scaled to the mean and spread of the data.",
        ),
    )


def _unlike_rows(
    dataset: Dataset, roles: Sequence[Roles], setting: Setting
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return as many vectors for training and for validation as there are rows, by seed."""
    return [
        (
            unlike(dataset, len(role.pretrain_train), 2 * seed),
            unlike(dataset, len(role.pretrain_validation), 2 * seed + 1),
        )
        for role, seed in zip(roles, setting.seeds, strict=True)
    ]


def unlike(dataset: Dataset, num: int, seed: int) -> np.ndarray:
    """Return vectors that share only the width, the mean and the total variance with the rows."""
    features = dataset.X.shape[1]
    vectors = data.high_variance_vectors(
        max(2, num), seed=seed, dimensions=features, high=max(1, features // 5)
    )
    scale = dataset.X.std() / np.sqrt(vectors.variances.mean())
    return (dataset.X.mean() + scale * vectors.X[:num]).astype(np.float32)
