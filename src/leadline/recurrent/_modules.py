"""The modules that compute recurrent cells: those of PyTorch and those of this package."""

from torch import nn

from leadline.recurrent._cell import CELLS, Cell
from leadline.recurrent._network import Layer, Network


def sequence_modules() -> tuple[type[nn.Module], ...]:
    """Return the classes of modules that run over whole sequences."""
    return (Network, *(module for cell in CELLS for module in cell.torch_layers))


def step_modules() -> tuple[type[nn.Module], ...]:
    """Return the classes of modules that compute one timestep of a loop."""
    return tuple(module for cell in CELLS for module in cell.torch_cells)


def is_sequence_module(module: object) -> bool:
    """True if a module runs over whole sequences."""
    return isinstance(module, sequence_modules())


def is_step_module(module: object) -> bool:
    """True if a module computes one timestep of a loop."""
    return isinstance(module, step_modules())


def cell_of(module: nn.Module) -> Cell:
    """Return the cell that a layer, or a recurrent module of PyTorch, computes."""
    if isinstance(module, Layer):
        return module.cell
    (cell,) = (
        cell for cell in CELLS if isinstance(module, (*cell.torch_layers, *cell.torch_cells))
    )
    return cell.of(module)
