"""The reasons why recorded states have no graph, and the refusal that explains them."""

from enum import Enum

import torch

from leadline.errors import InputError
from leadline.torch_internals import is_inside_operator


class MissingGraph(Enum):
    """The reasons why recorded states have no graph; the text is the cause in an error."""

    INFERENCE_MODE = "a forward pass under torch.inference_mode()"
    NO_GRAD = "a forward pass under torch.no_grad()"
    OPERATOR = "a step inside an operator such as torch.scan, which computes its own gradient"
    FROZEN = "a forward pass in which neither the parameters nor the inputs require a gradient"
    DETACHED = "recorded states that were detached"

    @property
    def cure(self) -> str:
        """The way to get states with a graph."""
        if self is MissingGraph.FROZEN:
            return "unfreeze a parameter, or let the input require a gradient: x.requires_grad_()"
        if self is MissingGraph.OPERATOR:
            return "run the loop in Python: for x_t in x: h = gradients.record(step(h, x_t))"
        if self is MissingGraph.DETACHED:
            return "use detach() instead of detach_(), which changes the recorded states"
        return "run the forward pass with gradients switched on"

    def refusal(self) -> InputError:
        """Return the refusal of a forward pass without a graph."""
        return InputError(
            "trace() needs a forward pass that keeps its graph",
            got="recorded states without a graph",
            cause=self.value,
            cure=self.cure,
        )


def why_without_graph() -> MissingGraph:
    """Return the reason why a state that is computed now has no gradient."""
    if torch.is_inference_mode_enabled():
        return MissingGraph.INFERENCE_MODE
    if not torch.is_grad_enabled():
        return MissingGraph.NO_GRAD
    if is_inside_operator():
        return MissingGraph.OPERATOR
    return MissingGraph.FROZEN
