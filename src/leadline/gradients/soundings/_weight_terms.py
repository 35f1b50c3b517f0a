"""The gradient of a shared weight, timestep by timestep.

The same W acts at every step, so the chain rule gives one term for each step:

    dL/dW = sum_t dL/dh_t dh_t/dW.

Here dL/dh_t is the total gradient, which includes the paths through later states, and dh_t/dW is
the immediate derivative, in which h_{t-1} is constant. The state of an LSTM is h and c together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import InputError
from leadline.figures import Drawing, log_lines
from leadline.gradients.soundings._flow import LN10
from leadline.gradients.soundings._layer import LayerMeasurement, out_of
from leadline.gradients.tracing._arrival import Arrived, arrive
from leadline.gradients.tracing._replay import Replayed
from leadline.sounding import Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


@record("gradients.LayerTerms")
@dataclass(frozen=True, eq=False)
class LayerTerms(LayerMeasurement):
    """The terms of one recurrent layer in one direction.

    The parameters are called ``W_x``, ``W_h`` and ``b``; the two biases of PyTorch's layers are
    called ``b_x`` and ``b_h``.
    """

    log_norms: Mapping[str, Float[np.ndarray, " T"]]
    """ln of the Frobenius norm of the term at t, by parameter; ``-inf`` for zero.

    The terms are summed over the batch before the norm is taken.
    """
    gradients: Mapping[str, np.ndarray]
    """The sum of the terms by parameter, in float64; equal to autograd's gradient."""


@record("gradients.WeightTerms")
@dataclass(frozen=True, eq=False)
class WeightTerms(Sounding):
    """The terms dL/dh_t dh_t/dW of every timestep t and every recurrent layer.

    The layers are in the order of the forward pass.

    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    >>> x, y = recurrent.running_average(8, 10, seed=0)
    >>> with gradients.trace(model) as tape:
    ...     loss = recurrent.mse(model(x)[0], y)
    >>> (layer,) = tape.weight_terms(loss).layers
    >>> layer.log_norms["W_h"].shape, layer.gradients["W_h"].shape
    ((10,), (4, 4))
    """

    layers: tuple[LayerTerms, ...]

    @property
    def widest_layer(self) -> int:
        """Index of the layer whose terms of ``W_h`` differ most."""
        return int(np.argmax([_decades(layer.log_norms["W_h"]) for layer in self.layers]))

    @property
    def verdict(self) -> Verdict:
        """The ratio of the largest to the smallest term of ``W_h``, in the widest layer."""
        layer = self.layers[self.widest_layer]
        rank = out_of(len(self.layers), "widest")
        return Verdict(f"{layer.title}: {_describe(layer.log_norms['W_h'])}{rank}")

    @property
    def notes(self) -> tuple[str, ...]:
        """The terms of ``W_h`` in every layer."""
        return tuple(f"{layer.title}: {_describe(layer.log_norms['W_h'])}" for layer in self.layers)

    def table(self) -> "pd.DataFrame":
        """Return one row per layer, parameter and timestep.

        Columns: ``layer``, ``parameter``, ``t`` and ``log10_norm``, the base-10 logarithm of the
        term's norm.
        """
        import pandas as pd

        frames = [
            pd.DataFrame(
                {
                    "layer": layer.title,
                    "parameter": parameter,
                    "t": np.arange(1, 1 + len(log_norms)),
                    "log10_norm": log_norms / LN10,
                }
            )
            for layer in self.layers
            for parameter, log_norms in layer.log_norms.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def drawing(self) -> Drawing:
        """Return the norm of each timestep's term of every layer's ``W_h``."""
        curves = {f"{layer.title}: W_h": layer.log_norms["W_h"] / LN10 for layer in self.layers}
        return log_lines(
            np.arange(1, 1 + max(map(len, curves.values()))),
            curves,
            title="What each timestep adds to the gradient of the shared weights",
            x_label="timestep t",
            y_label="‖dL/dh<sub>t</sub> dh<sub>t</sub>/dW<sub>h</sub>‖",
            margin_t=64,
        )


def _decades(log_norms: Float[np.ndarray, " T"]) -> float:
    """Return the base-10 logarithm of the ratio of the largest to the smallest term.

    Return -1 if there is no term.
    """
    present = log_norms[np.isfinite(log_norms)]
    return float(present.max() - present.min()) / LN10 if len(present) else -1.0


def _describe(log_norms: Float[np.ndarray, " T"]) -> str:
    timesteps = np.flatnonzero(np.isfinite(log_norms))
    if not len(timesteps):
        return "no timestep contributes to the gradient of W_h"
    largest = int(timesteps[log_norms[timesteps].argmax()]) + 1
    span = f"{_decades(log_norms):.1f} decades"
    return f"the terms of W_h span {span}; the largest comes from timestep {largest}"


def inseparable_weights(got: str) -> InputError:
    """Return the refusal of weights that cannot be separated by timestep."""
    return InputError(
        "weight_terms() needs torch.nn.RNN, LSTM or GRU without proj_size, or leadline.recurrent",
        got=got,
        cure="use gradient_flow() or influence(), which measure these layers too",
    )


def terms_of(replayed: Replayed, gradients: Sequence[Tensor | None]) -> Iterator[LayerTerms]:
    """Yield the terms of every layer of one call.

    Args:
        replayed: the call.
        gradients: the gradients of the loss with respect to the outputs of the call.

    Raises:
        InputError: a layer has a projection.
    """
    scans = [scan for layer in replayed.layers for scan in layer]
    if any(scan.record.weights.W_p is not None for scan in scans):
        raise inseparable_weights(f"{replayed.call.title}, which has proj_size")
    for arrived in arrive(replayed, [gradients]):
        direction = int(arrived.scan.direction == "reverse")
        naming = replayed.naming(arrived.scan.index, direction)
        log_norms, sums = _terms(arrived)
        yield LayerTerms(**naming, log_norms=log_norms, gradients=sums)


def _terms(arrived: Arrived) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the norms and the gradients of one layer in one direction, by parameter."""
    scan = arrived.scan
    record = scan.record
    rows = arrived.total.unit[:, 0].clone()
    log = arrived.total.log[:, 0]
    da = record.scratch(rows)
    record.arguments(slice(None), rows, da)
    da_h = record.to_recurrent(da)
    ones = torch.ones_like(da[..., :1])
    factors = {"W_x": (da, scan.x), "W_h": (da_h, record.h_before)}
    if isinstance(record.weights.b_h, Tensor):
        factors |= {"b_x": (da, ones), "b_h": (da_h, ones)}
    elif isinstance(record.weights.b_x, Tensor):
        factors |= {"b": (da, ones)}
    log_norms = {}
    gradients = {}
    log = arrived.in_time(log)
    for name, (left, right) in factors.items():
        left, right = (arrived.in_time(part).double() for part in (left, right))
        norms, gradient = _outer_products(left, right, log)
        log_norms[name] = norms.cpu().numpy()
        gradients[name] = (gradient.squeeze(-1) if name.startswith("b") else gradient).cpu().numpy()
    return log_norms, gradients


def _outer_products(
    left: Float[Tensor, "T B G"], right: Float[Tensor, "T B I"], log: Float[Tensor, "T B"]
) -> tuple[Float[Tensor, " T"], Float[Tensor, "G I"]]:
    """Return the logarithms of the norms of the terms by t, and the sum of the terms over t.

    The term at t is ``sum_b exp(log_tb) left_tb right_tbᵀ``.
    """
    norms = []
    total = left.new_zeros(left.shape[-1], right.shape[-1])
    for left_t, right_t, log_t in zip(left, right, log, strict=True):
        top = log_t.amax()
        top = torch.where(top.isneginf(), 0, top)
        term = (left_t * (log_t - top).exp().unsqueeze(-1)).T @ right_t
        norms.append(torch.linalg.matrix_norm(term).log() + top)
        total += term * top.exp()
    return torch.stack(norms), total
