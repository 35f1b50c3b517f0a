"""Folds of labelled rows, dealt in turn within each class."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

FOLDS = 3
"""Number of folds that are held out in turn to choose a setting."""


def folds(y: Int[Tensor, "batch rows"], num_classes: int) -> Int[Tensor, "batch rows"]:
    """Return the fold of each row: the k-th row of a class is in fold ``k mod 3``.

    >>> folds(torch.tensor([[0, 0, 1, 0, 0, 1]]), 2).tolist()
    [[0, 1, 0, 2, 0, 1]]
    """
    is_member = y.unsqueeze(2) == torch.arange(num_classes)
    rank = (is_member.cumsum(1) - 1).gather(2, y.unsqueeze(2)).squeeze(2)
    return rank % FOLDS


def have_every_fold(y: Int[Tensor, "batch rows"], num_classes: int) -> Bool[Tensor, " batch"]:
    """Return, for each problem, whether each of its classes has a row in every fold.

    >>> have_every_fold(torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]]), 2).tolist()
    [True, False]
    """
    counts = (y.unsqueeze(2) == torch.arange(num_classes)).sum(1)
    return ((counts == 0) | (counts >= FOLDS)).all(1)
