"""Trains regressions on the running average, several of one shape at the same time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline import checks
from leadline.errors import InputError
from leadline.figures import Drawing, log_lines
from leadline.randomness import torch_generator
from leadline.recurrent._network import LONGEST
from leadline.recurrent._population import Population
from leadline.recurrent._regression import Regression
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

VALIDATION, PIECE = 1000, 250
"""Sequences that each model is validated on, and how many of them at a time, so that they stay in the cache."""

WARM_UP = 0.05
"""Share of the steps over which the learning rate rises from zero."""

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""A task: so many sequences, drawn by a generator: x of shape (B, T, I) and targets of shape (B, T, O)."""


@record("recurrent.Training")
@dataclass(frozen=True, eq=False)
class Training(Sounding):
    """How regressions learned the running average, or another task. Made by :func:`train`.

    >>> from leadline.sounding import Protocol
    >>> training = Training(Protocol(), np.array([0, 50]), np.array([[1.0, 0.02]]), np.array([0.5]))
    >>> print(training)
    4 % of the zero predictor's error is left, at worst 4 %
    """

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
        return Verdict(
            f"{np.median(share):.2g} % of the zero predictor's error is left, at worst {share.max():.2g} %"
        )

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

    def drawing(self) -> Drawing:
        """Return the share of error that is left by step: the median and the worst model."""
        share = np.log10(self.validation_error / self.zero_error[:, None])
        return log_lines(
            self.steps,
            {"median": np.median(share, axis=0), "worst": share.max(axis=0)},
            title="How the running average is learned",
            x_label="optimiser steps",
            y_label="validation error over the zero predictor's",
        )


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
    draw: Draw | None = None,
    weights: Float[np.ndarray, "T O"] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Training:
    """Train regressions of equal shape on fresh running averages, all at once; they end with their best weights.

    Adam, its rate rising from zero and falling back to it along a cosine, the gradient clipped to norm 1. A model's
    sequences come from its own seed, so that its result does not depend on its company.

    Args:
        models: of one architecture; each a different object.
        seeds: one for each model: draws its training and its validation sequences.
        time: T, timesteps of a sequence, at least 1.
        last_only: predict at the last timestep only.
        steps: optimiser steps at most, at least 1.
        batch: sequences per step, at least 1.
        lr: learning rate at its highest, > 0.
        evaluate_every: steps between evaluations.
        patience: training stops when no model has improved for so many evaluations.
        draw: another task than the running average: ``draw(batch, generator)`` gives x of shape (batch, T, I) and
            targets of shape (batch, T, O).
        weights: of every timestep and output in the loss, ``sum_to weights_to mse_to``, shape (T, O); equal by default,
            all or the last timestep's (``last_only``), so that the loss is the mean squared error.
        progress: told a line after each evaluation.

    Raises:
        InputError: as many seeds as models are needed, counts of at least 1, one architecture, one weight for each
            timestep and output.

    >>> from leadline.recurrent import RNN
    >>> models = [Regression(RNN(1, 8, seed=seed), seed=seed) for seed in range(2)]
    >>> training = train(models, seeds=[0, 1], time=4, steps=100)
    >>> bool((training.error_share < 0.2).all())
    True
    """
    time = checks.whole_number(time, "time", least=1, most=LONGEST)
    steps = checks.whole_number(steps, "steps", least=1)
    batch = checks.whole_number(batch, "batch", least=1, most=LONGEST)
    evaluate_every = checks.whole_number(evaluate_every, "evaluate_every", least=1)
    patience = checks.whole_number(patience, "patience", least=1)
    counts = {
        "time": time,
        "steps": steps,
        "batch": batch,
        "evaluate_every": evaluate_every,
        "patience": patience,
    }
    lr = checks.number(lr, "lr", above=0)
    last_only = checks.flag(last_only, "last_only")
    progress = (
        None
        if progress is None
        else checks.function(progress, "progress", wanted="a function of a line of text")
    )
    models = _checked_models(models)
    seeds = tuple(
        checks.seed(one, f"seeds[{i}]") for i, one in enumerate(checks.items(seeds, "seeds"))
    )
    if len(models) != len(seeds):
        raise InputError(
            "there is one seed for each model", got=f"{len(models)} models, {len(seeds)} seeds"
        )
    population = Population(models)
    like = next(iter(population.parameters.values()))
    shares = _shares(weights, time, len(models[0].W_f), last_only).to(like)
    task = (
        _running_average(time, like.dtype)
        if draw is None
        else _checked_draw(draw, models[0], batch, time)
    )
    generators = [torch_generator(seed, "recurrent.training") for seed in seeds]
    x_val, y_val = _sequences(
        task, [torch_generator(seed, "recurrent.validation") for seed in seeds], VALIDATION
    )
    pieces = list(zip(x_val.split(PIECE, 2), y_val.split(PIECE, 2), strict=True))
    best = _Best(population)
    found, at = [], []
    for step in range(steps + 1):
        if step % evaluate_every == 0 or step == steps:
            with torch.no_grad():
                errors = [_error(population.predict(x), y, shares) for x, y in pieces]
            found.append(torch.stack(errors).mean(0))
            at.append(step)
            best.see(found[-1])
            if progress is not None:
                progress(f"step {step}: validation error {float(found[-1].median()):.2g}")
            if best.since >= patience or step == steps:
                break
        x, y = _sequences(task, generators, batch)
        population.step(_error(population.predict(x), y, shares), lr * _rate(step, steps))
    best.restore()
    population.write_to(models)
    return Training(
        Protocol({**counts, "last_only": last_only, "lr": lr}, seeds=tuple(seeds)),
        steps=np.array(at),
        validation_error=torch.stack(found, 1).double().numpy(),
        zero_error=_error(torch.zeros_like(y_val), y_val, shares).double().numpy(),
    )


class _Best:
    """The weights with which each model did best."""

    def __init__(self, population: Population):
        self.population = population
        self.kept = {
            name: values.detach().clone() for name, values in population.parameters.items()
        }
        self.lowest = torch.full((population.size,), torch.inf)
        self.since = -1
        """Evaluations since a model last improved."""

    def see(self, error: Float[Tensor, " S"]) -> None:
        """Keep the weights of the models that improved."""
        improved = error < self.lowest
        self.lowest = torch.where(improved, error, self.lowest)
        for name, values in self.population.parameters.items():
            by_model, kept = (
                v.detach().unflatten(0, (-1, len(error))) for v in (values, self.kept[name])
            )
            kept[:, improved] = by_model[:, improved]
        self.since = 0 if improved.any() else self.since + 1

    def restore(self) -> None:
        """Give the population its best weights."""
        with torch.no_grad():
            for name, values in self.population.parameters.items():
                values.copy_(self.kept[name])


def _rate(step: int, steps: int) -> float:
    """The learning rate at a step, as a share of the highest."""
    rise = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def _shares(
    weights: np.ndarray | None, time: int, outputs: int, last_only: bool
) -> Float[Tensor, "T O"]:
    """What each timestep's and output's mean squared error counts in the loss."""
    if weights is None:
        last = torch.zeros(time, outputs)
        last[-1] = 1 / outputs
        return last if last_only else torch.full_like(last, 1 / (time * outputs))
    weights = checks.array(weights, "weights")
    if weights.dtype.kind not in "fiu" or not np.isfinite(weights).all():
        raise InputError("weights must be finite numbers", got=f"weights = {checks.shown(weights)}")
    if weights.shape != (time, outputs) or last_only:
        raise InputError(
            "weights has one value for each timestep and output, and decides alone",
            got=f"weights of shape {weights.shape}, time = {time}, {outputs} outputs, last_only = {last_only}",
        )
    return torch.from_numpy(weights.astype(float))


def _checked_models(models: Any) -> tuple[Regression, ...]:
    """Regressions, each a different object."""
    listed = checks.items(models, "models", least=1, of="regressions")
    for i, model in enumerate(listed):
        checks.instance(model, f"models[{i}]", Regression, wanted="a recurrent.Regression")
    if len({id(model) for model in listed}) < len(listed):
        raise InputError(
            "models must be different objects", got="models that contain one of them twice"
        )
    return listed


def _checked_draw(draw: Any, model: Regression, batch: int, time: int) -> Draw:
    """The task itself, if it draws sequences that fit the model."""
    wanted = "a function draw(batch, generator) that returns inputs and targets"
    task = checks.function(draw, "draw", wanted=wanted)
    sizes = {"inputs": model.network.input_size, "targets": len(model.W_f)}
    try:
        drawn = task(2, torch_generator(0, "recurrent.training.probe"))
        shapes = [tuple(part.shape) for part in drawn]
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"draw must be {wanted}", got=f"{type(error).__name__}: {error}"
        ) from error
    right = [(2, time, size) for size in sizes.values()]
    if shapes != right:
        raise InputError(
            f"draw(2, generator) must return inputs and targets of shapes {right[0]} and {right[1]}",
            got=f"shapes {', '.join(map(str, shapes))}",
        )
    return task


def _error(
    predictions: Float[Tensor, "T S B O"], y: Float[Tensor, "T S B O"], shares: Float[Tensor, "T O"]
) -> Float[Tensor, " S"]:
    """Each model's squared errors, averaged over its sequences, timesteps and outputs weighted."""
    return torch.einsum("tso,to->s", (predictions - y).square().mean(2), shares)


def _running_average(time: int, dtype: torch.dtype) -> Draw:
    def draw(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch, time, 1, generator=generator, dtype=dtype)
        return x, x.cumsum(1) / torch.arange(1, time + 1, dtype=dtype).unsqueeze(1)

    return draw


def _sequences(
    task: Draw, generators: Sequence[torch.Generator | None], batch: int
) -> tuple[Float[Tensor, "T S B I"], Float[Tensor, "T S B O"]]:
    """Inputs and targets, drawn for each model by its own generator."""
    drawn = [task(batch, generator) for generator in generators if generator is not None]
    x, y = (
        torch.stack(parts).permute(2, 0, 1, 3).contiguous() for parts in zip(*drawn, strict=True)
    )
    return x, y
