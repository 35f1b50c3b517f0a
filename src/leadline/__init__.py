"""Leadline takes soundings of deep networks.

How useful is a representation? At which timestep does a gradient vanish? Which better output did a
decoder miss? Each instrument measures the answer and returns it as a
:class:`~leadline.sounding.Sounding`.

Names and subpackages are loaded on first use, so that importing ``leadline`` is fast.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    """The version of the installed package."""

    from leadline import (
        autoencoders,
        data,
        decoding,
        explore,
        figures,
        gradients,
        probing,
        recurrent,
        report,
        representation,
        statistics,
        worksheet,
    )
    from leadline.errors import InputError, LeadlineError, SaveError
    from leadline.representation import RepresentationStudy, represent
    from leadline.sounding import Interval, Protocol, Sounding, Verdict

_ROOMS = (
    "autoencoders",
    "data",
    "decoding",
    "explore",
    "figures",
    "gradients",
    "probing",
    "recurrent",
    "report",
    "representation",
    "statistics",
    "worksheet",
)
_DOORS = {
    "InputError": "leadline.errors",
    "LeadlineError": "leadline.errors",
    "SaveError": "leadline.errors",
    "RepresentationStudy": "leadline.representation",
    "represent": "leadline.representation",
    "Interval": "leadline.sounding",
    "Protocol": "leadline.sounding",
    "Sounding": "leadline.sounding",
    "Verdict": "leadline.sounding",
}

__all__ = [
    "InputError",
    "Interval",
    "LeadlineError",
    "Protocol",
    "RepresentationStudy",
    "SaveError",
    "Sounding",
    "Verdict",
    "__version__",
    "autoencoders",
    "data",
    "decoding",
    "explore",
    "figures",
    "gradients",
    "probing",
    "recurrent",
    "report",
    "represent",
    "representation",
    "statistics",
    "worksheet",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        globals()[name] = version("leadline")
        return globals()[name]
    if name in _ROOMS:
        return import_module(f"leadline.{name}")
    if name in _DOORS:
        value = getattr(import_module(_DOORS[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'leadline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
