"""Measurement of statements, in parallel; each answer is saved as soon as it is complete."""

import importlib
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from leadline import checks
from leadline.errors import InputError, LeadlineError, SaveError, context, describe
from leadline.storage import check_replaceable, pack
from leadline.worksheet._answer import Answer
from leadline.worksheet._setting import KEY, SETTING_NAMES, Setting
from leadline.worksheet._statement import Statement
from leadline.worksheet._workers import cluster_workers, processes
from leadline.worksheet.statements import select

MOST_JOBS = 4096
"""The largest number of processes; a larger number is assumed to be a typing error."""


@dataclass(frozen=True, eq=False)
class Result:
    """The result for one statement: an answer, a failure, or no measurement."""

    statement: Statement
    answer: Answer | None = None
    failure: str | None = None
    """The reason why the measurement failed."""
    seconds: float | None = None
    """Duration of the measurement; ``None`` if the answer was loaded from an earlier run."""

    @property
    def status(self) -> str:
        """The outcome, or ``"failed"``, or ``"not measured yet"``."""
        if self.failure is not None:
            return "failed"
        return "not measured yet" if self.answer is None else str(self.answer.verdict.outcome)


def measure(statement: Statement, setting: Setting) -> Result:
    """Measure one statement on one thread, so that parallel work cannot change the answer.

    A failure is caught and returned as a result, so that the other statements are still measured.
    """
    checks.instance(
        statement, "statement", Statement, cure="use one of leadline.worksheet.select()"
    )
    checks.instance(setting, "setting", Setting, cure="use leadline.worksheet.Setting('quick')")
    if statement.measure is None:
        raise InputError(
            "measure() needs a statement with a measurement", got=f"{statement.id}, which has none"
        )
    module, _, name = statement.measure.partition(":")
    start = time.perf_counter()
    try:
        with context(f"in statement {statement.id}"), _one_thread():
            function = getattr(importlib.import_module(module), name)
            # The import is not timed: only the first statement has to wait for it.
            start = time.perf_counter()
            answer = _with_setting(function(setting), statement, setting)
            _check_usable(answer)
    except LeadlineError as error:
        return Result(statement, failure=describe(error), seconds=time.perf_counter() - start)
    # A crash of any kind is reported, with its traceback, as the result of this statement.
    except (Exception, SystemExit):
        return Result(
            statement, failure=traceback.format_exc(), seconds=time.perf_counter() - start
        )
    return Result(statement, answer=answer, seconds=time.perf_counter() - start)


def _check_usable(answer: Answer) -> None:
    """Raise if an answer cannot be shown or saved, so that only this statement fails."""
    str(answer.verdict)
    answer.table()
    answer.figure()
    pack(answer, {})


def _with_setting(answer: Answer, statement: Statement, setting: Setting) -> Answer:
    """Return the answer with the measurement's setting added to its protocol."""
    if not isinstance(answer, Answer) or answer.statement_id != statement.id:
        raise TypeError(
            f"{statement.measure} returned {answer!r:.80}, not an Answer to {statement.id}"
        )
    taken = sorted(set(answer.protocol.settings) & set(SETTING_NAMES))
    if taken:
        raise TypeError(
            f"{statement.measure} uses {taken[0]!r} as a name of its protocol, which is the "
            "setting's"
        )
    settings = {
        **answer.protocol.settings,
        **setting.describe(statement),
        KEY: setting.key(statement),
    }
    return replace(answer, protocol=replace(answer.protocol, settings=settings))


def run(
    statements: Sequence[Statement] | None = None,
    setting: Setting | None = None,
    *,
    folder: str | PathLike[str] | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    fresh: bool = False,
) -> Iterator[Result]:
    """Measure ``statements`` and yield each result as soon as it is complete.

    Args:
        statements: the statements to measure; see :func:`leadline.worksheet.select`. Without them,
            all twenty are measured.
        setting: the budget and the data; by default the quick budget and Leadline's own data.
        folder: folder for the answers; each is saved under its budget and id when it is complete.
            An answer that an earlier run saved is reused if the setting and the code are the same.
        jobs: number of statements to measure in parallel, each in its own process; at least 1.
        cluster: address of a Dask scheduler, ``"tcp://host:port"``. Its workers measure instead of
            this machine, one statement per worker; the answers are the same.
        fresh: ignore saved answers and measure again.

    Raises:
        InputError: ``jobs`` is below 1, or the cluster cannot be used; see
            :func:`leadline.worksheet._workers.cluster_workers`.
        SaveError: an answer could not be saved; earlier answers are kept. Raised before the first
            measurement if the file of an answer exists but was not written by Leadline.

    >>> statements = select(("beam.a", "beam.b"))
    >>> [result.status for result in run(statements)]
    ['supported', 'supported']
    """
    if statements is None:
        statements = select()
    if setting is None:
        setting = Setting()
    statements = checks.items(statements, "statements", of="statements")
    for i, statement in enumerate(statements):
        checks.instance(
            statement, f"statements[{i}]", Statement, cure="use leadline.worksheet.select()"
        )
    checks.instance(setting, "setting", Setting, cure="use leadline.worksheet.Setting('quick')")
    jobs = checks.whole_number(
        jobs, "jobs", least=1, most=MOST_JOBS, cure="1, or the number of cores"
    )
    fresh = checks.flag(fresh, "fresh")
    if folder is not None:
        folder = checks.path(folder, "folder")
    if cluster is not None:
        cluster = checks.text(cluster, "cluster", least=1)
    waiting = []
    for statement in statements:
        earlier = None if fresh or folder is None else kept(statement, setting, folder)
        if earlier is not None:
            yield earlier
        elif statement.measure is None:
            yield Result(statement)
        else:
            waiting.append(statement)
    if folder is not None:
        for statement in waiting:
            check_replaceable(_place(folder, statement, setting))
    for result in _measured(waiting, setting, min(jobs, len(waiting)), cluster):
        if folder is not None and result.answer is not None:
            result.answer.save(_place(folder, result.statement, setting))
        yield result


def _measured(
    statements: Sequence[Statement], setting: Setting, jobs: int, cluster: str | None
) -> Iterator[Result]:
    if not statements or (jobs <= 1 and cluster is None):
        yield from (measure(statement, setting) for statement in statements)
        return
    with processes(jobs) if cluster is None else cluster_workers(cluster) as (executor, died):
        futures = {
            executor.submit(measure, statement, setting): statement for statement in statements
        }
        for future in as_completed(futures):
            try:
                yield future.result()
            except died as error:
                failure = f"a worker process died, perhaps for want of memory: {error}"
                yield Result(futures[future], failure=failure, seconds=0.0)


def kept(statement: Statement, setting: Setting, folder: str | PathLike[str]) -> Result | None:
    """Return the saved result of an earlier run, or ``None`` if there is no valid one."""
    checks.instance(
        statement, "statement", Statement, cure="use one of leadline.worksheet.select()"
    )
    checks.instance(setting, "setting", Setting, cure="use leadline.worksheet.Setting('quick')")
    folder = checks.path(folder, "folder")
    try:
        answer = Answer.load(_place(folder, statement, setting))
    except SaveError:
        return None
    is_current = answer.protocol.settings.get(KEY) == setting.key(statement)
    return Result(statement, answer=answer) if is_current else None


def _place(folder: str | PathLike[str], statement: Statement, setting: Setting) -> Path:
    return Path(folder) / setting.budget / statement.id


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
