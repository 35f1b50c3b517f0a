"""The state of a model's hypotheses: a pytree whose leaves hold one entry for each row."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leadline.errors import InputError


@dataclass(frozen=True, eq=False)
class Shared:
    """A leaf of the state that all rows share; a search neither copies nor reorders it."""

    value: Any


def select(state: Any, index: Tensor) -> Any:
    """Return a copy of some rows of a state.

    Args:
        state: a state of N rows.
        index: the rows to copy, shape (N',), int64; repeats are allowed.

    >>> state = {"h": torch.tensor([[1.0], [2.0]]), "encoder": Shared("same")}
    >>> select(state, torch.tensor([1, 1]))["h"].tolist()
    [[2.0], [2.0]]
    """
    return map_leaves(lambda leaf: _select_leaf(leaf, index), state)


def concat(states: list[Any]) -> Any:
    """Return one state with the rows of all states, and the shared leaves of the first.

    >>> concat([(torch.zeros(1, 2),), (torch.ones(2, 2),)])[0].shape
    torch.Size([3, 2])
    """
    if len(states) == 1:
        return states[0]
    return map_leaves(_concat_leaves, *states)


def nbytes(state: Any) -> int:
    """Return the bytes that copying all rows of a state would write; shared leaves do not count."""
    total = 0
    for _, leaf in leaves(state):
        if isinstance(leaf, Tensor):
            total += leaf.numel() * leaf.element_size()
        elif not isinstance(leaf, Shared):
            total += int(getattr(leaf, "nbytes", 0))
    return total


def leaves(state: Any, path: str = "state") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every leaf; a path reads like ``state['h'][0]``."""
    if isinstance(state, dict):
        for key, inner in state.items():
            yield from leaves(inner, f"{path}[{key!r}]")
    elif isinstance(state, (list, tuple)):
        for i, inner in enumerate(state):
            yield from leaves(inner, f"{path}[{i}]")
    else:
        yield path, state


def map_leaves(function: Callable[..., Any], state: Any, *others: Any) -> Any:
    """Apply a function to the corresponding leaves of states, and return a state of the results."""
    if isinstance(state, dict):
        return {
            key: map_leaves(function, inner, *(other[key] for other in others))
            for key, inner in state.items()
        }
    if isinstance(state, (list, tuple)):
        parts = [map_leaves(function, *inner) for inner in zip(state, *others, strict=True)]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return function(state, *others)


def check_state(state: Any, num_rows: int) -> None:
    """Refuse a state whose leaves do not hold one entry for each row."""
    for path, leaf in leaves(state):
        if isinstance(leaf, Tensor):
            if leaf.ndim == 0 or len(leaf) != num_rows:
                raise InputError(
                    f"each tensor of the state must have leading dimension {num_rows}, "
                    "the number of rows",
                    got=f"{path} has shape {tuple(leaf.shape)}",
                    cause="torch's recurrent layers keep the layer first: (layers, N, H)",
                    cure="transpose it to (N, layers, H), "
                    "or wrap a tensor that all rows share in decoding.Shared",
                )
        elif not (isinstance(leaf, (Shared, int, float, str, type(None))) or _can_select(leaf)):
            raise InputError(
                "each leaf of the state must be a tensor, decoding.Shared, "
                "or an object with select(index)",
                got=f"{path} is a {type(leaf).__name__}",
                cure="wrap it in decoding.Shared if all rows share it",
            )


def _select_leaf(leaf: Any, index: Tensor) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.index_select(0, index)
    return leaf.select(index) if hasattr(leaf, "select") else leaf


def _concat_leaves(*parts: Any) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if hasattr(first, "concat"):
        return type(first).concat(list(parts))
    if hasattr(first, "select"):
        raise InputError(
            "exact_search() needs states that can be joined",
            got=f"a state of type {type(first).__name__}, which has no concat",
            cure="add a class method concat(states) in addition to select(index)",
        )
    return first


def _can_select(leaf: Any) -> bool:
    """True if a leaf has ``select(index)`` for rows; ``select`` of a data frame chooses columns."""
    package = type(leaf).__module__.partition(".")[0]
    return hasattr(leaf, "select") and package not in ("pandas", "polars")
