"""The interface of a cure, and the objects that cures exchange with the rest of the package."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError
from leadline.gradients.soundings._flow_verdict import fold
from leadline.gradients.soundings._gradient_flow import GradientFlow
from leadline.gradients.tracing._losses import checked_loss
from leadline.gradients.tracing._tape import Tape, trace
from leadline.randomness import torch_generator
from leadline.recurrent import keeping_gate_of

FEW_TIMESTEPS = 3
"""A smaller number of timesteps is shown with one decimal place."""

Regime = Literal["vanishes", "explodes", "stable", "undecided"]


@dataclass(frozen=True)
class CureSettings:
    """Settings of the cures."""

    window: int = 20
    """Timesteps of one segment of truncated backpropagation, at least 1."""
    max_norm: float = 1.0
    """Norm above which clipping scales the gradient of all parameters, above 0."""
    seed: int = 0
    """Seed of the new weights."""

    def __post_init__(self):
        checked = {
            "window": checks.whole_number(self.window, "window", least=1),
            "max_norm": checks.number(self.max_norm, "max_norm", above=0),
            "seed": checks.seed(self.seed),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Trend:
    """The trend of one layer's gradient: the numbers from which cures give advice.

    >>> Trend("vanishes", "tanh", rate=-0.5, pass_through=0.9, time=50).timesteps_to(100)
    '10'
    """

    regime: Regime
    kind: str
    """``"tanh"``, ``"relu"``, ``"identity"``, ``"lstm"`` or ``"gru"``."""
    rate: float
    """The largest Lyapunov exponent, in nats per timestep."""
    pass_through: float
    """Mean slope of the nonlinearity, or mean of the gate that passes the state on; from 0 to 1."""
    time: int
    """Timesteps of the longest sequence."""

    @property
    def keeping_gate(self) -> str | None:
        """Name of the gate that passes the state on; ``None`` for a layer without such a gate."""
        return keeping_gate_of(self.kind)

    @property
    def is_lost_at_once(self) -> bool:
        """True if no gradient survives a single timestep."""
        return math.isinf(self.rate) and self.rate < 0

    @property
    def share_per_step(self) -> str:
        """The share of the gradient that remains after one step back, as text."""
        text = f"{math.exp(self.rate):.2g}"
        return fold(self.rate) if float(text) == 1 else text

    def timesteps_to(self, factor: float) -> str:
        """Return the number of timesteps in which the gradient changes by ``factor``, as text."""
        count = math.log(factor) / abs(self.rate)
        return f"{count:.1f}" if count < FEW_TIMESTEPS else f"{math.ceil(count)}"


@dataclass(frozen=True, eq=False)
class Treatment:
    """The effect of one cure on one model."""

    description: str
    """The change that was made; if there is no flow, the reason why the cure is left out."""
    flow: GradientFlow | None = None
    """The gradient flow after the cure; ``None`` if the cure does not apply to the model."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A model with its loss function, and the recorded pass of an untreated copy.

    The user's model is never run: every pass uses a copy.
    """

    model: nn.Module
    loss: Callable[[nn.Module], Tensor]
    settings: CureSettings

    @cached_property
    def untreated(self) -> nn.Module:
        """A copy of the model as it is."""
        return self.copy_model()

    @cached_property
    def _run(self) -> tuple[Tape, Tensor]:
        return _run(self.untreated, self.loss)

    @property
    def tape(self) -> Tape:
        """The recorded pass of the untreated copy."""
        return self._run[0]

    @property
    def value(self) -> Tensor:
        """The loss of the untreated copy."""
        return self._run[1]

    @cached_property
    def flow(self) -> GradientFlow:
        """The gradient flow of the untreated copy."""
        return self.tape.gradient_flow(self.value)

    def flow_of(self, treated: nn.Module) -> GradientFlow:
        """Run a treated copy and return its gradient flow."""
        tape, value = _run(treated, self.loss)
        return tape.gradient_flow(value)

    def generator(self, name: str) -> torch.Generator:
        """Return a random generator for the cure of this name."""
        # The purpose keeps its name from version 0.1, so that the same seed draws the same weights.
        return torch_generator(self.settings.seed, f"recurrent.remedies.{name}")

    def copy_model(self) -> nn.Module:
        """Return a copy of the model.

        Activations of an earlier pass are copied without their graph.

        Raises:
            InputError: the model cannot be copied.
        """
        attributes = [
            value
            for module in self.model.modules()
            for value in vars(module).values()
            if isinstance(value, Tensor)
        ]
        copies = {id(value): value.detach().clone() for value in attributes if not value.is_leaf}
        try:
            return copy.deepcopy(self.model, copies)
        except (RuntimeError, TypeError) as error:
            raise InputError(
                "compare_cures() needs a model that can be copied",
                got=f"{type(self.model).__name__}: {str(error).splitlines()[0]}",
                cause="an attribute that cannot be copied: a list of activations with their graph, "
                "an open file or a lock",
                cure="pass a freshly built model with the same weights",
            ) from error


class Cure(ABC):
    """A change of a model or its training against vanishing or exploding gradients."""

    name: ClassVar[str]
    """Name of the cure in tables, legends and advice."""

    @abstractmethod
    def treat(self, trial: Trial) -> Treatment:
        """Apply the cure to a copy of the model and measure the gradient flow again."""

    @abstractmethod
    def against_vanishing(self, trend: Trend) -> str | None:
        """Return advice with the number that suggests it, or ``None`` if the cure does not help."""

    @abstractmethod
    def against_exploding(self, trend: Trend) -> str | None:
        """Return advice with the number that suggests it, or ``None`` if the cure does not help."""


def _run(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> tuple[Tape, Tensor]:
    """Record a pass of a model and its loss. The state of the global generators is restored."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices), trace(model) as tape:
        value = checked_loss(loss(model), "the result of loss")
    return tape, value
