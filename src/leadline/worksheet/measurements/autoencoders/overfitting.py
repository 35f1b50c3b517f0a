"""The regime of ``ae.a`` and ``ae.h``: a 64-256-16 autoencoder and so few rows that it learns them by heart."""

import numpy as np
import torch
from jaxtyping import Float

from leadline.autoencoders import Pretrained
from leadline.data import Dataset, Roles
from leadline.randomness import numpy_generator
from leadline.worksheet._setting import Setting

HIDDEN_SIZES = (256, 16)

ROWS = 100
"""Rows that each seed trains on, at most."""

BATCH_SIZE = 50


def scarce_rows(dataset: Dataset, role: Roles, seed: int) -> Float[np.ndarray, "rows features"]:
    """A few of a seed's pretraining rows."""
    order = numpy_generator(seed, "worksheet.overfitting").permutation(role.pretrain_train)
    return dataset.X[order[:ROWS]]


def epochs(setting: Setting) -> int:
    """Passes over the rows: far more than are good for it."""
    return setting.pick(quick=200, full=400)


def reconstruction_error(pretrained: Pretrained, X: Float[np.ndarray, "rows features"]) -> float:
    """Squared error of clean rows, summed over features and averaged over rows."""
    rows = torch.from_numpy(X)
    with torch.inference_mode():
        return float((pretrained.model.eval()(rows) - rows).square().sum(1).mean())
