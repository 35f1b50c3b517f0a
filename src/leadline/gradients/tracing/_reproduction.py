"""The checks that a replay reproduces the states that a model computed, and their refusals."""

import math

import torch
from torch import Tensor, nn

from leadline.errors import InputError


def not_numbers(where: str, h: Tensor, bad: Tensor) -> InputError:
    """Return the refusal of states (T, B, H) that are NaN where ``bad``, (T, B), is true."""
    t, sample = bad.nonzero()[0].tolist()
    infinite = h[:, sample].isinf().any(-1).nonzero()
    if len(infinite):
        cause = (
            f"states that overflow {torch.finfo(h.dtype).dtype}: sample {sample} is infinite "
            "at timestep "
        )
        cause = f"{cause}{int(infinite[0]) + 1}"
        cure = "use smaller weights, or float64: model.double()"
    else:
        cause = "an input or a weight that is NaN"
        cure = "check the input and the states up to that timestep"
    return InputError(
        "the recorded activations must not contain NaN",
        got=f"{where}: NaN from timestep {t + 1} on",
        cause=cause,
        cure=cure,
    )


def check_reproduced(
    title: str, again: Tensor, recorded: Tensor, dtype: torch.dtype, module: nn.Module
) -> None:
    """Refuse states that the equations do not reproduce.

    Args:
        title: the name of the layer or loop.
        again: the states computed by the equations.
        recorded: the states that the model computed.
        dtype: the dtype of the model's computation.
        module: the layer or the cell.
    """
    worst = difference(again, recorded, dtype)
    if not is_small(worst, dtype):
        raise not_reproduced(title, worst, module)


def is_small(worst: float, dtype: torch.dtype) -> bool:
    """True if a relative difference is within the rounding of a replay in ``dtype``."""
    return worst <= min(1e3 * torch.finfo(dtype).eps, 0.1)


def difference(again: Tensor, recorded: Tensor, dtype: torch.dtype) -> float:
    """Return the largest difference of two tensors, relative to ``recorded`` or to 1."""
    if not recorded.numel():
        return 0.0
    worst, scale = (
        max(map(abs, map(float, torch.aminmax(part)))) for part in (again - recorded, recorded)
    )
    if not math.isfinite(worst + scale):
        # Equal infinities differ by NaN. Both they and equal NaN count as reproduced.
        is_same = (again == recorded) | (again.isnan() & recorded.isnan())
        worst = float(torch.where(is_same, 0, again - recorded).abs().amax())
        scale = float(recorded.abs().nan_to_num(0).clamp(max=torch.finfo(dtype).max).amax())
    return worst / max(scale, 1.0)


def not_reproduced(title: str, worst: float, module: nn.Module) -> InputError:
    """Return the refusal of a layer or loop whose equations do not reproduce its states."""
    cause, cure = _why_not_reproduced(module)
    return InputError(
        "the replay of a layer must reproduce the states that the model computed",
        got=f"{title}: outputs differ by {worst:.1e} of the largest",
        cause=cause,
        cure=cure,
    )


def _why_not_reproduced(module: nn.Module) -> tuple[str, str]:
    """Return the likely cause and the cure."""
    kind = type(module)
    owner = next(base for base in kind.__mro__ if "forward" in vars(base))
    if not owner.__module__.startswith(("torch.nn.", "leadline.")):
        return (
            f"{owner.__name__} overrides forward and computes other states than its base class",
            "write its steps as a loop, and mark the states with gradients.record()",
        )
    if torch.nn.utils.parametrize.is_parametrized(module):
        return (
            "a parametrization that computes other weights each time it is read",
            "trace in eval mode",
        )
    return (
        "weights, states or inputs assigned through .data, or dropout that was drawn elsewhere",
        "query the tape before they change; or switch dropout off with eval()",
    )
