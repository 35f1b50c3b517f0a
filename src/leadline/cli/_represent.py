"""``leadline represent``: pretrain autoencoders on your data, and measure their codes."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from leadline.cli import DONE
from leadline.cli._options import INPUT, METHOD, OUTPUT, OutputSwitch, errors_about
from leadline.cli._output import check_input, check_writable, print_summary
from leadline.errors import InputError
from leadline.storage import OutputFolder, output_folder

if TYPE_CHECKING:
    from leadline.data import Dataset
    from leadline.representation import Progress, RepresentationSettings, RepresentationStudy

ENCODER = "encoder.safetensors"
SUMMARY = "representation.json"
SNIPPET = "use.py"
PAGE = "index.html"
FILES = (ENCODER, SUMMARY, SNIPPET, PAGE)
"""Files that the command writes into its output folder, in addition to the sounding ``study``."""

NOTED_SECONDS = 30
"""Duration of pretraining above which an estimate is printed."""

OPTIONS = {"kinds": "--kinds", "seeds": "--seeds", "image_size": "--image-size"}
"""Options by the names of their arguments in the library."""


def represent(
    data: Path,
    /,
    *,
    labels: Annotated[str | None, Parameter(group=INPUT)] = None,
    unlabelled: Annotated[Path | None, Parameter(group=INPUT)] = None,
    image_size: Annotated[str, Parameter(group=INPUT)] = "auto",
    kinds: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative=(), group=METHOD, show_default=" ".join),
    ] = ("vanilla", "denoising", "masked"),
    seeds: Annotated[int, Parameter(group=METHOD)] = 12,
    out: Annotated[Path, Parameter(group=OUTPUT)] = Path("representation"),
    json: OutputSwitch = False,
) -> int:
    """Pretrain autoencoders on your data, and measure their codes with your labels.

    Parameters
    ----------
    data
        Rows or images: .npz, .npy, .csv, .parquet, or a folder of images with a subfolder for each
        class.
    labels
        Name of the column or array of labels. By default y, if it exists. A row without a label (an
        empty cell, NaN or -1) counts as unlabelled. Without any labels no probe is trained.
    unlabelled
        File or folder with more rows of the same form, without labels.
    image_size
        Size of images that are stored as flat rows, such as 28x28; none if rows are not images;
        auto to detect the size.
    kinds
        Kinds of autoencoders, separated by spaces or commas: vanilla, denoising, masked.
    seeds
        Number of autoencoders of each kind, and of splits of the labelled rows.
    out
        Folder for the page, the encoder and the numbers.
    json
        Print the summary as JSON instead of sentences.
    """
    size = _parse_size(image_size)
    names = tuple(name for argument in kinds for name in argument.split(",") if name)
    from leadline.representation import RepresentationSettings

    with errors_about("leadline represent", **OPTIONS):
        settings = RepresentationSettings(kinds=names, image_size=size, seeds=seeds)
    check_writable(out)
    with output_folder(out, files=FILES, soundings=["study"]) as folder:
        return _represent(folder, data, labels, unlabelled, settings, json)


def _represent(
    folder: OutputFolder,
    data: Path,
    labels: str | None,
    unlabelled: Path | None,
    settings: "RepresentationSettings",
    json: bool,
) -> int:
    """Run the command while its output folder is locked."""
    rows, y, more = _load(data, labels, unlabelled, settings.image_size)

    from leadline.autoencoders import discard
    from leadline.representation import STAGES
    from leadline.representation import represent as run_study

    size = settings.image_size
    if rows.image_size is not None and size == "auto":
        size = rows.image_size
    checkpoints = folder.folder / "unfinished"
    with errors_about(f"DATA {data}", **OPTIONS), _progress() as advance:
        study = run_study(
            rows,
            y,
            X_unlabelled=more,
            kinds=settings.kinds,
            image_size=size,
            seeds=settings.seeds,
            checkpoint=checkpoints,
            progress=advance,
        )
    notes = (*rows.notes, *(note for note in study.notes if note not in rows.notes))
    study = replace(study, notes=notes)
    page = _write(folder, study, data, labels)
    for stage in STAGES:
        discard(checkpoints / stage)
    # The folder may be missing, or contain files that the command did not write.
    with suppress(OSError):
        checkpoints.rmdir()
    lines = (
        _sentence(str(study.verdict)),
        *study.findings,
        f"encoder: {folder.folder / ENCODER}",
        f"page: {page}",
    )
    print_summary(_summary(study), lines, json=json)
    return DONE


def _parse_size(text: str) -> Any:
    """Return an image size from ``28x28``, ``28``, ``auto`` or ``none``."""
    if text == "auto":
        return "auto"
    if text == "none":
        return None
    sides = text.lower().split("x")
    if len(sides) in (1, 2) and all(side.isdecimal() and int(side) > 0 for side in sides):
        return int(sides[0]), int(sides[-1])
    raise InputError(
        "--image-size must be height x width, auto or none",
        got=f"--image-size {text}",
        cure="--image-size 28x28",
    )


def _load(
    data: Path, labels: str | None, unlabelled: Path | None, size: Any
) -> "tuple[Dataset, Any, Dataset | None]":
    """Return the rows, their labels as they are in the file, and more rows."""
    from leadline.data import read

    check_input(data, "DATA")
    with errors_about(f"DATA {data}", path="DATA", labels="--labels"):
        rows, raw = read(data, labels)
    y = None if raw is None else raw.values
    if unlabelled is None:
        return rows, y, None
    check_input(unlabelled, "--unlabelled")
    with errors_about(f"--unlabelled {unlabelled}", path="--unlabelled"):
        more, _ = read(unlabelled)
    is_alike = (more.image_size, more.channels) == (rows.image_size, rows.channels)
    if size == "auto" and not is_alike:
        raise InputError(
            "--unlabelled must have rows of the same form as DATA",
            got=f"DATA {data}: {_form(rows)}; --unlabelled {unlabelled}: {_form(more)}",
            cure="give both the same shape, or use --image-size for flat rows",
        )
    return rows, y, more


def _form(rows: "Dataset") -> str:
    """Return the form of rows in words."""
    if rows.image_size is None:
        return f"{rows.X.shape[1]} numbers in each row"
    height, width = rows.image_size
    return f"images of {rows.channels} x {height} x {width}"


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """Show the progress: a bar on a terminal, and a line for each stage elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    is_terminal = console.is_terminal
    tasks = {}
    with Progress(*columns, console=console, transient=True, disable=not is_terminal) as bar:

        def advance(progress: "Progress") -> None:
            """Show the progress of one epoch; a new stage prints a line or starts a bar."""
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total)
                if progress.seconds is not None and progress.seconds > NOTED_SECONDS:
                    minutes = math.ceil(progress.seconds / 60)
                    unit = "minute" if minutes == 1 else "minutes"
                    console.print(
                        f"{progress.stage}, {progress.total} epochs: about {minutes} {unit} on one "
                        "core. Probing takes a third of this time."
                    )
                elif not is_terminal:
                    console.print(f"{progress.stage} …", markup=False)
            bar.update(tasks[progress.stage], completed=progress.done, total=progress.total)

        yield advance


def _summary(study: "RepresentationStudy") -> dict[str, Any]:
    """Return the numbers and sentences of a study for JSON."""
    table = study.table().round(6)
    accuracy = None if study.probe is None else round(100 * study.probe.accuracy, 6)
    rows = [
        {column: _plain(row[column]) for column in table.columns} for _, row in table.iterrows()
    ]
    row_counts = None
    if study.row_counts is not None:
        parts = study.row_counts.table()
        row_counts = dict(zip(parts["part"].tolist(), parts["rows"].tolist(), strict=True))
    return {
        "chosen": study.chosen,
        "verdict": str(study.verdict),
        "findings": list(study.findings),
        "rows": row_counts,
        "classes": list(study.class_names),
        "probe strength C": study.strength,
        "probe accuracy on labels left out, %": accuracy,
        "table": rows,
    }


def _plain(value: Any) -> Any:
    """Return a cell of a table for JSON: null if it is not finite, and 0.0 for -0.0."""
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, float):
        return value
    return value + 0.0 if math.isfinite(value) else None


def _write(
    folder: OutputFolder, study: "RepresentationStudy", data: Path, labels: str | None
) -> Path:
    """Write the encoder, the sounding, the summary, the snippet, and last the page."""
    from leadline.figures import interactive
    from leadline.report import Chapter, soundings_page
    from leadline.storage import canonical_json

    snippet = _snippet(folder.folder, study, data, labels)
    folder.produce(ENCODER, study.encoder.save)
    study.save(folder.folder / "study")
    folder.write(SUMMARY, canonical_json(_summary(study)))
    folder.write(SNIPPET, snippet)
    source = "study/sounding.json"
    use = "Python code that uses the encoder (`use.py`):"
    chapters = [
        Chapter(
            "Accuracy by number of labels",
            [_sentence(str(study.verdict)), *study.findings, use],
            [study.figure()],
            study.protocol,
            source,
            snippet,
        ),
    ]
    if study.efficiency is not None:
        text = (
            "Errors on held-out rows: mean and range over seeds. Errors of different kinds are not "
            "comparable."
        )
        curves = [interactive(study.training_drawing())]
        chapters.append(Chapter("Pretraining", [text], curves, study.protocol, source))
    examples = study.examples_drawing()
    if examples is not None:
        text = f"Test examples, which the encoder has not seen, as {study.view}."
        chapters.append(
            Chapter("Reconstructions", [text], [interactive(examples)], study.protocol, source)
        )
    lead = f"Autoencoders ({', '.join(study.kinds)}) on `{data.name}`."
    page = soundings_page("What is this representation worth?", lead, chapters)
    return folder.write(PAGE, page)


def _snippet(out: Path, study: "RepresentationStudy", data: Path, labels: str | None) -> str:
    """Return Python code that uses the encoder, with a probe on all labels if there are any."""
    column = f", {labels!r}" if labels else ""
    read = f"rows, labels = data.read({str(data.resolve())!r}{column})"
    load = f"encoder = autoencoders.Encoder.load({str((out / ENCODER).resolve())!r})"
    if study.strength is None:
        return f"""from leadline import autoencoders, data

{read}
{load}
codes = encoder.encode(rows)
"""
    probe = f"LogisticRegression(C={study.strength:g}, max_iter=1000)"
    return f"""from leadline import autoencoders, data
from sklearn.linear_model import LogisticRegression

{read}
{load}
codes, known = encoder.encode(rows), labels.known
probe = {probe}.fit(codes[known], labels.values[known].tolist())
predictions = probe.predict(codes)
"""


def _sentence(text: str) -> str:
    """Return a clause as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."
