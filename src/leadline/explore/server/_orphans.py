"""Child processes of the explorer end with it, also if it is killed."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

ORPHANED = 1
"""The exit code of a process that ended because its parent was gone."""


def start(process: BaseProcess) -> None:
    """Start a process that Ctrl-C does not interrupt.

    Ctrl-C reaches every process of a terminal. The parent answers it and ends its children; without this, a child that
    is still importing would print a traceback. A new process inherits the signals that its parent's thread blocks.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        process.start()
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Let this process end as soon as its parent has ended, however the parent ended.

    A thread waits on a pipe that the parent holds open: the operating system closes it with the parent.

    Call it first in the function that a ``multiprocessing`` process runs; in the main process it does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(
        target=_wait_and_end, args=(parent,), name="leadline parent", daemon=True
    ).start()


def _wait_and_end(parent: BaseProcess) -> None:
    parent.join()
    os._exit(ORPHANED)
