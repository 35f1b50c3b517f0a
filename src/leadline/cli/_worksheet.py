"""``leadline worksheet``: measure the statements, keep the answers, and write the page."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from leadline.cli import DONE, FAILED
from leadline.cli._options import (
    INPUT,
    METHOD,
    OUTPUT,
    RUN,
    OutputSwitch,
    Switch,
    check_at_least,
    errors_about,
)
from leadline.cli._output import check_input, check_writable
from leadline.cli._progress import progress
from leadline.errors import InputError
from leadline.storage import OutputFolder, output_folder

if TYPE_CHECKING:
    from leadline.worksheet import Setting, Statement


def worksheet(
    *,
    data: Annotated[Path | None, Parameter(group=INPUT)] = None,
    labels: Annotated[str | None, Parameter(group=INPUT)] = None,
    only: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative=(), group=METHOD, show_default=False),
    ] = (),
    budget: Annotated[Literal["quick", "full"], Parameter(group=METHOD)] = "quick",
    jobs: Annotated[int | None, Parameter(group=RUN)] = None,
    cluster: Annotated[str | None, Parameter(group=RUN)] = None,
    fresh: Annotated[Switch, Parameter(group=RUN)] = False,
    out: Annotated[Path, Parameter(group=OUTPUT)] = Path("report"),
    json: OutputSwitch = False,
) -> int:
    """Measure the twenty statements of the course and write a page about them.

    Parameters
    ----------
    data
        Your rows for section 1, instead of the digits: .npz, .npy, .csv, .parquet or a folder of
        images.
    labels
        Name of the column or array of labels in --data.
    only
        Statements (ae.f, beam.d) or sections (ae, rnn, beam), separated by spaces or commas. By
        default all statements.
    budget
        Size of the measurements. On two cores, quick takes up to three minutes, full up to half an
        hour.
    jobs
        Number of statements that are measured at the same time, with one thread each. By default
        the number of cores.
    cluster
        Address of a Dask scheduler (tcp://host:port). Its workers measure instead of this machine.
    fresh
        Ignore cached results and measure again.
    out
        Folder for the page, and for the same results as JSON and Markdown.
    json
        Print worksheet.json instead of the summary.
    """
    from leadline.worksheet import Setting, select

    names = tuple(name for text in only for name in text.split(",") if name)
    if only and not names:
        raise InputError(
            "--only must name statements or sections",
            got=f"--only {' '.join(only)}",
            cure="--only ae.f,beam",
        )
    with errors_about("--only", only="--only"):
        statements = select(names)
    if jobs is not None:
        check_at_least(jobs, "--jobs")
    if jobs is not None and cluster is not None:
        raise InputError(
            "--jobs must be left out with --cluster, which uses all its workers",
            got=f"--jobs {jobs} --cluster {cluster}",
            cure="leave --jobs out, and start as many workers as you need",
        )
    if labels is not None and data is None:
        raise InputError(
            "--labels must name a column of --data",
            got=f"--labels {labels}",
            cure="add --data, or leave --labels out",
        )
    source: dict[str, str] = {}
    if data is not None:
        source["path"] = str(data)
    if labels:
        source["labels"] = labels
    setting = Setting(budget, _load(data, labels), source)
    check_writable(out)
    from leadline.report import FILES

    answers = [f"answers/{budget}/{statement.id}" for statement in statements]
    with output_folder(out, files=FILES, soundings=answers) as folder:
        return _measure(folder, statements, setting, jobs, cluster, fresh, json)


def _measure(
    folder: OutputFolder,
    statements: "Sequence[Statement]",
    setting: "Setting",
    jobs: int | None,
    cluster: str | None,
    fresh: bool,
    json: bool,
) -> int:
    """Measure and write the page; the output folder is locked already."""
    from leadline import report
    from leadline.report import write_into
    from leadline.storage import canonical_json
    from leadline.worksheet import STATEMENTS, Result, kept, run

    if jobs is None:
        from joblib import cpu_count

        jobs = cpu_count()
    answers = folder.folder / "answers"
    # The page shows every statement, so a run with --only must keep the answers of the others.
    results = {name: kept(s, setting, answers) or Result(s) for name, s in STATEMENTS.items()}
    built = [statement for statement in statements if statement.measure is not None]
    try:
        with progress("measuring", len(built)) as advance:
            for result in run(
                built, setting, folder=answers, jobs=jobs, cluster=cluster, fresh=fresh
            ):
                results[result.statement.id] = result
                advance(_line(result))
    finally:
        # The page is written after an interruption, too: it shows the answers so far.
        page = write_into(folder, list(results.values()), setting)
    if json:
        sys.stdout.write(canonical_json(report.as_json(list(results.values()), setting)))
    else:
        summary = _summary([results[statement.id] for statement in statements])
        print(summary, f"page: {page}", sep="\n")
    failed = [result for result in results.values() if result.failure is not None]
    for result in failed:
        print(f"leadline: {result.statement.id} failed\n{result.failure}", file=sys.stderr)
    return FAILED if failed else DONE


def _load(data: Path | None, labels: str | None):
    """Return the user's data, or ``None``. Refuse data that section 1 cannot use."""
    if data is None:
        return None
    from leadline.data import label_subsets, load, split_roles

    check_input(data, "--data")
    with errors_about(f"--data {data}", path="--data", labels="--labels"):
        dataset = load(data, labels)
    if dataset.y is None:
        raise InputError(
            "--data must have labels, because section 1 trains probes",
            got=f"--data {data}, without labels",
            cure="name the column or array of labels: --labels NAME",
        )
    with errors_about(f"--data {data}"):
        roles = split_roles(dataset.y, seed=0)
        label_subsets(dataset.y, roles.probe_pool, (dataset.num_classes,), num=1, seed=0)
    return dataset


def _line(result) -> str:
    """Return one line about a result, for the progress."""
    duration = "cached" if result.seconds is None else f"{result.seconds:.1f} s"
    return f"{result.statement.id:<7} {result.status:<12} {result.statement.title} ({duration})"


def _summary(results) -> str:
    """Return a table of the results as text."""
    from leadline.report import headline

    rows = [
        (r.statement.id, r.status, f"course: {r.statement.course}", headline(r)) for r in results
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip()
        for row in rows
    )
