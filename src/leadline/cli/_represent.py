"""``leadline represent``: pretrain autoencoders on your own data, choose honestly, keep the encoder."""

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
    from leadline.representation import Progress, RepresentationStudy

ENCODER = "encoder.safetensors"
SUMMARY = "representation.json"
SNIPPET = "use.py"
PAGE = "index.html"
FILES = (ENCODER, SUMMARY, SNIPPET, PAGE)
"""The files that the command writes into its output folder, beside the sounding ``study``."""


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
    """Pretrain autoencoders on your data, and tell what their representations are worth with the labels you have.

    Writes a page, the encoder of the kind that was chosen by labels that were held out, the numbers, and five lines of
    Python that use it. A run that was interrupted goes on where it stopped.

    Parameters
    ----------
    data
        Rows or images: .npz, .npy, .csv, .parquet, or a folder of images whose subfolders are the classes.
    labels
        Which column or array of the data holds the labels; by default y, if there is one. A row without a label (an
        empty cell, NaN, or -1) counts as unlabelled. Without any labels nothing is probed.
    unlabelled
        More rows of the same form, without labels.
    kinds
        Of vanilla, denoising and masked.
    seeds
        How many autoencoders of each kind, and splits of the labelled rows.
    image_size
        Of images that come as flat rows: 28x28; or none: they are no images; or auto: told from the rows.
    out
        The folder for the page, the encoder and the numbers.
    json
        Print the summary on standard output instead of a few sentences.
    """
    size = _size(image_size)
    names = tuple(name for given in kinds for name in given.split(",") if name)
    check_writable(out)
    with output_folder(out, files=FILES, soundings=["study"]) as folder:
        return _represent(folder, data, labels, unlabelled, names, seeds, size, json)


def _represent(
    folder: OutputFolder,
    data: Path,
    labels: str | None,
    unlabelled: Path | None,
    names: tuple[str, ...],
    seeds: int,
    size: Any,
    json: bool,
) -> int:
    """The command, with its output folder locked."""
    rows, y, more = _load(data, labels, unlabelled, size)

    from leadline.autoencoders import discard
    from leadline.representation import STAGES
    from leadline.representation import represent as study_of

    size = rows.image_size if rows.image_size is not None and size == "auto" else size
    work = folder.folder / "unfinished"
    with context(f"in {data}"), _progress() as advance:
        study = study_of(
            rows,
            y,
            X_unlabelled=more,
            kinds=names,
            image_size=size,
            seeds=seeds,
            checkpoint=work,
            progress=advance,
        )
    told = (*rows.notes, *(note for note in study.notes if note not in rows.notes))
    study = replace(study, notes=told)
    page = _write(folder, study, data, labels, rows.image_size)
    for stage in STAGES:
        discard(work / stage)  # what an interrupted run would have resumed from
    with suppress(OSError):  # it is not there, or holds files of others
        work.rmdir()
    encoder = folder.folder / ENCODER
    findings = (
        _sentence(str(study.verdict)),
        *study.findings,
        f"encoder: {encoder}",
        f"page: {page}",
    )
    print_summary(_summary(study), findings, json=json)
    return DONE


def _size(text: str) -> Any:
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    sides = text.lower().split("x")
    if len(sides) in (1, 2) and all(side.isdecimal() and int(side) > 0 for side in sides):
        return int(sides[0]), int(sides[-1])
    raise InputError(
        "--image-size is height x width", got=f"--image-size {text}", cure="28x28, auto, or none"
    )


def _load(data: Path, labels: str | None, unlabelled: Path | None, size: Any):
    """The rows, their labels as they stand, and more rows."""
    from leadline.data import read

    check_input(data)
    rows, raw = read(data, labels)
    more = None
    if unlabelled is not None:
        check_input(unlabelled)
        extra, _ = read(unlabelled)
        if (extra.image_size, extra.channels) != (
            rows.image_size,
            rows.channels,
        ) and size == "auto":
            forms = [f"{one.X.shape[1]} numbers a row" if one.image_size is None else
                     f"images of {one.channels} x {one.image_size[0]} x {one.image_size[1]}"
                     for one in (rows, extra)]  # fmt: skip
            raise InputError(
                "labelled and unlabelled rows have the same form",
                got=f"{data}: {forms[0]}; {unlabelled}: {forms[1]}",
                cure="bring both into one shape, or say --image-size for flat rows",
            )
        more = extra
    return rows, None if raw is None else raw.values, more


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal; elsewhere a line when a stage begins."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console, begun = Console(stderr=True, highlight=False, soft_wrap=True), {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:

        def tell(progress: "Progress") -> None:
            if progress.stage not in begun:
                begun[progress.stage] = bar.add_task(progress.stage, total=progress.total)
                if progress.seconds is not None and progress.seconds > 30:
                    minutes = math.ceil(progress.seconds / 60)
                    took = f"about {minutes} minute{'s' * (minutes > 1)} on one core, and a third of that for probing"
                    console.print(f"{progress.stage}, {progress.total} epochs in all: {took}")
                elif not console.is_terminal:
                    console.print(f"{progress.stage} …", markup=False)
            bar.update(begun[progress.stage], completed=progress.done, total=progress.total)

        yield tell


def _summary(study: "RepresentationStudy") -> dict[str, Any]:
    table = study.table().round(6)
    return {
        "chosen": study.chosen,
        "verdict": str(study.verdict),
        "findings": list(study.findings),
        "classes": list(study.class_names),
        "probe strength C": study.strength,
        "probe accuracy on labels left out, %": None
        if study.probe is None
        else round(100 * study.probe.accuracy, 6),
        "table": [
            {column: _plain(row[column]) for column in table.columns} for _, row in table.iterrows()
        ],
    }


def _plain(value: Any) -> Any:
    """A cell of a table as JSON holds it: what is not finite becomes null, and -0.0 becomes 0.0."""
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, float):
        return value
    return value + 0.0 if math.isfinite(value) else None


def _write(
    folder: OutputFolder,
    study: "RepresentationStudy",
    data: Path,
    labels: str | None,
    image_size: Any,
) -> Path:
    """The encoder, the sounding, the summary, the journal and the snippet; when they are there, the page."""
    from leadline.report import Chapter, soundings_page
    from leadline.storage import canonical_json

    snippet = _snippet(folder.folder, study, data, labels)
    folder.produce(ENCODER, study.encoder.save)
    study.save(folder.folder / "study")
    folder.write(SUMMARY, canonical_json(_summary(study)))
    folder.write(SNIPPET, snippet)
    strip = study.strip()
    use = "Five lines that use the encoder (`use.py`):"
    chapters = [
        Chapter(
            "What the representation is worth",
            [_sentence(str(study.verdict)), *study.findings, use],
            [study.figure()],
            study.protocol,
            "study/sounding.json",
            snippet,
        ),
    ]
    if study.efficiency is not None:
        curves = [study.training()]
        told = [
            "Of what is held out in pretraining; mean and range over seeds. Errors of different kinds do not compare."
        ]
        chapters.append(
            Chapter("How pretraining went", told, curves, study.protocol, "study/sounding.json")
        )
    if strip is not None:
        told = [
            f"Examples that the encoder has not seen. The view: {study.protocol.settings['view']}."
        ]
        chapters.append(
            Chapter("What they reconstruct", told, [strip], study.protocol, "study/sounding.json")
        )
    lead = f"Autoencoders ({', '.join(study.kinds)}) on `{data.name}`."
    return folder.write(PAGE, soundings_page("What the representation is worth", lead, chapters))


def _snippet(out: Path, study: "RepresentationStudy", data: Path, labels: str | None) -> str:
    """How to use the encoder, with a probe on all labels where there are any."""
    read = f"rows, labels = data.read({str(data.resolve())!r}" + (
        f", {labels!r})" if labels else ")"
    )
    load = f"encoder = autoencoders.Encoder.load({str((out / ENCODER).resolve())!r})"
    if study.strength is None:
        return f"from leadline import autoencoders, data\n\n{read}\n{load}\ncodes = encoder.encode(rows)\n"
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
    return f"{text[:1].upper()}{text[1:]}."
