"""``leadline represent``: pretrain autoencoders on your data, and measure their representations."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from leadline.cli import DONE
from leadline.cli._output import Switch, check_input, check_writable, print_summary
from leadline.errors import InputError, context
from leadline.storage import OutputFolder, output_folder

if TYPE_CHECKING:
    from leadline.data import Dataset
    from leadline.representation import Progress, RepresentationStudy

ENCODER = "encoder.safetensors"
SUMMARY = "representation.json"
SNIPPET = "use.py"
PAGE = "index.html"
FILES = (ENCODER, SUMMARY, SNIPPET, PAGE)
"""Files that the command writes into its output folder, in addition to the sounding ``study``."""

NOTED_SECONDS = 30
"""Duration of pretraining above which an estimate is printed."""


def represent(
    data: Path,
    /,
    *,
    labels: str | None = None,
    unlabelled: Path | None = None,
    kinds: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (
        "vanilla",
        "denoising",
        "masked",
    ),
    seeds: int = 12,
    image_size: str = "auto",
    out: Path = Path("representation"),
    json: Switch = False,
) -> int:
    """Pretrain autoencoders on your data, and measure their representations with your labels.

    The command writes a page, the encoder of the kind that held-out labels choose, the numbers, and
    five lines of Python that use the encoder. An interrupted run resumes where it stopped.

    Parameters
    ----------
    data
        Rows or images: .npz, .npy, .csv, .parquet, or a folder of images with a subfolder for each
        class.
    labels
        Name of the column or array with the labels; by default y, if there is one. A row without a
        label (an empty cell, NaN, or -1) counts as unlabelled. Without labels nothing is probed.
    unlabelled
        File or folder with more rows of the same form, without labels.
    kinds
        Kinds of autoencoders: vanilla, denoising and masked.
    seeds
        Number of autoencoders of each kind, and of splits of the labelled rows.
    image_size
        Size of images that are given as flat rows, such as 28x28; "none" if rows are not images;
        "auto" to detect it.
    out
        Folder for the page, the encoder and the numbers.
    json
        Print the summary as JSON instead of sentences.
    """
    size = _parse_size(image_size)
    names = tuple(name for argument in kinds for name in argument.split(",") if name)
    check_writable(out)
    with output_folder(out, files=FILES, soundings=["study"]) as folder:
        return _represent(folder, data, labels, unlabelled, names, seeds, size, json)


def _represent(
    folder: OutputFolder,
    data: Path,
    labels: str | None,
    unlabelled: Path | None,
    kinds: tuple[str, ...],
    seeds: int,
    size: Any,
    json: bool,
) -> int:
    """Run the command while its output folder is locked."""
    rows, y, more = _load(data, labels, unlabelled, size)

    from leadline.autoencoders import discard
    from leadline.representation import STAGES
    from leadline.representation import represent as run_study

    if rows.image_size is not None and size == "auto":
        size = rows.image_size
    checkpoints = folder.folder / "unfinished"
    with context(f"in {data}"), _progress() as advance:
        study = run_study(
            rows,
            y,
            X_unlabelled=more,
            kinds=kinds,
            image_size=size,
            seeds=seeds,
            checkpoint=checkpoints,
            progress=advance,
        )
    notes = (*rows.notes, *(note for note in study.notes if note not in rows.notes))
    study = replace(study, notes=notes)
    page = _write(folder, study, data, labels)
    for stage in STAGES:
        discard(checkpoints / stage)
    # The folder may be missing, or hold files that the command did not write.
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
        "--image-size must be height x width",
        got=f"--image-size {text}",
        cure="28x28, auto, or none",
    )


def _load(
    data: Path, labels: str | None, unlabelled: Path | None, size: Any
) -> "tuple[Dataset, Any, Dataset | None]":
    """Return the rows, their labels as they are in the file, and more rows."""
    from leadline.data import read

    check_input(data)
    rows, raw = read(data, labels)
    y = None if raw is None else raw.values
    if unlabelled is None:
        return rows, y, None
    check_input(unlabelled)
    more, _ = read(unlabelled)
    is_alike = (more.image_size, more.channels) == (rows.image_size, rows.channels)
    if size == "auto" and not is_alike:
        raise InputError(
            "--unlabelled must have rows of the same form as the labelled data",
            got=f"{data}: {_form(rows)}; {unlabelled}: {_form(more)}",
            cure="bring both into one shape, or pass --image-size for flat rows",
        )
    return rows, y, more


def _form(rows: "Dataset") -> str:
    """Return the form of rows in words."""
    if rows.image_size is None:
        return f"{rows.X.shape[1]} numbers a row"
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
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total)
                if progress.seconds is not None and progress.seconds > NOTED_SECONDS:
                    minutes = math.ceil(progress.seconds / 60)
                    console.print(
                        f"{progress.stage}, {progress.total} epochs in all: about {minutes} "
                        f"minute{'s' * (minutes > 1)} on one core, and a third of that for probing"
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
    use = "Five lines that use the encoder (`use.py`):"
    chapters = [
        Chapter(
            "The worth of the representation",
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
        text = f"Examples that the encoder has not seen, as {study.view}."
        chapters.append(
            Chapter("Reconstructions", [text], [interactive(examples)], study.protocol, source)
        )
    lead = f"Autoencoders ({', '.join(study.kinds)}) on `{data.name}`."
    page = soundings_page("The worth of the representation", lead, chapters)
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
