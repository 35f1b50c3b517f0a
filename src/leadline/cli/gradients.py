"""``leadline gradients``: how much gradient arrives at each timestep of a model that a factory makes."""

import importlib
import math
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from leadline.cli import DONE
from leadline.errors import InputError, LeadlineError, nearest

if TYPE_CHECKING:
    from torch import nn

    from leadline.recurrent import GradientFlow, Influence, LayerFlow

Switch = Annotated[bool, Parameter(negative=())]

EXAMPLE = "def factory(): return model, batch, lambda model, batch: criterion(model(batch[0]), batch[1])"


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
    module, name = _parse(factory)
    arrays = () if data is None else (_load(data),)
    _check_writable(out)
    with _working_directory_on_path():
        make = _resolve(module, name)
        model, batch, loss = _made(factory, _call(factory, make, *arrays))
        flow, influence = _trace(factory, model, batch, loss)
    summary = {"factory": factory, "data": None if data is None else str(data), "layers": _summary(flow)}
    page = _write(out, factory, flow, influence, summary)
    if json:
        from leadline.storage import canonical_json

        sys.stdout.write(canonical_json(summary))
    else:
        print(*(layer["sentence"] for layer in summary["layers"]), f"page: {page}", sep="\n")
    return DONE


def _parse(factory: str) -> tuple[str, str]:
    module, _, name = factory.partition(":")
    if not module or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        looks_like_file = module.endswith(".py") or "/" in module
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise InputError(
            "a factory is named by its module and its name: module:function",
            got=factory,
            cause="a file's path instead of a module's name" if looks_like_file else None,
            cure=f"leadline gradients {dotted or 'module'}:{name or 'factory'}",
        )
    return module, name


def _load(data: Path) -> dict[str, Any]:
    """The arrays of a file, all of them read."""
    import zipfile

    import numpy as np

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


def _check_writable(out: Path) -> None:
    """Refuse before any work starts what could not be written in the end."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(
            "--out must be a folder that can be written",
            got=f"--out {out} ({error.strerror})",
            cure="name another folder",
        ) from None


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    """As ``python -m`` has it; the console script has not."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _resolve(module: str, name: str) -> Callable[..., Any]:
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        is_missing = isinstance(error, ModuleNotFoundError) and str(error.name) in (module, module.split(".")[0])
        raise InputError(
            "the factory's module must be importable",
            got=f"{module}: {_said(error)}",
            cause=f"no {module.replace('.', '/')}.py in {Path.cwd()}" if is_missing else _where(error),
            cure="run the command from the folder that holds the module" if is_missing else "import it in Python first",
        ) from error
    make = getattr(found, name, None)
    if not callable(make):
        functions = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
        raise InputError(
            "the factory is a function of its module",
            got=f"{module} has no {name}" if make is None else f"{module}:{name} is a {type(make).__name__}",
            cure=f"it has {', '.join(nearest(name, functions)[:5])}" if functions else None,
        )
    return make


def _made(factory: str, made: Any) -> "tuple[nn.Module, Any, Callable[..., Any]]":
    from torch import nn

    parts = tuple(made) if isinstance(made, (tuple, list)) else (made,)
    if len(parts) != 3 or not isinstance(parts[0], nn.Module) or not callable(parts[2]):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise InputError(
            "a factory returns three things: a model, a batch, and a loss that is called with the two",
            got=f"{factory} returned {f'({kinds})' if isinstance(made, (tuple, list)) else kinds}",
            cause="a loss that was computed already" if len(parts) == 3 and isinstance(parts[0], nn.Module) else None,
            cure=EXAMPLE,
        )
    return parts


def _trace(
    factory: str, model: "nn.Module", batch: Any, loss: Callable[..., Any]
) -> "tuple[GradientFlow, Influence | None]":
    from torch import Tensor

    from leadline import recurrent

    with recurrent.trace(model) as tape:
        terms: Tensor = _call(f"the loss of {factory}", loss, model, batch)
        if not isinstance(terms, Tensor) or terms.dim() > 2 or not terms.is_floating_point():
            is_tensor = isinstance(terms, Tensor)
            raise InputError(
                "the loss returns a scalar, or terms of shape (T,) or (batch, T)",
                got=f"{terms.dtype} of shape {tuple(terms.shape)}" if is_tensor else type(terms).__name__,
                cure=EXAMPLE,
            )
    flow = tape.gradient_flow(terms)
    return flow, tape.influence(terms) if terms.dim() and terms.shape[-1] > 1 else None


def _call(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what the user wrote; its failure is told with the line that it comes from."""
    try:
        return function(*arguments)
    except LeadlineError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{what} must run to its end", got=_said(error), cause=_where(error), cure="call it in Python first"
        ) from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _where(error: BaseException) -> str | None:
    """The last line on the way to an error that is not of an installed package."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(("<", sys.prefix))]
    own = [f for f in frames if Path(__file__).parent not in Path(f.filename).parents]
    return f"{own[-1].filename}, line {own[-1].lineno}: {own[-1].line}" if own else None


def _summary(flow: "GradientFlow") -> list[dict[str, Any]]:
    """By layer, the sentence and what a monitor tells."""
    import numpy as np

    from leadline.recurrent import GradientFlow
    from leadline.recurrent.monitor import summary

    def told(layer: "LayerFlow") -> dict[str, Any]:
        numbers = summary([(layer, ~np.isnan(layer.hidden_norm))])
        sentence = str(GradientFlow(flow.protocol, (layer,)).verdict)
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {"layer": layer.title, "sentence": sentence, **finite}

    return [told(layer) for layer in flow.layers]


def _write(
    out: Path, factory: str, flow: "GradientFlow", influence: "Influence | None", summary: Mapping[str, Any]
) -> Path:
    """The soundings, the summary and, when they are there, the page that shows them."""
    from leadline.report.soundings import Chapter, soundings_page
    from leadline.storage import canonical_json, write

    sentences = [layer["sentence"] for layer in summary["layers"]]
    file = "flow/sounding.json"
    chapters = [Chapter("How much gradient arrives", sentences, [flow.figure()], flow.protocol, file)]
    flow.save(out / "flow")
    if influence is not None:
        figures = [influence.figure(layer) for layer in range(len(influence.layers))]
        told, file = str(influence.verdict).split("; "), "influence/sounding.json"
        chapters.append(Chapter("How far each loss term reaches back", told, figures, influence.protocol, file))
        influence.save(out / "influence")
    lead = f"One forward and backward pass of the model that `{factory}` makes."
    write(out / "gradients.json", canonical_json(summary))
    write(out / "index.html", soundings_page("Where the gradient goes", lead, chapters))
    return out / "index.html"
