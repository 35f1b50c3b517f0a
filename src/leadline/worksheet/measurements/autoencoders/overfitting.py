"""Shared setup of ``ae.a`` and ``ae.h``: a 64-256-16 autoencoder that overfits a few rows."""

import numpy as np
import torch
from jaxtyping import Float

from leadline.autoencoders import Pretrained
from leadline.data import Dataset, Roles
from leadline.randomness import numpy_generator
from leadline.worksheet._setting import Setting

HIDDEN_SIZES = (256, 16)

ROWS = 100
"""Maximal number of rows that each seed trains on."""

BATCH_SIZE = 50


def scarce_rows(dataset: Dataset, role: Roles, seed: int) -> Float[np.ndarray, "rows features"]:
    """Return a few of a seed's pretraining rows."""
    order = numpy_generator(seed, "worksheet.overfitting").permutation(role.pretrain_train)
    return dataset.X[order[:ROWS]]


def epochs(setting: Setting) -> int:
    """Return the number of epochs, large enough to overfit."""
    return setting.pick(quick=200, full=400)


def reconstruction_error(pretrained: Pretrained, X: Float[np.ndarray, "rows features"]) -> float:
    """Return the squared error of clean rows, summed over features and averaged over rows."""
    rows = torch.from_numpy(X)
    with torch.inference_mode():
        return float((pretrained.model.eval()(rows) - rows).square().sum(1).mean())
