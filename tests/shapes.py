"""The run-time checker of the tests: beartype, on whatever states a shape in its signature."""

from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check(function: Any) -> Any:
    annotations = getattr(function, "__annotations__", {})
    return beartype(function) if any(_states_a_shape(annotation) for annotation in annotations.values()) else function


def _states_a_shape(annotation: Any) -> bool:
    if isinstance(annotation, type):
        return issubclass(annotation, AbstractArray)
    return any(_states_a_shape(inner) for inner in get_args(annotation))
