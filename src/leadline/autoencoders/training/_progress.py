"""The progress of pretraining: the user's callback, or a bar on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from leadline.autoencoders.training._checkpoint import Epoch


@contextmanager
def reporting(
    progress: bool | Callable[[Epoch], object], total: int
) -> Iterator[Callable[[Epoch], object] | None]:
    """Yield the function to call after each epoch, or ``None``.

    Args:
        progress: The user's callback; or true for a bar, which is shown on terminals only.
        total: Maximum number of epochs of all models.
    """
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
        task = bar.add_task("pretraining", total=total)
        epochs_done: dict[int, int] = {}

        def advance(epoch: Epoch) -> None:
            epochs_done[epoch.model] = epoch.epoch
            error = epoch.training_error if epoch.own_error is None else epoch.own_error
            suffix = "" if error is None else f" (model {epoch.model}: {error:.4g})"
            completed = sum(epochs_done.values())
            bar.update(task, completed=completed, description=f"pretraining{suffix}")

        yield advance
