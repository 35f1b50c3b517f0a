"""``leadline worksheet``: measure the statements, keep the answers, and write the page."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from leadline.cli import DONE, FAILED
from leadline.cli._output import Switch, check_input, check_writable
from leadline.cli._progress import progress
from leadline.errors import InputError, context
from leadline.storage import OutputFolder, output_folder

if TYPE_CHECKING:
    from leadline.worksheet import Setting, Statement


def worksheet(
    *,
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    budget: Literal["quick", "full"] = "quick",
    jobs: int | None = None,
    cluster: str | None = None,
    data: Path | None = None,
    labels: str | None = None,
    out: Path = Path("report"),
    fresh: Switch = False,
    json: Switch = False,
) -> int:
    """Measure the twenty statements of the course and write a page about them.

    Each answer is saved in the output folder as soon as it is measured. An interrupted run resumes
    where it stopped, and a second run measures only what is missing.

    Parameters
    ----------
    only
        Statements (ae.f, beam.d) or sections (ae, rnn, beam), separated by spaces or commas. By
        default all statements.
    budget
        quick takes up to three minutes on two cores; full takes up to half an hour.
    jobs
        Number of statements that are measured at the same time, one thread each. By default the
        number of cores.
    cluster
        Address of a Dask scheduler (tcp://host:port), whose workers measure in place of this
        machine.
    data
        Your rows for section 1 in place of the digits: .npz, .npy, .csv, .parquet or a folder of
        images.
    labels
        Name of the column or array of labels in the data.
    out
        Output folder for the page and for the same results as JSON and Markdown.
    fresh
        Ignore cached results and measure again.
    json
        Print worksheet.json on standard output instead of the summary.
    """
    from leadline.worksheet import Setting, select

    names = tuple(name for given in only for name in given.split(",") if name)
    if only and not names:
        raise InputError(
            "--only must name statements or sections",
            got=f"--only {' '.join(only)}",
            cure="--only ae.f,beam",
        )
    statements = select(names)
    if jobs is not None and jobs < 1:
        raise InputError(
            "--jobs must be at least 1", got=f"--jobs {jobs}", cure="1, or the number of cores"
        )
    if jobs is not None and cluster is not None:
        raise InputError(
            "--jobs has no effect with --cluster, which uses all its workers",
            got=f"--jobs {jobs} --cluster {cluster}",
            cure="leave --jobs out; start as many workers as you need",
        )
    if labels is not None and data is None:
        raise InputError(
            "--labels must name a column of --data",
            got=f"--labels {labels}",
            cure="give --data too",
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
    """Read the user's data. Refuse data that section 1 cannot use."""
    if data is None:
        return None
    from leadline.data import label_subsets, load, split_roles

    check_input(data)
    dataset = load(data, labels)
    if dataset.y is None:
        raise InputError(
            "--data must have labels, because section 1 trains probes",
            got=f"--data {data}, without labels",
            cure="name the column or array of labels: --labels NAME",
        )
    with context(f"in {data}"):
        roles = split_roles(dataset.y, seed=0)
        label_subsets(dataset.y, roles.probe_pool, (dataset.num_classes,), num=1, seed=0)
    return dataset


def _line(result) -> str:
    took = "cached" if result.seconds is None else f"{result.seconds:.1f} s"
    return f"{result.statement.id:<7} {result.status:<12} {result.statement.title} ({took})"


def _summary(results) -> str:
    from leadline.report import headline

    rows = [
        (r.statement.id, r.status, f"course: {r.statement.course}", headline(r)) for r in results
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip()
        for row in rows
    )
