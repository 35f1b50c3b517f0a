"""Training of regressions on the running average, or on another task, many models at once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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

VALIDATION = 1000
"""Number of validation sequences of each model."""

PIECE = 250
"""Validation sequences that are predicted at once, few enough to stay in the cache."""

WARM_UP = 0.05
"""Share of the steps over which the learning rate rises from zero."""

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""A task: ``draw(batch_size, generator)`` returns x of shape (B, T, I) and targets (B, T, O)."""


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of :func:`train`, which documents them.

    >>> TrainingSettings(time=5, num_steps=100).batch_size
    64
    """

    time: int
    last_only: bool = False
    num_steps: int = 500
    batch_size: int = 64
    learning_rate: float = 1e-2
    evaluate_every: int = 50
    patience: int = 10

    def __post_init__(self):
        """Check every setting."""
        checked = {
            "time": checks.whole_number(self.time, "time", least=1, most=LONGEST),
            "last_only": checks.flag(self.last_only, "last_only"),
            "num_steps": checks.whole_number(self.num_steps, "num_steps", least=1),
            "batch_size": checks.whole_number(self.batch_size, "batch_size", least=1, most=LONGEST),
            "learning_rate": checks.number(self.learning_rate, "learning_rate", above=0),
            "evaluate_every": checks.whole_number(self.evaluate_every, "evaluate_every", least=1),
            "patience": checks.whole_number(self.patience, "patience", least=1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate at a step: it rises linearly, then falls along a cosine."""
        rise = min(1.0, (step + 1) / max(1.0, WARM_UP * self.num_steps))
        fall = 0.5 * (1 + math.cos(math.pi * step / self.num_steps))
        return self.learning_rate * (rise * fall)

    def is_evaluated(self, step: int) -> bool:
        """True if the models are evaluated before this step."""
        return step % self.evaluate_every == 0 or step == self.num_steps


@record("recurrent.Training")
@dataclass(frozen=True, eq=False)
class Training(Sounding):
    """The validation errors of models during training. :func:`train` makes it.

    >>> from leadline.sounding import Protocol
    >>> training = Training(Protocol(), np.array([0, 50]), np.array([[1.0, 0.02]]), np.array([0.5]))
    >>> print(training)
    the median model reaches 4 % of the error of predicting zero, the worst 4 %
    """

    steps: Int[np.ndarray, " evaluations"]
    """Optimiser steps taken before each evaluation."""
    validation_error: Float[np.ndarray, "models evaluations"]
    """The loss of each model on its validation sequences."""
    zero_error: Float[np.ndarray, " models"]
    """The loss of always predicting zero, on the same sequences."""

    @property
    def error_share(self) -> Float[np.ndarray, " models"]:
        """Lowest validation error of each model, divided by the error of predicting zero."""
        return self.validation_error.min(axis=1) / self.zero_error

    @property
    def verdict(self) -> Verdict:
        """One sentence about the lowest validation errors."""
        share = 100 * self.error_share
        return Verdict(
            f"the median model reaches {np.median(share):.2g} % of the error of predicting zero, "
            "the "
            f"worst {share.max():.2g} %"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per model and evaluation.

        The columns are ``model``, ``step``, ``validation_error`` and ``share``, the error divided
        by the error of predicting zero.
        """
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
        """Return the error by step, for the median and the worst model."""
        share = np.log10(self.validation_error / self.zero_error[:, None])
        return log_lines(
            self.steps,
            {"median": np.median(share, axis=0), "worst": share.max(axis=0)},
            title="Validation error during training",
            x_label="optimiser steps",
            y_label="validation error / error of predicting zero",
        )


def train(
    models: Sequence[Regression],
    *,
    seeds: Sequence[int],
    time: int,
    last_only: bool = False,
    num_steps: int = 500,
    batch_size: int = 64,
    learning_rate: float = 1e-2,
    evaluate_every: int = 50,
    patience: int = 10,
    draw: Draw | None = None,
    weights: Float[np.ndarray, "T O"] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Training:
    """Train regressions of one architecture at once, in place, on new sequences in every step.

    The optimiser is Adam with gradients clipped to norm 1; the learning rate warms up from zero and
    falls to zero along a cosine. Each model ends with the weights of its lowest validation error.
    Its sequences come from its own seed, so its result does not depend on the other models.

    Args:
        models: different objects of one architecture.
        seeds: one seed for each model; it draws the training and the validation sequences.
        time: T, timesteps of a sequence, at least 1.
        last_only: compute the loss at the last timestep only.
        num_steps: largest number of optimiser steps, at least 1.
        batch_size: sequences per step, at least 1.
        learning_rate: the highest learning rate, > 0.
        evaluate_every: steps between two evaluations, at least 1.
        patience: training stops after this many evaluations in which no model improved.
        draw: the task, ``draw(batch_size, generator)``, which returns x of shape (B, T, I) and
            targets of shape (B, T, O); the running average by default.
        weights: the weight of every timestep and output in the loss, ``sum_to weights_to mse_to``,
            shape (T, O). By default all timesteps, or the last, weigh the same, so that the loss is
            the mean squared error.
        progress: a function that receives a line of text after each evaluation.

    Returns:
        The validation errors. The models are trained in place.

    Raises:
        InputError: an argument is out of range, the numbers of models and seeds differ, the models
            differ in architecture, or ``draw`` or ``weights`` do not fit.

    >>> from leadline.recurrent import RNN
    >>> models = [Regression(RNN(1, 8, seed=seed), seed=seed) for seed in range(2)]
    >>> training = train(models, seeds=[0, 1], time=4, num_steps=100)
    >>> bool((training.error_share < 0.2).all())
    True
    """
    settings = TrainingSettings(
        time, last_only, num_steps, batch_size, learning_rate, evaluate_every, patience
    )
    if progress is not None:
        progress = checks.function(progress, "progress", wanted="a function of a line of text")
    models = _checked_models(models)
    listed = checks.items(seeds, "seeds")
    seeds = tuple(checks.seed(seed, f"seeds[{i}]") for i, seed in enumerate(listed))
    if len(models) != len(seeds):
        raise InputError(
            "train() needs one seed for each model",
            got=f"{len(models)} models, {len(seeds)} seeds",
        )
    population = Population(models)
    like = next(iter(population.parameters.values()))
    num_outputs = len(models[0].W_f)
    shares = _loss_weights(weights, settings, num_outputs).to(like)
    task = _running_average(settings.time, like.dtype)
    if draw is not None:
        task = _checked_draw(draw, models[0], settings)
    run = _Run(population, settings, task, shares, seeds)
    run.train(progress)
    population.write_to(models)
    return Training(
        Protocol(asdict(settings), seeds=seeds),
        steps=np.array(run.evaluated_at),
        validation_error=torch.stack(run.errors, 1).double().numpy(),
        zero_error=run.zero_error().double().numpy(),
    )


class _Run:
    """One training of a population."""

    def __init__(
        self,
        population: Population,
        settings: TrainingSettings,
        task: Draw,
        shares: Float[Tensor, "T O"],
        seeds: Sequence[int],
    ):
        self.population = population
        self.settings = settings
        self.task = task
        self.shares = shares
        self.generators = [torch_generator(seed, "recurrent.training") for seed in seeds]
        validation = [torch_generator(seed, "recurrent.validation") for seed in seeds]
        self.validation = _sequences(task, validation, VALIDATION)
        self.evaluated_at: list[int] = []
        self.errors: list[Float[Tensor, " S"]] = []

    def train(self, progress: Callable[[str], None] | None) -> None:
        """Train until the last step, or until no model improves; keep the best weights."""
        settings = self.settings
        best = _Best(self.population)
        for step in range(settings.num_steps + 1):
            if settings.is_evaluated(step):
                self._evaluate(step)
                best.update(self.errors[-1])
                if progress is not None:
                    median = float(self.errors[-1].median())
                    progress(f"step {step}: validation error {median:.2g}")
                if best.evaluations_since >= settings.patience or step == settings.num_steps:
                    break
            x, y = _sequences(self.task, self.generators, settings.batch_size)
            loss = _error(self.population.predict(x), y, self.shares)
            self.population.step(loss, settings.learning_rate_at(step))
        best.restore()

    def zero_error(self) -> Float[Tensor, " S"]:
        """Return the validation error of always predicting zero."""
        y = self.validation[1]
        return _error(torch.zeros_like(y), y, self.shares)

    def _evaluate(self, step: int) -> None:
        pieces = zip(*(part.split(PIECE, 2) for part in self.validation), strict=True)
        with torch.no_grad():
            errors = [_error(self.population.predict(x), y, self.shares) for x, y in pieces]
        self.evaluated_at.append(step)
        self.errors.append(torch.stack(errors).mean(0))


class _Best:
    """The best weights of each model so far."""

    def __init__(self, population: Population):
        self.population = population
        self.kept = {
            name: values.detach().clone() for name, values in population.parameters.items()
        }
        self.lowest = torch.full((population.size,), torch.inf)
        self.evaluations_since = -1
        """Evaluations since a model last improved."""

    def update(self, error: Float[Tensor, " S"]) -> None:
        """Keep the weights of the models that improved."""
        improved = error < self.lowest
        self.lowest = torch.where(improved, error, self.lowest)
        for name, values in self.population.parameters.items():
            by_model = values.detach().unflatten(0, (-1, len(error)))
            kept = self.kept[name].unflatten(0, (-1, len(error)))
            kept[:, improved] = by_model[:, improved]
        self.evaluations_since = 0 if improved.any() else self.evaluations_since + 1

    def restore(self) -> None:
        """Give the population its best weights."""
        with torch.no_grad():
            for name, values in self.population.parameters.items():
                values.copy_(self.kept[name])


def _loss_weights(
    weights: np.ndarray | None, settings: TrainingSettings, num_outputs: int
) -> Float[Tensor, "T O"]:
    """Return the weight of each timestep's and output's mean squared error in the loss."""
    shape = (settings.time, num_outputs)
    if weights is None:
        if not settings.last_only:
            return torch.full(shape, 1 / (settings.time * num_outputs))
        last = torch.zeros(shape)
        last[-1] = 1 / num_outputs
        return last
    weights = checks.array(weights, "weights")
    if weights.dtype.kind not in "fiu" or not np.isfinite(weights).all():
        raise InputError("weights must be finite numbers", got=f"weights = {checks.shown(weights)}")
    if weights.shape != shape:
        raise InputError(
            "weights must have the shape (timesteps, outputs)",
            got=f"weights of shape {weights.shape}, time = {settings.time}, {num_outputs} outputs",
        )
    if settings.last_only:
        raise InputError(
            "train() takes either weights or last_only=True", got="both", cure="leave out last_only"
        )
    return torch.from_numpy(weights.astype(float))


def _checked_models(models: Any) -> tuple[Regression, ...]:
    """Return the models, if they are regressions and all different objects."""
    listed = checks.items(models, "models", least=1, of="regressions")
    for i, model in enumerate(listed):
        checks.instance(model, f"models[{i}]", Regression, wanted="a recurrent.Regression")
    if len({id(model) for model in listed}) < len(listed):
        raise InputError("models must be different objects", got="the same object twice")
    return listed


def _checked_draw(draw: Any, model: Regression, settings: TrainingSettings) -> Draw:
    """Return the task, if the sequences that it draws fit the model."""
    wanted = "a function draw(batch_size, generator) that returns inputs and targets"
    task = checks.function(draw, "draw", wanted=wanted)
    sizes = (model.network.input_size, len(model.W_f))
    try:
        drawn = task(2, torch_generator(0, "recurrent.training.probe"))
        shapes = [tuple(part.shape) for part in drawn]
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"draw must be {wanted}", got=f"{type(error).__name__}: {error}"
        ) from error
    right = [(2, settings.time, size) for size in sizes]
    if shapes != right:
        raise InputError(
            f"draw(2, generator) must return inputs of shape {right[0]} and targets of shape "
            f"{right[1]}",
            got=f"shapes {', '.join(map(str, shapes))}",
        )
    return task


def _error(
    predictions: Float[Tensor, "T S B O"], y: Float[Tensor, "T S B O"], shares: Float[Tensor, "T O"]
) -> Float[Tensor, " S"]:
    """Return the loss of each model: the weighted sum of mean squared errors over its sequences."""
    return torch.einsum("tso,to->s", (predictions - y).square().mean(2), shares)


def _running_average(time: int, dtype: torch.dtype) -> Draw:
    def draw(batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch_size, time, 1, generator=generator, dtype=dtype)
        return x, x.cumsum(1) / torch.arange(1, time + 1, dtype=dtype).unsqueeze(1)

    return draw


def _sequences(
    task: Draw, generators: Sequence[torch.Generator | None], batch_size: int
) -> tuple[Float[Tensor, "T S B I"], Float[Tensor, "T S B O"]]:
    """Draw inputs and targets for each model with its own generator."""
    drawn = [task(batch_size, generator) for generator in generators if generator is not None]
    x, y = (
        torch.stack(parts).permute(2, 0, 1, 3).contiguous() for parts in zip(*drawn, strict=True)
    )
    return x, y
