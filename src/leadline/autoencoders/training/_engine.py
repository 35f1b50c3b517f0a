"""The interface of training engines."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

BETAS = (0.9, 0.99)
"""Decay of Adam's moments. The second is below PyTorch's 0.999, because training is short."""


class Engine(ABC):
    """Takes the training steps of one or more members.

    Two engines exist: :class:`~leadline.autoencoders.training._stack.Stack` trains many dense
    autoencoders of equal shape as one computation, and
    :class:`~leadline.autoencoders.training._autograd.AutogradEngine` trains any other model.
    """

    learning_rates: list[float]
    """The learning rate of each member in the current epoch."""

    @abstractmethod
    def keep(self, members: Sequence[int]) -> None:
        """Drop all members but these."""

    @abstractmethod
    def step(self, seen: Tensor, target: Tensor, loss_mask: Tensor | None) -> Tensor:
        """Take one step of Adam for every member.

        Formula: the loss of a member is ``1/N sum_n sum_d c_nd (xhat_nd - x_nd)^2``.

        Args:
            seen: The input of the encoders, shape (members, batch, features).
            target: The clean rows x, same shape.
            loss_mask: The weights c, 1 where the loss counts and 0 elsewhere, same shape; ``None``
                if the loss counts everywhere.

        Returns:
            The squared errors before the step, summed over the batch, shape (members,). The next
            step may overwrite them.
        """

    @abstractmethod
    def error(self, member: int, seen: Tensor, target: Tensor, loss_mask: Tensor | None) -> float:
        """Return a member's squared error, summed over counted features, averaged over rows."""

    @abstractmethod
    def snapshot(self, member: int) -> dict[str, Tensor]:
        """Return a copy of a member's weights, by their names in the model."""

    @abstractmethod
    def memory(self, member: int) -> dict[str, Tensor]:
        """Return the state that a member needs to resume training."""

    @abstractmethod
    def recall(self, member: int, memory: Mapping[str, Tensor]) -> None:
        """Restore a state that :meth:`memory` returned.

        Raises:
            ValueError: The state belongs to another model.
        """
