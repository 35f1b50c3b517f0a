"""The fused Adam step that all training loops of Leadline share."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["adam_step"]

BETAS = (0.9, 0.99)
"""Decay rates of the two moments. The second is below PyTorch's 0.999, because training is short."""

EPSILON = 1e-8
"""Added to the root of the second moment."""

_fused_adam_ = torch._fused_adam_  # pyright: ignore[reportPrivateImportUsage]


def adam_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    first_moments: Sequence[Tensor],
    second_moments: Sequence[Tensor],
    steps: Sequence[Tensor],
    learning_rate: float,
) -> None:
    """Update parameters and moments in place by one step of Adam.

    ``torch.optim.Adam(fused=True)`` calls the same function. Small networks spend more time in the
    optimizer's bookkeeping than in the arithmetic, so Leadline calls it directly.

    Args:
        parameters: The tensors to update.
        gradients: One gradient for each parameter, of the same shape.
        first_moments: Running means of the gradients.
        second_moments: Running means of the squared gradients.
        steps: One float32 tensor of shape () for each parameter: the number of this step, from 1.
        learning_rate: The learning rate, > 0.

    Reference: Kingma & Ba, *Adam: a method for stochastic optimization*, 2015.
    """
    _fused_adam_(
        parameters,
        gradients,
        first_moments,
        second_moments,
        [],
        steps,
        lr=learning_rate,
        beta1=BETAS[0],
        beta2=BETAS[1],
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )
