"""Monitoring of a model's gradient flow during training, in the passes of the training itself."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError, LeadlineError, describe
from leadline.gradients._metrics import append_metrics
from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.tracing._entry import Entry
from leadline.gradients.tracing._hooks import recording
from leadline.gradients.tracing._losses import checked_model
from leadline.gradients.tracing._replay import wide
from leadline.gradients.tracing._tape import without_autocast
from leadline.torch_internals import in_place_changes

Write = Callable[[int, dict[str, float]], object]
"""The type of a function that stores the measurements: ``write(step, scalars)``."""

TRAINING_LOOP = 4
"""Number of frames from a warning of the monitor to the ``with`` statement of the training loop."""


@dataclass(frozen=True)
class MonitorSettings:
    """Settings of a gradient monitor.

    >>> MonitorSettings(every=10)
    MonitorSettings(every=10, max_norm=None, num_samples=4)
    """

    every: int = 100
    """Number of steps from one measurement to the next, at least 1."""
    max_norm: float | None = None
    """Norm above which training clips the gradient, above 0; ``None`` for no clipping."""
    num_samples: int = 4
    """Number of sequences to follow, at least 1."""

    def __post_init__(self):
        checked: dict[str, Any] = {
            "every": checks.whole_number(self.every, "every", least=1),
            "num_samples": checks.whole_number(self.num_samples, "num_samples", least=1),
        }
        if self.max_norm is not None:
            checked["max_norm"] = checks.number(
                self.max_norm, "max_norm", above=0, cure="None for no clipping"
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)


class GradientMonitor:
    """Measures the gradient that arrives in each recurrent layer, every few training steps.

    Run the forward and the backward pass of each training step inside ``with monitor.step():``. On
    a measured step, the monitor catches the gradients of this backward pass and computes the flow
    through each layer from them; it runs no second backward pass. On all other steps it sets no
    hooks. It measures gradients before they are clipped.

    The metrics of each layer and direction are medians over sequences, except ``non_finite``:

    ============== ================================================================================
    ``slope``      growth of ln ‖dL/dh_t‖ per timestep back, in nats; negative if it vanishes
    ``half_life``  timesteps in which ‖dL/dh_t‖ halves, ``ln 2 / -slope``; infinite if slope >= 0
    ``horizon``    number of timesteps with ‖dL/dh_t‖ above 1 % of the largest
    ``non_finite`` number of hidden states and gradients that are infinite or NaN
    ============== ================================================================================

    A metric has a name such as ``"lstm[0]/slope"``. Two metrics belong to the whole model:
    ``gradient_norm`` is the norm of the gradient of all parameters. With ``max_norm``,
    ``clip_fraction`` is the share of the measured steps so far whose norm exceeded ``max_norm``.

    Args:
        model: the model that trains; it must contain layers that :func:`leadline.gradients.trace`
            records.
        every: number of steps from one measurement to the next, at least 1. The first step is
            measured and raises its errors. A later measurement that fails only warns.
        max_norm: the norm above which training clips the gradient, above 0.
        num_samples: number of sequences to follow, at least 1, spread evenly over the batch. If
            the batch contains a number that is not finite, all sequences are followed.
        write: the path of a file that receives one line of JSON per measured step (``null`` for
            numbers that are not finite), or a function of the step and the scalars.

    Raises:
        InputError: ``model`` is not a torch module, ``every``, ``max_norm`` or ``num_samples`` is
            out of range, or ``write`` is neither a path nor a function.

    >>> import torch
    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> measured = {}
    >>> def write(step, scalars):
    ...     measured[step] = scalars
    >>> monitor = gradients.GradientMonitor(model, every=2, max_norm=1.0, write=write)
    >>> for seed in range(3):
    ...     x, y = recurrent.running_average(8, 10, seed=seed)
    ...     optimizer.zero_grad()
    ...     with monitor.step():
    ...         recurrent.mse(model(x)[0], y).backward()
    ...     norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    ...     optimizer.step()
    >>> list(measured)
    [0, 2]
    >>> [name.split("/")[-1] for name in measured[0]]
    ['slope', 'half_life', 'horizon', 'non_finite', 'gradient_norm', 'clip_fraction']
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 100,
        *,
        max_norm: float | None = None,
        num_samples: int = 4,
        write: str | PathLike[str] | Write = "metrics.jsonl",
    ):
        self.model = checked_model(model, "GradientMonitor()")
        self.settings = MonitorSettings(every, max_norm, num_samples)
        self.write: Write
        if callable(write) and not isinstance(write, type):
            self.write = write
        else:
            self.write = partial(append_metrics, checks.path(write, "write"))
        self.next_step = 0
        """The number of the next step."""
        self.num_measured = 0
        """The number of steps that were measured and written."""
        self._num_clipped = 0

    @contextmanager
    def step(self, number: int | None = None, *, scale: float = 1.0) -> Iterator[None]:
        """Monitor one training step.

        The block contains the forward and the backward pass; clip and step the optimiser after it.

        Args:
            number: the number of this step, for example of a resumed training; by default the
                number after that of the last step.
            scale: the factor by which the loss was multiplied, for example ``scaler.get_scale()``
                of an AMP scaler. The results are divided by it.

        Raises:
            InputError: at the first measurement, no gradient arrived inside the block, or
                :meth:`leadline.gradients.Tape.gradient_flow` refuses the pass. Numbers that are not
                finite are counted and not refused.
            SaveError: at the first measurement, the file cannot be written.
        """
        scale = checks.number(scale, "scale", above=0)
        if number is None:
            number = self.next_step
        else:
            number = checks.whole_number(number, "number", least=0)
        self.next_step = number + 1
        if number % self.settings.every:
            yield
            return
        measurement = _Measurement(self.model, self.settings.num_samples)
        try:
            with measurement.catching():
                yield
        except InputError as error:
            self._raise_or_warn(error)
            return
        try:
            self._write_metrics(number, measurement, scale)
        except LeadlineError as error:
            self._raise_or_warn(error)

    def _write_metrics(self, number: int, measurement: "_Measurement", scale: float) -> None:
        """Write the metrics of a step, and count the step only after they are written."""
        scalars = measurement.scalars()
        norm = measurement.gradient_norm() / scale
        scalars["gradient_norm"] = norm
        num_clipped = self._num_clipped
        max_norm = self.settings.max_norm
        if max_norm is not None:
            # A norm that is NaN counts as clipped.
            num_clipped += not norm <= max_norm
            scalars["clip_fraction"] = num_clipped / (self.num_measured + 1)
        self.write(number, scalars)
        self.num_measured += 1
        self._num_clipped = num_clipped

    def _raise_or_warn(self, error: LeadlineError) -> None:
        """Raise the error of the first measurement, and turn any later error into a warning.

        A later error must not stop a training that has run for hours.
        """
        if not self.num_measured:
            raise error
        warnings.warn(
            f"GradientMonitor could not measure step {self.next_step - 1}: {describe(error)}",
            RuntimeWarning,
            stacklevel=TRAINING_LOOP,
        )


class _Measurement:
    """The measurement of one training step."""

    def __init__(self, model: nn.Module, num_samples: int):
        self.model = model
        self.num_samples = num_samples
        self.calls: list[Entry] = []
        self._arrived: dict[int, Tensor] = {}
        self._norms: dict[int, Tensor] = {}
        self._versions: list[int] = []

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Catch the gradients of a backward pass inside the block."""
        self._versions = [in_place_changes(parameter) for parameter in self.model.parameters()]
        with ExitStack() as stack:
            watched: set[int] = set()

            def watch(tensor: Tensor) -> None:
                if not tensor.requires_grad or id(tensor) in watched:
                    return
                watched.add(id(tensor))
                hook = tensor.register_hook(partial(self._add_gradient, tensor))
                stack.callback(hook.remove)

            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    hook = parameter.register_post_accumulate_grad_hook(self._add_norm)
                    stack.callback(hook.remove)
            with recording(self.model, self.calls, watch):
                yield

    def scalars(self) -> dict[str, float]:
        """Return the metrics of all layers; several calls of a module count as more sequences."""
        if not self._arrived:
            raise self._without_gradient()
        if self._versions != [in_place_changes(parameter) for parameter in self.model.parameters()]:
            raise InputError(
                "GradientMonitor.step() needs a block that ends before the optimiser steps",
                got="parameters that changed inside the block",
                cure="call optimizer.step() after the block",
            )
        flows: dict[str, list[tuple[LayerFlow, np.ndarray]]] = {}
        with torch.no_grad(), without_autocast(next(iter(self._arrived.values()))):
            for call in self.calls:
                for flow, is_present in self._flows(call):
                    flows.setdefault(flow.place, []).append((flow, is_present))
        return {
            f"{place}/{name}": value
            for place, flows_of_layer in flows.items()
            for name, value in summary(flows_of_layer).items()
        }

    def gradient_norm(self) -> float:
        """Return the norm of the gradient of all parameters."""
        norms = [norm.to("cpu", torch.float64) for norm in self._norms.values()]
        return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0

    def _without_gradient(self) -> InputError:
        """Return the refusal of a block in which no gradient arrived."""
        layers = ", ".join(sorted({call.title for call in self.calls}))
        got = "a block in which no recurrent layer was called"
        cause = "the model was called before the block"
        if layers:
            got = f"a block in which no gradient arrived at {layers}"
            cause = "loss.backward() after the block, or a loss without a graph"
        return InputError(
            "GradientMonitor.step() needs the forward and the backward pass inside its block",
            got=got,
            cause=cause,
            cure="with monitor.step(): criterion(model(x), y).backward()",
        )

    def _flows(self, call: Entry) -> list[tuple[LayerFlow, np.ndarray]]:
        """Return the flow through each layer of an entry, with a mask (B, T), false for padding."""
        gradients = [self._arrived.get(id(tensor)) for tensor in call.outputs]
        if all(gradient is None for gradient in gradients):
            return []
        samples = call.spread_samples(self.num_samples, gradients)
        return call.read(may_be_nan=True, samples=samples).totals(gradients)

    def _add_gradient(self, tensor: Tensor, gradient: Tensor) -> None:
        """Add a gradient that arrives at a tensor; several backward passes may reach it."""
        earlier = self._arrived.get(id(tensor))
        self._arrived[id(tensor)] = gradient if earlier is None else earlier + gradient

    def _add_norm(self, parameter: Tensor) -> None:
        """Keep the norm of a parameter's gradient; a later backward pass replaces it."""
        gradient = parameter.grad
        assert gradient is not None
        values = gradient.coalesce().values() if gradient.is_sparse else gradient
        self._norms[id(parameter)] = torch.linalg.vector_norm(wide(values))


def summary(flows: Sequence[tuple[LayerFlow, np.ndarray]]) -> dict[str, float]:
    """Return the metrics of one layer.

    Args:
        flows: the flows of one layer, each with a mask of shape (B, T) that is false for padding.
    """
    slopes = np.concatenate([flow.slope() for flow, _ in flows])
    horizons = np.concatenate([flow.horizon for flow, _ in flows])
    slopes = slopes[np.isfinite(slopes)]
    slope = float(np.median(slopes)) if len(slopes) else math.nan
    return {
        "slope": slope,
        "half_life": _half_life(slope),
        "horizon": float(np.median(horizons)) if len(horizons) else math.nan,
        "non_finite": float(sum(_num_non_finite(flow, is_present) for flow, is_present in flows)),
    }


def _half_life(slope: float) -> float:
    """Return the number of timesteps in which a gradient halves; NaN for a slope that is NaN."""
    if math.isnan(slope):
        return math.nan
    return -math.log(2) / slope if slope < 0 else math.inf


def _num_non_finite(flow: LayerFlow, is_present: np.ndarray) -> int:
    """Count the hidden states and gradients that are infinite or NaN, without padding."""
    is_bad_gradient = np.isnan(flow.log_total) | np.isposinf(flow.log_total)
    is_bad_state = ~np.isfinite(flow.hidden_norm)
    return int((is_bad_gradient & is_present).sum() + (is_bad_state & is_present).sum())
