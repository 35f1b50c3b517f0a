"""The training engine for every model that is not stacked: gradients come from autograd."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leadline.autoencoders._tensors import check_like_memory
from leadline.autoencoders.models._architecture import TrainableArchitecture
from leadline.autoencoders.training._engine import BETAS, Engine
from leadline.randomness import torch_generator
from leadline.torch_internals import adam_step


class AutogradEngine(Engine):
    """Trains a copy of one model, so that the user's module is unchanged until training ends.

    Numbers that the module draws itself, as dropout does, come from a separate stream. The global
    generators are left as they were.

    Args:
        model: The model to copy. Parameters that do not require gradients stay frozen.
        architecture: Defines the squared errors of the model.
        learning_rate: The learning rate, > 0.
        seed: Seed of the numbers that the module draws.
        device: The device to train on.
    """

    def __init__(
        self,
        model: nn.Module,
        architecture: TrainableArchitecture,
        learning_rate: float,
        seed: int,
        device: torch.device,
    ):
        self.learning_rates = [learning_rate]
        self.architecture = architecture
        self.seed = seed
        self.device = device
        self.num_steps = 0
        self.module = deepcopy(model).to(device)
        self.trained = [
            parameter for parameter in self.module.parameters() if parameter.requires_grad
        ]
        self.first_moments = [torch.zeros_like(parameter) for parameter in self.trained]
        self.second_moments = [torch.zeros_like(parameter) for parameter in self.trained]
        self.updates = [torch.zeros((), dtype=torch.float32, device=device) for _ in self.trained]

    def __len__(self) -> int:
        return 1

    def keep(self, members: Sequence[int]) -> None:
        """Keep the only member."""

    def step(
        self, seen: Tensor, target: Tensor, loss_mask: Tensor | None
    ) -> Float[Tensor, " members"]:
        """Take one step of Adam; see :meth:`Engine.step`."""
        self.num_steps += 1
        mask_of_rows = None if loss_mask is None else loss_mask[0]
        self.module.train()
        for parameter in self.trained:
            parameter.grad = None
        with torch.enable_grad(), self._own_stream(f"step {self.num_steps}"):
            loss = self.architecture.squared_errors(
                self.module, seen[0], target[0], mask_of_rows
            ).sum()
            (loss / seen.shape[1]).backward()
        self._update()
        return loss.detach()[None]

    def error(self, member: int, seen: Tensor, target: Tensor, loss_mask: Tensor | None) -> float:
        """Return the squared error in evaluation mode; see :meth:`Engine.error`."""
        self.module.eval()
        size = max(1, self.architecture.evaluation_numbers // target.shape[1])
        total = 0.0
        with torch.no_grad(), self._own_stream("validation"):
            for start in range(0, len(target), size):
                part = slice(start, start + size)
                mask_of_part = None if loss_mask is None else loss_mask[part]
                squares = self.architecture.squared_errors(
                    self.module, seen[part], target[part], mask_of_part
                )
                total += float(squares.sum(dtype=self.architecture.evaluation_dtype))
        return total / len(target)

    def snapshot(self, member: int) -> dict[str, Tensor]:
        """Return a copy of the weights and buffers."""
        return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def memory(self, member: int) -> dict[str, Tensor]:
        """Return the weights, the buffers, the moments and the numbers of steps."""
        memory = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for i in range(len(self.trained)):
            memory[f"optimizer.{i}.first"] = self.first_moments[i]
            memory[f"optimizer.{i}.second"] = self.second_moments[i]
            memory[f"optimizer.{i}.updates"] = self.updates[i]
        memory["steps"] = torch.tensor(self.num_steps)
        return memory

    def recall(self, member: int, memory: Mapping[str, Tensor]) -> None:
        """Restore a state that :meth:`memory` returned."""
        expected = self.memory(member)
        check_like_memory(memory, expected)
        self.num_steps = int(memory["steps"])
        with torch.no_grad():
            for name, tensor in expected.items():
                tensor.copy_(memory[name])

    def _update(self) -> None:
        """Update the parameters that the loss depends on."""
        used = [i for i, parameter in enumerate(self.trained) if parameter.grad is not None]
        steps = [self.updates[i] for i in used]
        with torch.no_grad():
            for step in steps:
                step += 1
            adam_step(
                [self.trained[i] for i in used],
                [self.trained[i].grad for i in used],  # pyright: ignore[reportArgumentType]
                [self.first_moments[i] for i in used],
                [self.second_moments[i] for i in used],
                steps,
                learning_rate=self.learning_rates[0],
                betas=BETAS,
            )

    @contextmanager
    def _own_stream(self, purpose: str) -> Iterator[None]:
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            generator = torch_generator(self.seed, f"autoencoders.custom {purpose}")
            torch.manual_seed(generator.initial_seed())
            yield
