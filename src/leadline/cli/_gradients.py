"""``leadline gradients``: how much gradient arrives at each timestep of a model that a factory makes."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.cli import DONE
from leadline.cli._factory import call, parse, resolve, working_directory_on_path
from leadline.cli._output import Switch, check_input, check_writable, print_summary
from leadline.errors import InputError
from leadline.storage import OutputFolder, output_folder

if TYPE_CHECKING:
    from torch import nn

    from leadline.gradients import GradientFlow, Influence, LayerFlow

FILES = ("gradients.json", "index.html")
SOUNDINGS = ("flow", "influence")
"""The files and the soundings that the command writes into its output folder."""

EXAMPLE = (
    "def factory(): return model, batch, lambda model, batch: criterion(model(batch[0]), batch[1])"
)


def gradients(
    factory: str,
    /,
    *,
    data: Path | None = None,
    out: Path = Path("gradients"),
    json: Switch = False,
) -> int:
    """Trace one forward pass of a model, and tell where its gradient dies or explodes.

    The factory is a function of yours that returns three things: the model, a batch, and the loss. The loss is a
    function that is called with the model and the batch, and returns a scalar; or one term per timestep, of shape (T,)
    or (batch, T), which also gives the influence of every term on every timestep.

    Parameters
    ----------
    factory
        Where it is: module:function, the module being importable from the working directory.
    data
        A file of arrays (.npz). The factory is then called with a dictionary of them by name, without it with nothing.
    out
        The folder for the page, its summary in JSON and the soundings.
    json
        Print the summary on standard output instead of a sentence per layer.
    """
    module, name = parse(factory)
    arrays = () if data is None else (_load(data),)
    check_writable(out)
    with output_folder(out, files=FILES, soundings=SOUNDINGS) as folder:
        with working_directory_on_path():
            make, given = (
                resolve(module, name),
                f"the arrays of {data}" if arrays else "nothing, for there is no --data",
            )
            model, batch, loss = _made(factory, call(factory, make, *arrays, given=given))
            flow, influence = _trace(factory, model, batch, loss)
        summary = {
            "factory": factory,
            "data": None if data is None else str(data),
            "layers": _summary(flow, influence),
        }
        page = _write(folder, factory, flow, influence, summary)
    print_summary(
        summary,
        [*_sentences(summary, "sentence"), *_sentences(summary, "reach"), f"page: {page}"],
        json=json,
    )
    return DONE


def _load(data: Path) -> dict[str, Any]:
    """The arrays of a file, all of them read."""
    import zipfile

    import numpy as np

    check_input(data)
    try:
        file = np.load(data, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("it is a single array")
        with file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            "--data is an .npz file of arrays of numbers",
            got=f"--data {data} ({getattr(error, 'strerror', None) or error})",
            cure="np.savez('batch.npz', x=x, y=y)",
        ) from error


def _made(factory: str, made: Any) -> "tuple[nn.Module, Any, Callable[..., Any]]":
    from torch import nn

    parts = tuple(made) if isinstance(made, (tuple, list)) else (made,)
    if len(parts) != 3 or not isinstance(parts[0], nn.Module) or not callable(parts[2]):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise InputError(
            "a factory returns three things: a model, a batch, and a loss that is called with the two",
            got=f"{factory} returned {f'({kinds})' if isinstance(made, (tuple, list)) else kinds}",
            cause="a loss that was computed already"
            if len(parts) == 3 and isinstance(parts[0], nn.Module)
            else None,
            cure=EXAMPLE,
        )
    return parts


def _trace(
    factory: str, model: "nn.Module", batch: Any, loss: Callable[..., Any]
) -> "tuple[GradientFlow, Influence | None]":
    from torch import Tensor

    from leadline import gradients

    with gradients.trace(model) as tape:
        terms: Tensor = call(
            f"the loss of {factory}", loss, model, batch, given="the model and the batch"
        )
        if not isinstance(terms, Tensor) or terms.dim() > 2 or not terms.is_floating_point():
            is_tensor = isinstance(terms, Tensor)
            raise InputError(
                "the loss returns a scalar, or terms of shape (T,) or (batch, T)",
                got=f"{terms.dtype} of shape {tuple(terms.shape)}"
                if is_tensor
                else type(terms).__name__,
                cure=EXAMPLE,
            )
    flow = tape.gradient_flow(terms)
    return flow, tape.influence(terms) if terms.dim() and terms.shape[-1] > 1 else None


def _summary(flow: "GradientFlow", influence: "Influence | None") -> list[dict[str, Any]]:
    """By layer, the sentence and what a monitor tells; with loss terms, how far they reach."""
    import numpy as np

    from leadline.gradients import GradientFlow, Influence, summary

    reaches = {}
    if influence is not None:
        reaches = {
            layer.title: str(Influence(influence.protocol, (layer,)).verdict)
            for layer in influence.layers
        }

    def told(layer: "LayerFlow") -> dict[str, Any]:
        numbers = summary([(layer, ~np.isnan(layer.hidden_norm))])
        sentence = str(GradientFlow(flow.protocol, (layer,)).verdict)
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        reach = {"reach": reaches[layer.title]} if layer.title in reaches else {}
        return {"layer": layer.title, "sentence": sentence, **finite, **reach}

    return [told(layer) for layer in flow.layers]


def _sentences(summary: Mapping[str, Any], of: str) -> list[str]:
    return [layer[of] for layer in summary["layers"] if of in layer]


def _write(
    folder: OutputFolder,
    factory: str,
    flow: "GradientFlow",
    influence: "Influence | None",
    summary: Mapping[str, Any],
) -> Path:
    """The soundings, the summary and, when they are there, the page that shows them."""
    from leadline.report import Chapter, soundings_page
    from leadline.storage import canonical_json

    told, file = _sentences(summary, "sentence"), "flow/sounding.json"
    chapters = [Chapter("How much gradient arrives", told, [flow.figure()], flow.protocol, file)]
    flow.save(folder.folder / "flow")
    if influence is not None:
        figures = [influence.figure(layer) for layer in range(len(influence.layers))]
        told, file = _sentences(summary, "reach"), "influence/sounding.json"
        chapters.append(
            Chapter("How far each loss term reaches back", told, figures, influence.protocol, file)
        )
        influence.save(folder.folder / "influence")
    lead = f"One forward and backward pass of the model that `{factory}` makes."
    folder.write("gradients.json", canonical_json(summary))
    return folder.write("index.html", soundings_page("Where the gradient goes", lead, chapters))
