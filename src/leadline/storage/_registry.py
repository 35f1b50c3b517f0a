"""Stable names of the records that files hold.

A file refers to the class of a record by a stable name, such as ``"decoding.Decoded"``. The stable
name does not change when the class is renamed or moved to another file, so old files remain
readable.
"""

import dataclasses
import pkgutil
import re
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

Kind = TypeVar("Kind", bound=type)

PACKAGES = (
    "autoencoders",
    "decoding",
    "gradients",
    "probing",
    "recurrent",
    "representation",
    "sounding",
    "statistics",
    "worksheet",
)
"""Packages and modules of Leadline that define records. They are imported when needed."""

_CLASSES: dict[str, type] = {}
_NAMES: dict[type, str] = {}
_NAME = re.compile(r"([a-z]\w*)\.([A-Za-z]\w*)")
_NAME_IN_0_1 = re.compile(r"leadline\.([a-z_]+)(?:\.[A-Za-z_.]+)?:([A-Za-z]\w*)")
_MOVED = {"recurrent": "gradients"}
"""Packages of version 0.1 from which records have moved to another package."""


def record(name: str) -> Callable[[Kind], Kind]:
    """Register a dataclass under the stable name that files use. A class decorator.

    Args:
        name: the package and a name, such as ``"decoding.Decoded"``. Records of a package outside
            Leadline can be read only after that package has been imported.

    Raises:
        ValueError: the name has another form, or belongs to another class.

    >>> from leadline.sounding import Verdict
    >>> name_of(Verdict), class_of("sounding.Verdict") is Verdict
    ('sounding.Verdict', True)
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"record() needs a package and a name, such as 'decoding.Decoded'; got {name!r}"
        )

    def register(kind: Kind) -> Kind:
        other = _CLASSES.get(name)
        if other is not None and other.__qualname__ != kind.__qualname__:
            raise ValueError(f"two classes have the name {name!r}: {other} and {kind}")
        _CLASSES[name] = kind
        _NAMES[kind] = name
        return kind

    return register


def name_of(kind: type) -> str | None:
    """Return the stable name of a class, or ``None`` if the class has none."""
    return _NAMES.get(kind)


def is_name(name: str) -> bool:
    """True if ``name`` has the form of a record's name, in files of this version or of 0.1."""
    return bool(_candidates(name))


def class_of(name: str) -> type:
    """Return the dataclass that has a stable name.

    Names of version 0.1 (``module:Class``) are accepted, too. The package of the class is imported
    if necessary; packages outside Leadline are never imported.

    Raises:
        ValueError: no record of Leadline has this name.
    """
    for candidate in _candidates(name):
        kind = _CLASSES.get(candidate) or _import(candidate)
        if kind is not None and dataclasses.is_dataclass(kind):
            return kind
    raise ValueError(f"{name!r} is not one of Leadline's records")


def with_current_names(tree: Any) -> Any:
    """Return plain data in which old names of records are replaced by current names.

    Unknown names stay as they are.

    >>> with_current_names([{"$type": "leadline.sounding:Verdict", "fields": {}}])
    [{'$type': 'sounding.Verdict', 'fields': {}}]
    """
    if isinstance(tree, list):
        return [with_current_names(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    named = {key: with_current_names(value) for key, value in tree.items()}
    name = named.get("$type")
    if isinstance(name, str) and is_name(name):
        with suppress(ValueError):
            named["$type"] = name_of(class_of(name)) or name
    return named


def _candidates(name: str) -> list[str]:
    if _NAME.fullmatch(name) is not None:
        return [name]
    match = _NAME_IN_0_1.fullmatch(name)
    if match is None:
        return []
    packages = [match[1], _MOVED.get(match[1], "")]
    return [f"{package}.{match[2]}" for package in packages if package in PACKAGES]


def _import(name: str) -> type | None:
    """Import the files of a record's package until one of them defines the record."""
    first, _, _ = name.partition(".")
    if first not in PACKAGES:
        return None
    package = import_module(f"leadline.{first}")
    if name not in _CLASSES and hasattr(package, "__path__"):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
            if name in _CLASSES:
                break
    return _CLASSES.get(name)
