"""The interface of a recurrent cell: one class holds a cell's equations and their derivatives."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from leadline.recurrent._arithmetic import Arithmetic

Gates = tuple[Any, ...]
"""One array for each gate, shape (..., H)."""

Parts = tuple[Any, ...]
"""One array for each part of a state, h first, shape (..., H)."""


def total(from_x: Tensor, from_h: Tensor | None) -> Tensor:
    """Return the sum of both, or ``from_x`` if it already contains ``from_h``."""
    return from_x if from_h is None else from_x + from_h


class Cell(ABC):
    """The equations of one recurrent cell and their derivatives, each written once.

    Every method works element by element, so the same code serves a layer (B, H), a recorded
    sequence (T, B, H), a population of networks (S, B, H) and rows of gradients (K, B, H).
    The callers compute the products with the weights:

        from_x = W_x x_t + b_x,    from_h = W_h h_{t-1} + b_h.

    To add a cell, derive a class in a file of its own: define ``activate``, ``advance``,
    ``slopes``, ``pull_back``, ``push_forward`` and ``passing``, and a :class:`Network` of layers of
    this cell. ``tests/recurrent/test_cells.py`` compares the derivatives with finite differences.
    """

    gates: ClassVar[int] = 1
    """Number of gates, whose weights are stacked in ``W_x`` and ``W_h``."""
    parts: ClassVar[int] = 1
    """Number of vectors in the state: 1 for h alone, 2 for h and c."""
    is_h_kept: ClassVar[bool] = False
    """True if h_{t-1} also reaches h_t past the gates."""
    reads_sum: ClassVar[bool] = True
    """True if the gates read only the sum of ``from_x`` and ``from_h``."""
    torch_modules: ClassVar[tuple[type[nn.Module], ...]] = ()
    """The modules of PyTorch that compute this cell."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the cell in results and messages."""

    @abstractmethod
    def activate(self, from_x: Tensor, from_h: Tensor | None, axis: int) -> Gates:
        """Return the values of the gates, and all else that ``advance`` and ``slopes`` read.

        Args:
            from_x: ``W_x x_t + b_x``, the gates stacked along ``axis``.
            from_h: ``W_h h_{t-1} + b_h``, likewise; or ``None`` if ``from_x`` already contains it,
                which only a cell that reads the sum of both allows.
            axis: the axis of the gates.
        """

    @abstractmethod
    def advance(self, gates: Gates, before: Parts) -> Parts:
        """Return the state after a timestep from the gates and the state before it."""

    @abstractmethod
    def slopes(self, gates: Gates, before: Parts, after: Parts) -> tuple[Tensor, ...]:
        """Return the elementwise derivatives that the methods below multiply by.

        Args:
            gates: the result of ``activate``.
            before: the state at t - 1.
            after: the state at t.
        """

    @abstractmethod
    def pull_back(
        self, slopes: tuple[Any, ...], rows: Parts, da: Gates, out: Parts, on: Arithmetic
    ) -> None:
        """Propagate a gradient from the state at t to the gates' arguments and past the gates.

        Args:
            slopes: the result of :meth:`slopes` at t.
            rows: the gradient with respect to each part of the state at t.
            da: receives the gradient with respect to ``from_x``, gate by gate.
            out: receives what reaches each part of the state at t - 1 past the gates. A part that
                nothing reaches this way is left unwritten. ``out`` may be ``rows``.
            on: the arithmetic of the arrays.
        """

    def turn_to_recurrent(self, slopes: tuple[Any, ...], da: Gates, on: Arithmetic) -> None:
        """Turn the gradient of ``from_x`` into the gradient of ``from_h``, in place.

        Both are equal where a cell reads only the sum of the two.
        """
        return

    @abstractmethod
    def push_forward(self, slopes: tuple[Any, ...], tangents: Parts, du: Gates) -> Parts:
        """Propagate a tangent vector from the state at t - 1 to the state at t.

        Args:
            slopes: the result of :meth:`slopes` at t.
            tangents: a tangent of each part of the state at t - 1.
            du: the tangent of ``from_h``, gate by gate.
        """

    def remember(self, gates: Gates, c: Any) -> Any:
        """Return c_t from the gates and c_{t-1}, for a cell that has c."""
        raise AssertionError("this cell has no memory beside h")

    def output(self, gates: Gates, c: Any) -> Any:
        """Return h_t from the gates and c_t, for a cell that has c."""
        raise AssertionError("this cell has no memory beside h")

    def memory_rows(self, slopes: tuple[Any, ...], rows: Parts) -> Any:
        """Return the gradient with respect to c_t, by way of h_t too, for a cell that has c."""
        raise AssertionError("this cell has no memory beside h")

    @abstractmethod
    def passing(self, slopes: tuple[Tensor, ...]) -> Tensor:
        """Return the factors by which a step passes the state on, element by element."""

    def kernel(self) -> Callable[..., Any] | None:
        """Return PyTorch's own kernel for a layer of this cell, or ``None`` if there is none."""
        return None

    @classmethod
    def of(cls, module: nn.Module) -> "Cell":
        """Return the cell that one of ``torch_modules`` computes."""
        return cls()
