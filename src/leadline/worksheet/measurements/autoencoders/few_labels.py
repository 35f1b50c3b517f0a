"""Measurement of ``ae.f``: the gain from pretraining without labels, by number of labels."""

from typing import Any

import numpy as np

from leadline import data
from leadline.autoencoders import GaussianNoise, Nothing
from leadline.data import Dataset, Roles
from leadline.probing import LabelEfficiency, label_efficiency
from leadline.sounding import Protocol
from leadline.statistics import Effect
from leadline.worksheet._answer import Answer, effects_of
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders.pretraining import (
    epochs_at_most,
    layers,
    pretrained_on_own_rows,
    spread,
)

HIDDEN_SIZES = (96, 96, 64)
"""The encoder of ``ae.f``. It and its noise were chosen on probe-validation rows of other seeds."""

NOISE = 0.5

LABELS = (10, 20, 50, 100, 300)


def gain_with_few_labels(setting: Setting) -> Answer:
    """``ae.f``: the gain from pretraining without labels, by number of labels."""
    dataset = setting.data or data.digits()
    roles = [data.split_roles(dataset.labels, seed=seed) for seed in setting.seeds]
    kinds = {"denoising": GaussianNoise(NOISE * spread(dataset)), "vanilla": Nothing()}
    pretrained = pretrained_on_own_rows(kinds, dataset, roles, setting, HIDDEN_SIZES)
    encoders = {
        name: [result.encoder for result in results] for name, results in pretrained.items()
    }
    study = label_efficiency(
        encoders,
        dataset.X,
        dataset.labels,
        roles=roles,
        labels=_label_counts(dataset, roles),
        num_subsets=setting.pick(quick=10, full=30),
        seeds=setting.seeds,
    )
    fewest, most = (int(study.budgets[i]) for i in (0, -1))
    effects = _effects(study, fewest, most)
    return Answer(
        protocol=Protocol(
            {
                "data": dataset.name,
                "encoder": layers(dataset, HIDDEN_SIZES),
                "noise": kinds["denoising"].std,
                "epochs": epochs_at_most(setting),
                **study.protocol.settings,
            },
            seeds=setting.seeds,
            fingerprints=study.protocol.fingerprints,
        ),
        statement_id="ae.f",
        sentence=f"with {fewest} labels the denoising encoder gains "
        f"{effects['gain_at_fewest'].interval} points over raw input, with {most} labels "
        f"{effects['gain_at_most'].interval}.",
        soundings={"study": study},
        effects=effects,
        findings=(
            f"Accuracy with {fewest} labels: "
            + ", ".join(
                f"{name} {study.interval(name, fewest).estimate:z.1f} %" for name in study.names
            )
            + ".",
            study.multiplier_sentence("denoising"),
            study.crossing_sentence("denoising"),
        ),
    )


def _effects(study: LabelEfficiency, fewest: int, most: int) -> dict[str, Effect]:
    """Return the gains over raw input with the fewest and with the most labels."""
    gains = {labels: _points(study, "denoising", "raw", labels) for labels in (fewest, most)}
    return effects_of(
        "ae.f",
        gain_at_fewest=(gains[fewest], f"denoising minus raw, {fewest} labels", "points"),
        gain_at_fewest_minus_most=(
            gains[fewest] - gains[most],
            f"gain at {fewest} minus gain at {most} labels",
            "points",
        ),
        gain_at_most=(gains[most], f"denoising minus raw, {most} labels", "points"),
        vanilla_gain=(
            _points(study, "vanilla", "raw", fewest),
            f"vanilla minus raw, {fewest} labels",
            "points",
        ),
        untrained_gain=(
            _points(study, "untrained", "raw", fewest),
            f"untrained minus raw, {fewest} labels",
            "points",
        ),
    )


def _label_counts(dataset: Dataset, roles: list[Roles]) -> list[Any]:
    """Return label counts from one label per class up to the size of the smallest pool."""
    classes = dataset.num_classes
    pool = min(len(role.probe_pool) for role in roles)
    counts = LABELS if classes == 10 else [classes * count // 10 for count in LABELS]
    return sorted({count for count in counts if classes <= count <= pool} | {classes})


def _points(study: LabelEfficiency, name: str, over: str, labels: int) -> np.ndarray:
    """Return paired differences in points of accuracy, shape (seeds, subsets)."""
    at = study.budgets.tolist().index(labels)
    first, second = (study.accuracy[study.names.index(n), :, at] for n in (name, over))
    return 100 * (first - second)
