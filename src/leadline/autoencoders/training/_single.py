"""One model of any kind that takes its training steps by automatic differentiation: a stack of one."""

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from leadline.autoencoders._tensors import check_like_memory
from leadline.autoencoders.models._transformer import MaskedPatchTransformer
from leadline.torch_internals import adam_step

EVALUATION_NUMBERS = 2**18
"""Numbers in the rows that are evaluated at once."""


class Single:
    """A model that trains alone, with the interface of :class:`~leadline.autoencoders.training._stack.Stack`.

    The parameters and their gradients lie in one tensor each, so that the optimiser sees one vector.

    Args:
        model: copied; its parameters are where training starts.
        lr: learning rate, > 0, in a list of one.
    """

    def __init__(self, model: MaskedPatchTransformer, lr: Sequence[float]):
        self.lr = list(lr)
        self.model = deepcopy(model).requires_grad_(True).train()
        self.parameters = dict(self.model.named_parameters())
        flat = [parameter.detach().flatten() for parameter in self.parameters.values()]
        self.weights = torch.cat(flat).unsqueeze(0)
        self.gradients = torch.zeros_like(self.weights)
        for name, view in self.state(self.weights[0]).items():
            self.parameters[name].data = view
        for name, view in self.state(self.gradients[0]).items():
            self.parameters[name].grad = view
        self.moments = (torch.zeros_like(self.weights), torch.zeros_like(self.weights))
        self.steps = torch.zeros((), dtype=torch.float32, device=self.weights.device)

    def __len__(self) -> int:
        return 1

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some of the members only: of one, with it."""

    def state(self, row: Tensor) -> dict[str, Tensor]:
        """The parameters in one row of :attr:`weights`, by their names in the model; views, not copies."""
        shapes = {name: parameter.shape for name, parameter in self.parameters.items()}
        parts = row.split([shape.numel() for shape in shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }

    def snapshot(self, member: int) -> dict[str, Tensor]:
        """A copy of the parameters, by their names in the model."""
        return self.state(self.weights[0].clone())

    def memory(self, member: int) -> dict[str, Tensor]:
        """All that training goes on from."""
        return {
            "weights": self.weights,
            "first": self.moments[0],
            "second": self.moments[1],
            "steps": self.steps,
        }

    def recall(self, member: int, memory: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`memory` gave."""
        check_like_memory(memory, self.memory(member))
        for name, tensor in self.memory(member).items():
            tensor.copy_(memory[name])

    def step(self, seen: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        """One step of Adam; arguments and result as :meth:`Stack.step <leadline.autoencoders.training._stack.Stack.step>`."""
        self.gradients.zero_()
        total = self.model.squared_error(seen[0], target[0], None if counts is None else counts[0])
        (total / len(target[0])).backward()
        self.steps += 1
        first, second = self.moments
        adam_step(
            [self.weights],
            [self.gradients],
            [first],
            [second],
            self.steps,
            learning_rate=self.lr[0],
            betas=(0.9, 0.99),
        )
        return total.detach().unsqueeze(0)

    def error(self, member: int, seen: Tensor, target: Tensor, counts: Tensor | None) -> float:
        """Squared error, summed over what counts and averaged over rows."""
        rows = max(1, EVALUATION_NUMBERS // target.shape[1])
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(target), rows):
                part = slice(start, start + rows)
                total += float(
                    self.model.squared_error(
                        seen[part], target[part], None if counts is None else counts[part]
                    )
                )
        return total / len(target)
