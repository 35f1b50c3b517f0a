"""What each cure does to the gradient: the flow of a model, measured again on copies that were treated."""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError
from leadline.figures import Drawing, log_lines
from leadline.gradients.soundings._flow import LN10, LayerFlow, median
from leadline.gradients.soundings._gradient_flow import GradientFlow
from leadline.gradients.tracing._chains import Chain
from leadline.gradients.tracing._losses import checked_loss, checked_model
from leadline.gradients.tracing._place import chosen_layer
from leadline.gradients.tracing._replay import Replayed
from leadline.gradients.tracing._tape import Tape, trace
from leadline.randomness import torch_generator
from leadline.recurrent import GRU, RNN, Arithmetic, Layer, PullBack, Record, cell_of
from leadline.sounding import Protocol, Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


@record("gradients.Remedy")
@dataclass(frozen=True, eq=False)
class Remedy:
    """One cure, and the flow of the copy that took it."""

    name: str
    """``"initialisation"``, ``"clipping"``, ``"gating"`` or ``"truncation"``."""
    treatment: str
    """What was done to the copy."""
    flow: GradientFlow


@record("gradients.Remedies")
@dataclass(frozen=True, eq=False)
class Remedies(Sounding):
    """The gradient flow of a model before and after each cure. Layers stand in the same order in every flow.

    Made by :func:`remedies`, which shows an example.
    """

    before: GradientFlow
    after: tuple[Remedy, ...]
    left_out: Mapping[str, str]
    """Cures that the model cannot take, and why."""

    @property
    def flows(self) -> dict[str, GradientFlow]:
        """All flows by name, the untreated one first."""
        return {"as it is": self.before} | {remedy.name: remedy.flow for remedy in self.after}

    @property
    def worst(self) -> int:
        """The layer whose gradient changes most over the sequence, as it is."""
        return int(np.argmax([spread(layer) for layer in self.before.layers]))

    @property
    def verdict(self) -> Verdict:
        """For the layer whose gradient changes most: its slope before and after each cure, and which steadies it."""
        treatments = {remedy.name: f" ({remedy.treatment})" for remedy in self.after}
        layers = {name: flow.layers[self.worst] for name, flow in self.flows.items()}
        told = [
            f"{name}{treatments.get(name, '')}: {_tell(layer)}" for name, layer in layers.items()
        ]
        told += [f"{name}: left out, {reason}" for name, reason in self.left_out.items()]
        return Verdict(f"{layers['as it is'].title}: {_steadiest(layers)}; {'; '.join(told)}")

    def table(self) -> "pd.DataFrame":
        """One row per cure and layer, medians over the batch.

        Columns: ``remedy``, ``layer``, ``slope`` (nats per step back), ``horizon`` (timesteps whose norm is above 1 %
        of the largest), ``log10_largest`` and ``log10_smallest`` (base-10 logarithms of norms; ``-inf`` for zero).
        """
        import pandas as pd

        rows = []
        for name, flow in self.flows.items():
            for layer in flow.layers:
                low, high = _range(layer)
                rows.append(
                    (name, layer.title, _slope(layer), horizon(layer), high / LN10, low / LN10)
                )
        columns = ["remedy", "layer", "slope", "horizon", "log10_largest", "log10_smallest"]
        return pd.DataFrame(rows, columns=columns)

    def drawing(self, layer: int | None = None) -> Drawing:
        """Return the gradient norms of one layer before and after each cure.

        They are medians over the batch; the untreated model is dashed.

        Args:
            layer: number of the layer; the worst layer, if left out.
        """
        number = self.worst if layer is None else layer
        layers = {name: chosen_layer(flow.layers, number) for name, flow in self.flows.items()}
        untreated, *treated = layers
        return log_lines(
            np.arange(1, 1 + layers[untreated].log_total.shape[1]),
            # The untreated model comes last, so its line lies on top.
            {name: median(layers[name].log_total) / LN10 for name in [*treated, untreated]},
            title=f"{layers[untreated].title}: what each cure does to the gradient",
            x_label="timestep t",
            y_label="‖dL/dh<sub>t</sub>‖",
            dashed=(untreated,),
            margin_t=64,
        )


def remedies(
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    *,
    window: int = 20,
    max_norm: float = 1.0,
    seed: int = 0,
) -> Remedies:
    """Measure a model's gradient flow again after each cure, on copies; the model itself never changes.

    - *initialisation*: every gate's ``W_h`` becomes a random orthogonal matrix, for ReLU the identity;
    - *gating*: the forget gate of an LSTM, and the update gate of a GRU, gets a bias of +1; a layer without gates is
      replaced by a GRU of its sizes, with fresh weights and that bias;
    - *truncation*: no gradient passes from one segment of ``window`` timesteps to the one before it, within one call;
    - *clipping*: the gradient of all parameters is scaled to norm ``max_norm`` where it is larger, and the flow with
      it. That is one factor for all timesteps: clipping tames the optimiser's step, and changes no slope.

    A cure changes what the model computes; of one that was trained, the first two undo some of the training. What is
    compared is how far gradients reach, not how well the model fits.

    Args:
        model: any module that :func:`trace` takes.
        loss: runs the model that it is given, and returns a loss; terms of any shape are summed.
        window: K, timesteps of a segment of truncated backpropagation, at least 1.
        max_norm: what clipping allows, above 0.
        seed: draws the new weights. Every run sees the same state of the global generator, which is put back.

    Raises:
        InputError: a window below 1, a norm that is not positive, a model that cannot be copied, or what :func:`trace`
            refuses, such as a loss that runs another model than the one that it is given.

    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 8, seed=0), seed=0)
    >>> x, y = recurrent.running_average(4, 50, seed=0)
    >>> found = gradients.remedies(model, lambda model: recurrent.mse(model(x)[0], y, last_only=True))
    >>> found.table().query("remedy in ['as it is', 'gating']").slope.round(1).tolist()
    [-0.6, -0.2]

    References: Le, Jaitly & Hinton, *A simple way to initialize recurrent networks of rectified linear units*, 2015;
    Saxe, McClelland & Ganguli, 2014 (orthogonal weights); Jozefowicz, Zaremba & Sutskever, 2015 (the forget bias);
    Pascanu, Mikolov & Bengio, 2013 (clipping).
    """
    model = checked_model(model, "remedies()")
    loss = checks.function(loss, "loss", wanted="a function of the model that returns a loss")
    window = checks.whole_number(window, "window", least=1)
    max_norm = checks.number(max_norm, "max_norm", above=0)
    seed = checks.seed(seed)
    original = _copied(model)
    tape, value = _run(original, loss)
    before = tape.gradient_flow(value)
    after, left_out = [], {}
    for name, (treat, treatment, reason) in _TREATMENTS.items():
        # This name decides what is drawn; it stays that of 0.1, so that results stay the same.
        generator = torch_generator(seed, f"recurrent.remedies.{name}")
        treated = treat(_copied(model), generator)
        if treated is None:
            left_out[name] = reason
        else:
            treated_tape, treated_value = _run(treated, loss)
            after.append(Remedy(name, treatment, treated_tape.gradient_flow(treated_value)))
    if any(isinstance(call, Chain) for call in tape.calls):
        left_out["truncation"] = "a loop written by hand is cut where its states are detached"
    elif all(layer.log_total.shape[1] <= window for layer in before.layers):
        left_out["truncation"] = f"no call of a layer is longer than {window} timesteps"
    else:
        truncated = _TruncatedTape(tape.model, tape.calls, tape.loops, window=window)
        after.append(
            Remedy("truncation", f"segments of {window} timesteps", truncated.gradient_flow(value))
        )
    after.append(Remedy("clipping", *_clip(before, _parameter_norm(original, value), max_norm)))
    settings = {"model": type(model).__name__, "window": window, "max_norm": max_norm}
    return Remedies(Protocol(settings, seeds=(seed,)), before, tuple(after), left_out)


@dataclass(frozen=True, eq=False)
class Truncated(Record):
    """A pass of which no gradient goes from one segment of timesteps back to the one before it."""

    window: int

    def pull_back(self, t: int, rows: Tensor) -> Tensor:
        """Return the gradient of the state at t - 1, which is zero where a segment begins."""
        return torch.zeros_like(rows) if t % self.window == 0 else super().pull_back(t, rows)

    def adjoint(self, on: Arithmetic, like: Tensor) -> PullBack:
        """Return the adjoint of the whole pass, but zero where a segment begins."""
        whole = super().adjoint(on, like)

        def pull_back(t: int, rows: Any, out: Any) -> None:
            if t % self.window == 0:
                out[...] = 0
            else:
                whole(t, rows, out)

        return pull_back


@dataclass(eq=False)
class _TruncatedTape(Tape):
    window: int = 1

    def _replayed(self):
        return [
            _truncated(one, self.window) if isinstance(one, Replayed) else one
            for one in super()._replayed()
        ]


def _truncated(replayed: Replayed, window: int) -> Replayed:
    def cut(record: Record) -> Truncated:
        return Truncated(record.weights, record.h, record.h_before, record.slopes, window)

    layers = tuple(
        tuple(dataclasses.replace(one, record=cut(one.record)) for one in layer)
        for layer in replayed.layers
    )
    return dataclasses.replace(replayed, layers=layers)


def _copied(model: nn.Module) -> nn.Module:
    """A copy to treat. Activations that the model keeps from an earlier pass are copied without their graph."""
    kept = [
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor)
    ]
    try:
        return copy.deepcopy(
            model, {id(value): value.detach().clone() for value in kept if not value.is_leaf}
        )
    except (RuntimeError, TypeError) as error:
        raise InputError(
            "a model to treat can be copied",
            got=f"{type(model).__name__}: {str(error).splitlines()[0]}",
            cause="a list of activations with their graph, an open file or a lock among the model's attributes",
            cure="give a freshly built model with the same weights",
        ) from error


def _run(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> tuple[Tape, Tensor]:
    """What a model did, and its loss; the global generators end as they began."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices), trace(model) as tape:
        value = checked_loss(loss(model), "the result of loss")
    return tape, value


def _parameter_norm(model: nn.Module, value: Tensor) -> float:
    """The norm of the gradient of all parameters."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = (
        torch.autograd.grad(value.sum(), parameters, allow_unused=True) if parameters else ()
    )
    norms = [gradient.double().norm() for gradient in gradients if gradient is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0


def _clip(flow: GradientFlow, norm: float, max_norm: float) -> tuple[str, GradientFlow]:
    """What clipping the gradient of all parameters does, in words, and to the flow."""
    if norm <= max_norm:
        return f"nothing to do: the norm is {norm:.3g}", flow
    if math.isfinite(norm):
        return f"from norm {norm:.3g} to {max_norm:.3g}", _scaled(flow, max_norm / norm)
    return f"no help: the norm is {norm}, and the whole step is lost", _scaled(flow, 0.0)


def _scaled(flow: GradientFlow, factor: float) -> GradientFlow:
    """The flow of ``factor`` times the loss."""
    shift = math.log(factor) if factor else -math.inf

    def scaled(layer: LayerFlow) -> LayerFlow:
        logs = {
            field.name: getattr(layer, field.name)
            for field in dataclasses.fields(layer)
            if field.name[:4] == "log_"
        }
        # Where the gradient is infinite and the factor zero, torch's clipping leaves NaN.
        with np.errstate(invalid="ignore"):
            return dataclasses.replace(
                layer, **{name: log if log is None else log + shift for name, log in logs.items()}
            )

    return dataclasses.replace(flow, layers=tuple(scaled(layer) for layer in flow.layers))


def _initialise(model: nn.Module, generator: torch.Generator | None) -> nn.Module | None:
    """Orthogonal blocks, or identities; ``None`` where no layer has a ``W_h`` that is known."""
    has_weights = False
    with torch.no_grad():
        for module in model.modules():
            is_relu = _is_recurrent(module) and cell_of(module).name == "relu"
            for name, parameter in module.named_parameters(recurse=False):
                if _is_recurrent(module) and name.startswith(("W_h", "weight_hh")):
                    for block in parameter.chunk(cell_of(module).gates):
                        fresh = torch.empty(block.shape, dtype=torch.float64)
                        nn.init.eye_(fresh) if is_relu else nn.init.orthogonal_(
                            fresh, generator=generator
                        )
                        block.copy_(fresh)
                    has_weights = True
    return model if has_weights else None


def _gate(model: nn.Module, generator: torch.Generator | None) -> nn.Module | None:
    """A bias of +1 for the gate that keeps; ``None`` where no gate has a bias."""
    holder = nn.ModuleDict({"model": model})
    for name, module in list(holder.named_modules()):
        if isinstance(module, nn.RNN | nn.RNNCell | RNN):
            holder.set_submodule(name, _with_gates(module, generator))
    has_bias = False
    with torch.no_grad():
        for module in holder.modules():
            if _is_recurrent(module) and cell_of(module).gates > 1:
                for name, parameter in module.named_parameters(recurse=False):
                    if name == "b" or name.startswith("bias"):
                        parameter.chunk(cell_of(module).gates)[1].fill_(
                            0 if name.startswith("bias_hh") else 1
                        )
                        has_bias = True
    return holder["model"] if has_bias else None


def _with_gates(module: nn.Module, generator: torch.Generator | None) -> nn.Module:
    """A GRU of the same sizes, drawn anew."""
    like = next(module.parameters())
    with torch.random.fork_rng(devices=[]):
        if isinstance(module, RNN):
            gated: nn.Module = GRU(
                module.layers[0].W_x.shape[1], module.hidden_size, len(module.layers)
            )
        elif isinstance(module, nn.RNNCell):
            gated = nn.GRUCell(module.input_size, module.hidden_size, module.bias)
        else:
            names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
            assert isinstance(module, nn.RNN)
            options = {name: getattr(module, name) for name in names}
            gated = nn.GRU(module.input_size, module.hidden_size, **options)
    bound = 1 / math.sqrt(cast(int, module.hidden_size))
    with torch.no_grad():
        for parameter in gated.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return gated.to(like).train(module.training)


def _is_recurrent(module: nn.Module) -> bool:
    """True if the module is one layer or one cell whose weights are known."""
    return isinstance(module, Layer | nn.RNNBase | nn.RNNCellBase)


_TREATMENTS = {
    "initialisation": (
        _initialise,
        "W_h orthogonal, of a ReLU layer the identity",
        "no layer whose W_h is known",
    ),
    "gating": (
        _gate,
        "a bias of +1 for the gate that keeps, a GRU for a layer without gates",
        "no gate has a bias",
    ),
}


TIE = math.log(1.01)
"""Spreads that differ by a factor of less than 1.01 are equal."""


def _steadiest(layers: Mapping[str, LayerFlow]) -> str:
    """Which cure leaves the smallest spread; none where it is that of the untreated layer, or where several tie."""
    spreads = {name: spread(layer) for name, layer in layers.items()}
    lowest = min(spreads.values())
    best = [name for name, value in spreads.items() if value == lowest or value <= lowest + TIE]
    if "as it is" in best:
        return "no cure makes it steadier"
    if len(best) > 1:
        return f"{' and '.join(best)} make it equally steady"
    before = spreads["as it is"]
    instead = f" instead of 10^{before / LN10:.2f}" if math.isfinite(before) else ""
    span = f"10^{lowest / LN10:.2f}-fold{instead} from smallest to largest norm"
    return f"it is steadiest with {best[0]} ({span})"


def spread(layer: LayerFlow) -> float:
    """Largest over smallest norm, its natural logarithm, up to the latest timestep that receives gradient.

    Infinite where nothing arrives before it, or where the gradient is infinite.
    """
    low, high = _range(layer)
    return high - low if np.isfinite(high) else math.inf


def horizon(layer: LayerFlow) -> int:
    """The effective horizon of the median sample."""
    return int(np.median(layer.horizon)) if len(layer.horizon) else 0


def _range(layer: LayerFlow) -> tuple[float, float]:
    """The smallest and the largest norm of the median sample, as logarithms.

    Timesteps behind the latest one that receives gradient do not count: the loss does not read them.
    """
    total = median(layer.log_known)
    arrives = np.flatnonzero(total > -np.inf)
    if not len(arrives):
        return -math.inf, -math.inf
    read = total[arrives[0] :] if layer.direction == "reverse" else total[: arrives[-1] + 1]
    return float(np.nanmin(read)), float(np.nanmax(read))


def _slope(layer: LayerFlow) -> float:
    slopes = layer.slope()
    slopes = slopes[np.isfinite(slopes)]
    return float(np.median(slopes)) if len(slopes) else math.nan


def _tell(layer: LayerFlow) -> str:
    slope = _slope(layer)
    told = "no slope" if math.isnan(slope) else f"slope {decimals(slope, '+.3f')}"
    return f"{told}, horizon {horizon(layer)} of {layer.log_total.shape[1]} timesteps"
