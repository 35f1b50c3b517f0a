"""Trains regressions on the running average, several of one shape at the same time."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from leadline.errors import InputError
from leadline.randomness import torch_generator
from leadline.recurrent.regression import Regression, mse
from leadline.sounding import Protocol, Sounding, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

VALIDATION = 1000
"""Sequences that each model is validated on."""


@dataclass(frozen=True, eq=False)
class Training(Sounding):
    """How regressions learned the running average."""

    steps: Int[np.ndarray, " evaluations"]
    """Optimiser steps taken before each evaluation."""
    validation_error: Float[np.ndarray, "models evaluations"]
    """Mean squared error on sequences that were not trained on."""
    zero_error: Float[np.ndarray, " models"]
    """The error of always predicting zero, on the same sequences."""

    @property
    def error_share(self) -> Float[np.ndarray, " models"]:
        """The lowest validation error of each model, as a share of the zero predictor's."""
        return self.validation_error.min(axis=1) / self.zero_error

    @property
    def verdict(self) -> Verdict:
        """What is left of the error."""
        share = 100 * self.error_share
        return Verdict(f"{np.median(share):.2g} % of the zero predictor's error is left, at worst {share.max():.2g} %")

    def table(self) -> "pd.DataFrame":
        """One row per model and evaluation: ``model``, ``step``, ``validation_error``, ``share`` of the zero error."""
        import pandas as pd

        models, evaluations = self.validation_error.shape
        return pd.DataFrame(
            {
                "model": np.repeat(np.arange(models), evaluations),
                "step": np.tile(self.steps, models),
                "validation_error": self.validation_error.ravel(),
                "share": (self.validation_error / self.zero_error[:, None]).ravel(),
            }
        )

    def figure(self) -> "go.Figure":
        """The share of error that is left, by step, the median over models."""
        from leadline.recurrent.figure import training_figure

        return training_figure(self)


def train(
    models: Sequence[Regression],
    *,
    seeds: Sequence[int],
    time: int,
    last_only: bool = False,
    steps: int = 500,
    batch: int = 64,
    lr: float = 1e-2,
    evaluate_every: int = 50,
    patience: int = 10,
    progress: Callable[[str], None] | None = None,
) -> Training:
    """Train regressions of equal shape on fresh running averages, all at once; they end with their best weights.

    Adam, its rate falling to zero along a cosine, the gradient clipped to norm 1. A model's sequences come from its own
    seed, so that its result does not depend on its company.

    Args:
        models: of one architecture; each a different object.
        seeds: one for each model: draws its training and its validation sequences.
        time: T, timesteps of a sequence, at least 1.
        last_only: predict at the last timestep only.
        steps: optimiser steps at most, at least 1.
        batch: sequences per step, at least 1.
        lr: learning rate at the start, > 0.
        evaluate_every: steps between evaluations.
        patience: training stops when no model has improved for so many evaluations.
        progress: told a line after each evaluation.

    Raises:
        InputError: as many seeds as models are needed, and counts of at least 1.

    >>> from leadline.recurrent import RNN
    >>> models = [Regression(RNN(1, 8, seed=seed), seed=seed) for seed in range(2)]
    >>> training = train(models, seeds=[0, 1], time=4, steps=100)
    >>> bool((training.error_share < 0.2).all())
    True
    """
    counts = {"time": time, "steps": steps, "batch": batch, "evaluate_every": evaluate_every, "patience": patience}
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} must be at least 1", got=f"{name} = {count}")
    if len(models) != len(seeds) or not models:
        raise InputError("there is one seed for each model", got=f"{len(models)} models, {len(seeds)} seeds")
    base = copy.deepcopy(models[0]).to("meta")
    parameters = {
        name: values.detach().requires_grad_() for name, values in stack_module_state(list(models))[0].items()
    }

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return mse(functional_call(base, weights, (x,))[0], y, last_only=last_only)

    train_step, evaluate = vmap(grad_and_value(loss)), vmap(loss)
    generators = [torch_generator(seed, "recurrent.training") for seed in seeds]
    held_out = [torch_generator(seed, "recurrent.validation") for seed in seeds]
    like = next(iter(parameters.values()))
    x_val, y_val = _sequences(held_out, VALIDATION, time, like)
    zero = y_val[:, :, -1:] if last_only else y_val
    optimiser = torch.optim.Adam(parameters.values(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best = {name: values.detach().clone() for name, values in parameters.items()}
    lowest = torch.full((len(models),), torch.inf)
    found, at, since = [], [], 0
    for step in range(steps + 1):
        if step % evaluate_every == 0 or step == steps:
            with torch.no_grad():
                error = evaluate(parameters, x_val, y_val)
            improved = error < lowest
            lowest = torch.where(improved, error, lowest)
            for name, values in parameters.items():
                best[name][improved] = values.detach()[improved]
            found.append(error)
            at.append(step)
            since = 0 if improved.any() else since + 1
            if progress is not None:
                progress(f"step {step}: validation error {float(error.median()):.2g}")
            if since >= patience or step == steps:
                break
        gradients, _ = train_step(parameters, *_sequences(generators, batch, time, like))
        _clip(gradients)
        for name, values in parameters.items():
            values.grad = gradients[name]
        optimiser.step()
        schedule.step()
    for i, model in enumerate(models):
        model.load_state_dict({name: values[i] for name, values in best.items()})
    return Training(
        Protocol({**counts, "last_only": last_only, "lr": lr}, seeds=tuple(seeds)),
        steps=np.array(at),
        validation_error=torch.stack(found, 1).double().numpy(),
        zero_error=zero.square().mean((1, 2, 3)).double().numpy(),
    )


def _sequences(
    generators: Sequence[torch.Generator | None], batch: int, time: int, like: Tensor
) -> tuple[Float[Tensor, "S B T 1"], Float[Tensor, "S B T 1"]]:
    """Inputs and running averages, drawn for each model by its own generator."""
    x = torch.stack([torch.randn(batch, time, 1, generator=generator, dtype=like.dtype) for generator in generators])
    return x, x.cumsum(2) / torch.arange(1, time + 1, dtype=like.dtype).unsqueeze(1)


def _clip(gradients: dict[str, Tensor]) -> None:
    """Each model's gradient to norm 1 at most, in place."""
    squares = sum(gradient.flatten(1).square().sum(1) for gradient in gradients.values())
    factor = torch.as_tensor(squares).sqrt().clamp(min=1).reciprocal()
    for gradient in gradients.values():
        gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))
