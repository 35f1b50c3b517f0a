"""How far pretraining has come, for those who wait: a bar on a terminal, and nothing in a log file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from leadline.autoencoders.training._checkpoint import Epoch


@contextmanager
def reporting(
    progress: bool | Callable[[Epoch], object], total: int
) -> Iterator[Callable[[Epoch], object] | None]:
    """What to call after each epoch: the user's own function, or one that moves a bar along ``total`` epochs."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task, done = bar.add_task("pretraining", total=total), {}

        def advance(epoch: Epoch) -> None:
            done[epoch.model] = epoch.epoch
            error = epoch.own_error if epoch.own_error is not None else epoch.training_error
            told = "" if error is None else f" (model {epoch.model}: {error:.4g})"
            bar.update(task, completed=sum(done.values()), description=f"pretraining{told}")

        yield advance
