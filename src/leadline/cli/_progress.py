"""Progress on standard error: a live line on a terminal, plain lines elsewhere."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


@contextmanager
def progress(task_name: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show the progress of ``total`` pieces of work.

    The function that is yielded prints one line of text and advances the count by one.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        bar = Progress(
            SpinnerColumn(),
            TextColumn(task_name),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        with bar:
            task = bar.add_task(task_name, total=total)

            def advance(text: str) -> None:
                bar.console.print(text, markup=False)
                bar.advance(task)

            yield advance
        return

    count = itertools.count(1)

    def line(text: str) -> None:
        console.print(f"[{next(count)}/{total}] {text}", markup=False)

    yield line
