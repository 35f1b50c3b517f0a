"""Benchmark of a denoising encoder with default settings against raw pixels, on the digits.

For each of twelve seeds, an ``AutoencoderTransformer(kind="denoising")`` is fitted on the
pretraining rows, and probed on ten draws of labels. The default settings were chosen on other seeds
(12 to 23).
"""

import numpy as np

from benchmarks.pairs import Row
from leadline import data
from leadline.autoencoders import AutoencoderTransformer
from leadline.probing import label_efficiency

SEEDS = range(12)
FEW, MANY = 10, 300


def measure() -> list[Row]:
    """Measure the gain over raw pixels with one label and with thirty labels per class."""
    digits = data.digits()
    roles = [data.split_roles(digits.y, seed=seed) for seed in SEEDS]
    encoders = []
    for seed, role in zip(SEEDS, roles, strict=True):
        rows = np.union1d(role.pretrain_train, role.pretrain_validation)
        encoders.append(AutoencoderTransformer(kind="denoising", seed=seed).fit(digits.X[rows]))
    sources = {
        "denoising": encoders,
        "raw, unit length": [_Directions(digits.X[r.pretrain_train]) for r in roles],
    }
    study = label_efficiency(
        sources, digits.X, digits.y, roles=roles, labels=[FEW, MANY], seeds=SEEDS, baselines=["raw"]
    )
    return [_row(study, FEW, 10), _row(study, MANY, -1)]


class _Directions:
    """Raw pixels that are centred and divided by their length, like the codes of the encoder."""

    def __init__(self, rows: np.ndarray):
        self.mean = rows.mean(axis=0)

    def encode(self, X: np.ndarray) -> np.ndarray:
        centred = X - self.mean
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def _row(study, labels: int, bar: float) -> Row:
    gain, raw = study.gain("denoising", labels=labels).interval, study.interval("raw", labels)
    even = study.gain("raw, unit length", labels=labels).interval.estimate
    return {
        "work": f"denoising encoder on the digits, {labels} labels, mean of {len(SEEDS)} seeds: "
        "over raw pixels",
        "measured": f"{gain:+.1f} points (raw {raw.estimate:.1f} %; raw pixels of unit length "
        f"{even:+.1f})",
        "bar": f"at least {bar:+d} points",
        "met": gain.estimate >= bar,
    }
