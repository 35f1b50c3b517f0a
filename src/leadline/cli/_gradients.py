"""``leadline gradients``: the gradient that reaches each timestep of a model."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from leadline.cli import DONE
from leadline.cli._factory import call, parse, resolve, working_directory_on_path
from leadline.cli._options import INPUT, OUTPUT, OutputSwitch, errors_about
from leadline.cli._output import check_input, check_writable, print_summary
from leadline.errors import InputError
from leadline.storage import OutputFolder, output_folder

if TYPE_CHECKING:
    from torch import nn

    from leadline.gradients import GradientFlow, Influence

FILES = ("gradients.json", "index.html")
"""Files that the command writes into its output folder."""

SOUNDINGS = ("flow", "influence")
"""Soundings that the command writes into its output folder."""

EXAMPLE = (
    "def factory(): return model, batch, lambda model, batch: criterion(model(batch[0]), batch[1])"
)


def gradients(
    factory: str,
    /,
    *,
    data: Annotated[Path | None, Parameter(group=INPUT)] = None,
    out: Annotated[Path, Parameter(group=OUTPUT)] = Path("gradients"),
    json: OutputSwitch = False,
) -> int:
    """Show where the gradient of a model vanishes or explodes.

    Parameters
    ----------
    factory
        Your function, as module:function. The module must be importable from the working
        directory.
    data
        An .npz file of arrays. The factory then receives a dictionary of the arrays by name.
        Without this option it receives no arguments.
    out
        Folder for the page, the summary in JSON and the soundings.
    json
        Print the summary as JSON instead of sentences.
    """
    module, name = parse(factory)
    arrays = () if data is None else (_load(data),)
    given = "no arguments, because --data is missing"
    if data is not None:
        given = f"the arrays of --data {data}"
    check_writable(out)
    with output_folder(out, files=FILES, soundings=SOUNDINGS) as folder:
        with working_directory_on_path():
            made = call(factory, resolve(module, name), *arrays, given=given)
            model, batch, loss = _parts(factory, made)
            with errors_about(factory):
                flow, influence = _trace(factory, model, batch, loss)
        summary = {
            "factory": factory,
            "data": None if data is None else str(data),
            "layers": _summary(flow, influence),
        }
        page = _write(folder, factory, flow, influence, summary)
    lines = [*_flow_lines(summary), *_reach_lines(summary), f"page: {page}"]
    print_summary(summary, lines, json=json)
    return DONE


def _load(data: Path) -> dict[str, Any]:
    """Return all arrays of a file by name."""
    import zipfile

    import numpy as np

    check_input(data, "--data")
    try:
        file = np.load(data, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("it is a single array")
        with file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            "--data must be an .npz file of arrays of numbers",
            got=f"--data {data} ({getattr(error, 'strerror', None) or error})",
            cure="np.savez('batch.npz', x=x, y=y)",
        ) from error


def _parts(factory: str, made: Any) -> "tuple[nn.Module, Any, Callable[..., Any]]":
    """Return the model, the batch and the loss that a factory returned.

    Raises:
        InputError: the factory returned something else.
    """
    from torch import nn

    is_sequence = isinstance(made, (tuple, list))
    parts = cast("tuple[Any, ...]", tuple(made) if is_sequence else (made,))
    has_model = len(parts) == 3 and isinstance(parts[0], nn.Module)
    if not has_model or not callable(parts[2]):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise InputError(
            f"{factory} must return a model, a batch, and a loss that is a function of the two",
            got=f"{factory} returned {f'({kinds})' if is_sequence else kinds}",
            cause="the loss is already computed; it must be a function" if has_model else None,
            cure=EXAMPLE,
        )
    return parts[0], parts[1], parts[2]


def _trace(
    factory: str, model: "nn.Module", batch: Any, loss: Callable[..., Any]
) -> "tuple[GradientFlow, Influence | None]":
    """Run the model once and measure its gradient flow; with loss terms, also their influence."""
    from torch import Tensor

    from leadline import gradients

    with gradients.trace(model) as tape:
        given = "the model and the batch"
        terms = call("the loss", loss, model, batch, given=given)
        if not isinstance(terms, Tensor) or terms.dim() > 2 or not terms.is_floating_point():
            got = type(terms).__name__
            if isinstance(terms, Tensor):
                got = f"{terms.dtype} of shape {tuple(terms.shape)}"
            raise InputError(
                "the loss must return a scalar, or terms of shape (T,) or (batch, T)",
                got=got,
                cure=EXAMPLE,
            )
    flow = tape.gradient_flow(terms)
    has_terms = terms.dim() > 0 and terms.shape[-1] > 1
    return flow, tape.influence(terms) if has_terms else None


def _summary(flow: "GradientFlow", influence: "Influence | None") -> list[dict[str, Any]]:
    """Return one entry per layer: its verdict, notes, metrics and, with loss terms, their reach."""
    import numpy as np

    from leadline.gradients import GradientFlow, Influence, summary

    reaches = {}
    if influence is not None:
        for layer in influence.layers:
            reaches[layer.title] = str(Influence(influence.protocol, (layer,)).verdict)
    entries = []
    for layer in flow.layers:
        alone = GradientFlow(flow.protocol, (layer,))
        sentence, *notes = alone.notes
        metrics = summary([(layer, ~np.isnan(layer.hidden_norm))])
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        entry = {"layer": layer.title, "sentence": sentence, "notes": notes, **finite}
        if layer.title in reaches:
            entry["reach"] = reaches[layer.title]
        entries.append(entry)
    return entries


def _flow_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the sentence and the notes of every layer."""
    return [line for layer in summary["layers"] for line in (layer["sentence"], *layer["notes"])]


def _reach_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the reach of the loss terms in every layer that has one."""
    return [layer["reach"] for layer in summary["layers"] if "reach" in layer]


def _write(
    folder: OutputFolder,
    factory: str,
    flow: "GradientFlow",
    influence: "Influence | None",
    summary: Mapping[str, Any],
) -> Path:
    """Write the soundings and the summary, then the page that shows them; return the page."""
    from leadline.report import Chapter, soundings_page
    from leadline.storage import canonical_json

    flow_file = "flow/sounding.json"
    heading = "How much gradient arrives"
    lines = _flow_lines(summary)
    chapters = [Chapter(heading, lines, [flow.figure()], flow.protocol, flow_file)]
    flow.save(folder.folder / "flow")
    if influence is not None:
        figures = [influence.figure(layer) for layer in range(len(influence.layers))]
        heading = "How far each loss term reaches back"
        file = "influence/sounding.json"
        lines = _reach_lines(summary)
        chapters.append(Chapter(heading, lines, figures, influence.protocol, file))
        influence.save(folder.folder / "influence")
    lead = f"One forward and backward pass of the model that `{factory}` makes."
    folder.write("gradients.json", canonical_json(summary))
    return folder.write("index.html", soundings_page("Where the gradient goes", lead, chapters))
