"""The run-time checker of the tests: beartype checks every function with shapes in its signature.

Containers are not checked, because beartype inspects random items and thereby changes the state of
Python's global generator.
"""

from types import UnionType
from typing import Any, Union, get_args, get_origin

from beartype import beartype
from jaxtyping import AbstractArray


def check(function: Any) -> Any:
    annotations = getattr(function, "__annotations__", {})
    shaped = {
        name: annotation for name, annotation in annotations.items() if _states_a_shape(annotation)
    }
    if not shaped:
        return function
    function.__annotations__ = shaped
    try:
        return beartype(function)
    finally:
        function.__annotations__ = annotations


def _states_a_shape(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, UnionType):
        members = get_args(annotation)
        return all(isinstance(member, type) for member in members) and any(
            map(_states_a_shape, members)
        )
    return isinstance(annotation, type) and issubclass(annotation, AbstractArray)
