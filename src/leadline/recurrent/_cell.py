"""The interface of a recurrent cell: one class holds a cell's equations and their derivatives."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError
from leadline.recurrent._arithmetic import Arithmetic

Gates = tuple[Any, ...]
"""One array for each gate, shape (..., H)."""

Parts = tuple[Any, ...]
"""One array for each part of a state, h first, shape (..., H)."""


def total(from_x: Tensor, from_h: Tensor | None) -> Tensor:
    """Return the sum of both, or ``from_x`` if it already contains ``from_h``."""
    return from_x if from_h is None else from_x + from_h


class KeepingGate(NamedTuple):
    """The gate that passes a cell's state on: it is open where its value is near 1."""

    position: int
    """Its place among the gates."""
    title: str
    """Its name in sentences, such as ``"the forget gate"``."""


CELLS: list[type["Cell"]] = []
"""The classes of cells that have a name, in the order in which they were defined."""


class Cell(ABC):
    """The equations of one recurrent cell and their derivatives, each written once.

    Every method works element by element, so the same code serves a layer (B, H), a recorded
    sequence (T, B, H), a population of networks (S, B, H) and rows of gradients (K, B, H).
    The callers compute the products with the weights:

        from_x = W_x x_t + b_x,    from_h = W_h h_{t-1} + b_h.

    To add a cell, derive a class in a file of its own, from this class or, if its state has a
    memory c beside h, from :class:`CellWithMemory`. Define ``names`` and the abstract methods, and
    a :class:`Network` of layers of this cell. ``tests/recurrent/test_new_cell.py`` is an example,
    and ``tests/recurrent/test_cells.py`` compares the derivatives with finite differences.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """The names of the cell in results and messages; a cell with variants has several."""
    gate_names: ClassVar[tuple[str, ...]] = ("",)
    """Names of the gates, in the order in which ``W_x`` and ``W_h`` stack their weights."""
    steepest_slopes: ClassVar[tuple[float, ...]] = (1.0,)
    """The steepest slope of each gate's nonlinearity: 1/4 for the sigmoid, 1 for tanh and ReLU."""
    keeping_gate: ClassVar[KeepingGate | None] = None
    """The gate that passes the state on, if the cell has one."""
    parts: ClassVar[int] = 1
    """Number of vectors in the state: 1 for h alone, 2 for h and c."""
    is_h_kept: ClassVar[bool]
    """True if h_{t-1} also reaches h_t past the gates. Each cell defines it."""
    reads_sum: ClassVar[bool]
    """True if the gates read only the sum of ``from_x`` and ``from_h``. Each cell defines it."""
    torch_layers: ClassVar[tuple[type[nn.RNNBase], ...]] = ()
    """The modules of PyTorch that compute whole sequences with this cell."""
    torch_cells: ClassVar[tuple[type[nn.RNNCellBase], ...]] = ()
    """The modules of PyTorch that compute single timesteps with this cell."""

    def __init_subclass__(cls) -> None:
        """List the class among the cells, if it has a name.

        Raises:
            InputError: a definition is missing, or another cell has the name.
        """
        super().__init_subclass__()
        if not cls.names:
            return
        for name in ("is_h_kept", "reads_sum"):
            # With a wrong value the gradients would be wrong, so there is no default.
            if not hasattr(cls, name):
                raise InputError(f"a cell must define {name}", got=f"{cls.__name__} without {name}")
        lengths = {len(cls.gate_names), len(cls.steepest_slopes)}
        if len(lengths) > 1:
            raise InputError(
                "a cell must define one steepest slope for each gate",
                got=f"{cls.__name__} with gates {cls.gate_names} and slopes {cls.steepest_slopes}",
            )
        for other in CELLS:
            shared = set(cls.names) & set(other.names)
            if shared and other.__qualname__ != cls.__qualname__:
                raise InputError(
                    "each cell needs a name of its own",
                    got=f"{cls.__name__} and {other.__name__} are both called {min(shared)!r}",
                )
        CELLS.append(cls)

    @property
    def name(self) -> str:
        """The name of the cell in results and messages."""
        return self.names[0]

    @property
    def num_gates(self) -> int:
        """Number of gates."""
        return len(self.gate_names)

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

    @abstractmethod
    def passing(self, slopes: tuple[Tensor, ...]) -> Tensor:
        """Return the factors by which a step passes the state on, element by element."""

    def kernel(self) -> Callable[..., Any] | None:
        """Return PyTorch's own kernel for a layer of this cell, or ``None`` if there is none."""
        return None

    def scan(self, gates: Gates, h_before: Tensor, c_0: Tensor | None) -> tuple[Parts, Parts]:
        """Return the states before and after every timestep, from the gates of all timesteps.

        Args:
            gates: the gates of all timesteps, each of shape (T, B, H).
            h_before: h_0 … h_{T-1}, shape (T, B, H).
            c_0: the first memory, shape (B, H), of a cell that has one.
        """
        before = (h_before,)
        return before, self.advance(gates, before)

    def memory_rows(self, slopes: tuple[Any, ...], rows: Parts, on: Arithmetic) -> Any:
        """Return the gradient with respect to c_t; its width is 0 for a cell without c."""
        return rows[0][..., :0]

    @classmethod
    def of(cls, module: nn.Module) -> "Cell":
        """Return the cell that one of ``torch_layers`` or ``torch_cells`` computes."""
        return cls()


class CellWithMemory(Cell):
    """A cell whose state is (h, c): a memory c, and an output h that is computed from c."""

    parts: ClassVar[int] = 2

    @abstractmethod
    def remember(self, gates: Gates, c: Tensor) -> Tensor:
        """Return c_t from the gates and c_{t-1}."""

    @abstractmethod
    def output(self, gates: Gates, c: Tensor) -> Tensor:
        """Return h_t from the gates and c_t."""

    @abstractmethod
    def memory_rows(self, slopes: tuple[Any, ...], rows: Parts, on: Arithmetic) -> Any:
        """Return the gradient with respect to c_t, the path through h_t included."""

    def advance(self, gates: Gates, before: Parts) -> Parts:
        """Return h_t and c_t."""
        c = self.remember(gates, before[1])
        return self.output(gates, c), c

    def scan(self, gates: Gates, h_before: Tensor, c_0: Tensor | None) -> tuple[Parts, Parts]:
        """Return the states before and after every timestep; only c is computed step by step."""
        assert c_0 is not None
        memories = [c_0]
        for gates_t in zip(*gates, strict=True):
            memories.append(self.remember(gates_t, memories[-1]))
        c = torch.stack(memories)
        return (h_before, c[:-1]), (self.output(gates, c[1:]), c[1:])


def keeping_gate_of(name: str) -> str | None:
    """Return the title of the gate that passes a cell's state on; ``None`` if it has no such gate.

    Raises:
        InputError: no imported cell has this name.
    """
    gate = cell_named(name).keeping_gate
    return gate.title if gate else None


def cell_named(name: str) -> type[Cell]:
    """Return the class of the cell that has a name.

    Raises:
        InputError: no imported cell has this name.
    """
    for cell in CELLS:
        if name in cell.names:
            return cell
    known = ", ".join(name for cell in CELLS for name in cell.names)
    raise InputError(
        f"a layer's cell is one of {known}",
        got=f"cell = {checks.shown(name)}",
        cure="import the module that defines this cell",
    )
