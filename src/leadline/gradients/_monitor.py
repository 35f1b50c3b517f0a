"""Monitoring of a model's gradient flow during training, in the passes of the training itself."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike

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
from leadline.gradients.tracing._tape import uncast
from leadline.torch_internals import in_place_changes

Write = Callable[[int, dict[str, float]], object]
"""The type of a function that stores the measurements: ``write(step, scalars)``."""


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
        samples: number of sequences to follow, at least 1, spread evenly over the batch. If the
            batch contains a number that is not finite, all sequences are followed.
        write: the path of a file that receives one line of JSON per measured step (``null`` for
            numbers that are not finite), or a function of the step and the scalars.

    Raises:
        InputError: ``model`` is not a torch module, ``every``, ``max_norm`` or ``samples`` is out
            of range, or ``write`` is neither a path nor a function.

    >>> import torch
    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> looks = []
    >>> def write(*look):
    ...     looks.append(look)
    >>> monitor = gradients.GradientMonitor(model, every=2, max_norm=1.0, write=write)
    >>> for seed in range(3):
    ...     x, y = recurrent.running_average(8, 10, seed=seed)
    ...     optimizer.zero_grad()
    ...     with monitor.step():
    ...         recurrent.mse(model(x)[0], y).backward()
    ...     norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    ...     optimizer.step()
    >>> [step for step, scalars in looks]
    [0, 2]
    >>> [name.split("/")[-1] for name in looks[0][1]]
    ['slope', 'half_life', 'horizon', 'non_finite', 'gradient_norm', 'clip_fraction']
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 100,
        *,
        max_norm: float | None = None,
        samples: int = 4,
        write: str | PathLike[str] | Write = "metrics.jsonl",
    ):
        self.model = checked_model(model, "GradientMonitor()")
        self.every = checks.whole_number(every, "every", least=1)
        self.samples = checks.whole_number(samples, "samples", least=1)
        self.max_norm = None
        if max_norm is not None:
            self.max_norm = checks.number(
                max_norm, "max_norm", above=0, cure="None for no clipping"
            )
        self.write: Write
        if callable(write) and not isinstance(write, type):
            self.write = write
        else:
            file = checks.path(write, "write")
            self.write = lambda *look: append_metrics(file, *look)
        self.steps = 0
        """The number of the next step."""
        self.looks = 0
        """The number of steps that were measured and written."""
        self._clipped = 0

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
        number = self.steps if number is None else checks.whole_number(number, "number", least=0)
        self.steps = number + 1
        if number % self.every:
            yield
            return
        look = _Look(self.model, self.samples)
        try:
            with look.catching():
                yield
        except InputError as error:
            if not self._forgives(error):
                raise
            return
        try:
            self._tell(number, look, scale)
        except LeadlineError as error:
            if not self._forgives(error):
                raise

    def _tell(self, number: int, look: "_Look", scale: float) -> None:
        scalars = look.scalars()
        scalars["gradient_norm"] = norm = look.gradient_norm() / scale
        clipped = self._clipped + (self.max_norm is not None and not norm <= self.max_norm)
        if self.max_norm is not None:
            scalars["clip_fraction"] = clipped / (self.looks + 1)
        self.write(number, scalars)
        self.looks, self._clipped = self.looks + 1, clipped

    def _forgives(self, error: LeadlineError) -> bool:
        """Warn and return True after the first measurement.

        An error must not stop a training that has run for hours.
        """
        if self.looks:
            warnings.warn(
                f"step {self.steps - 1} could not be looked at: {describe(error)}",
                RuntimeWarning,
                stacklevel=5,
            )
        return self.looks > 0


class _Look:
    """The measurement of one training step."""

    def __init__(self, model: nn.Module, samples: int):
        self.model, self.samples = model, samples
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

            def catch(tensor: Tensor) -> None:
                if tensor.requires_grad and id(tensor) not in watched:
                    watched.add(id(tensor))
                    stack.callback(
                        tensor.register_hook(lambda gradient: self._add(tensor, gradient)).remove
                    )

            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    stack.callback(
                        parameter.register_post_accumulate_grad_hook(self._measure).remove
                    )
            with recording(self.model, self.calls, catch):
                yield

    def scalars(self) -> dict[str, float]:
        """Return the metrics of all layers; several calls of a module count as more sequences."""
        flows: dict[str, list[tuple[LayerFlow, np.ndarray]]] = {}
        if not self._arrived:
            layers = ", ".join(sorted({call.title for call in self.calls}))
            raise InputError(
                "the block of a monitor holds the forward pass and the backward pass",
                got=f"no gradient that arrived at {layers or 'a layer: none was called'}",
                cause="loss.backward() after the block, the model called before it, or a loss "
                "without a graph",
                cure="with monitor.step(): criterion(model(x), y).backward()",
            )
        if self._versions != [in_place_changes(parameter) for parameter in self.model.parameters()]:
            raise InputError(
                "the block of a monitor ends before the optimiser steps",
                got="parameters that changed inside the block",
                cure="call optimizer.step() after the block",
            )
        with torch.no_grad(), uncast(next(iter(self._arrived.values()))):
            for call in self.calls:
                for flow, is_there in self._flows(call):
                    flows.setdefault(flow.place, []).append((flow, is_there))
        return {
            f"{title}/{name}": value
            for title, found in flows.items()
            for name, value in summary(found).items()
        }

    def gradient_norm(self) -> float:
        """Return the norm of the gradient of all parameters."""
        norms = [norm.to("cpu", torch.float64) for norm in self._norms.values()]
        return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0

    def _flows(self, call: Entry) -> list[tuple[LayerFlow, np.ndarray]]:
        """Return the flow through each layer of an entry, with a mask (B, T), false for padding."""
        own = [self._arrived.get(id(tensor)) for tensor in call.outputs]
        if all(gradient is None for gradient in own):
            return []
        samples = call.spread_samples(self.samples, own)
        return call.read(may_be_nan=True, samples=samples).totals(own)

    def _add(self, tensor: Tensor, gradient: Tensor) -> None:
        earlier = self._arrived.get(id(tensor))
        self._arrived[id(tensor)] = gradient if earlier is None else earlier + gradient

    def _measure(self, parameter: Tensor) -> None:
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
        "half_life": math.nan
        if math.isnan(slope)
        else -math.log(2) / slope
        if slope < 0
        else math.inf,
        "horizon": float(np.median(horizons)) if len(horizons) else math.nan,
        "non_finite": float(sum(_non_finite(*one) for one in flows)),
    }


def _non_finite(flow: LayerFlow, is_there: np.ndarray) -> int:
    gradient = np.isnan(flow.log_total) | np.isposinf(flow.log_total)
    return int((gradient & is_there).sum() + (~np.isfinite(flow.hidden_norm) & is_there).sum())
