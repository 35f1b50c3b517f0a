"""Names of Leadline 0.1 that are different now, so that one script runs on both."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import leadline

IS_0_1 = not hasattr(leadline, "gradients")
"""True on Leadline 0.1, which had the gradients in ``leadline.recurrent``."""

MOVED = {
    f"recurrent.{name}": f"gradients.{name}"
    for name in (
        "GradientFlow",
        "GradientMonitor",
        "Influence",
        "LayerFlow",
        "Stability",
        "WeightTerms",
        "read_metrics",
        "record",
        "trace",
    )
} | {
    "recurrent.Remedies": "gradients.CureComparison",
    "recurrent.remedies": "gradients.compare_cures",
    "recurrent.stability": "gradients.measure_stability",
    "autoencoders.Architecture": "autoencoders.DenseArchitecture",
    "autoencoders.examples": "autoencoders.corrupt_examples",
    "autoencoders.finished_curves": "autoencoders.TrainingCurves.from_pretrained",
    "autoencoders.linear_optimum": "autoencoders.LinearOptimum.from_rows",
    "autoencoders.linear_optimum_of": "autoencoders.LinearOptimum.from_moments",
    "autoencoders.training_curves": "autoencoders.TrainingCurves.from_epochs",
    "decoding.complexity": "decoding.measure_complexity",
    "decoding.search_errors": "decoding.measure_search_errors",
}
"""Public names by package: 0.1 -> now."""

PARAMETERS: dict[str, str] = {
    "vectors": "num_exponents",
    "budgets": "labels",
    "lr": "learning_rate",
    "tol": "tolerance",
    "steps": "num_steps",
    "batch": "batch_size",
}
"""Parameters of functions, and fields of results: 0.1 -> now."""

OUTCOMES: dict[str, str] = {}
"""Words that results contain, such as outcomes: 0.1 -> now."""


def public(name: str) -> Any:
    """Return a public object by its name in 0.1, such as ``"recurrent.trace"``."""
    package, _, attributes = (name if IS_0_1 else MOVED.get(name, name)).partition(".")
    found = import_module(f"leadline.{package}")
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    return found


def call(function: str | Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Call a function with the names of parameters that 0.1 had."""
    target = public(function) if isinstance(function, str) else function
    known = inspect.signature(target).parameters
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    renamed = {
        name if name in known or is_open else PARAMETERS.get(name, name): value
        for name, value in settings.items()
    }
    return target(*arguments, **renamed)


def field(record: Any, name: str) -> Any:
    """Return a field of a result by its name in 0.1."""
    return getattr(record, name if hasattr(record, name) else PARAMETERS.get(name, name))
