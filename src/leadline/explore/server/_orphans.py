"""Child processes of the explorer, which end when the explorer ends, even if it is killed."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

ORPHANED = 1
"""Exit code of a process that ended because its parent had ended."""


def start(process: BaseProcess) -> None:
    """Start a process that Ctrl-C does not interrupt.

    Ctrl-C reaches every process of a terminal, and the parent ends its children. The signal is
    blocked here because a child that is still importing would print a traceback; a new process
    inherits the blocked signals of its parent's thread.
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
    """End this process as soon as its parent ends, even if the parent is killed.

    A thread waits on a pipe that the operating system closes when the parent ends.

    Call it first in the function that a ``multiprocessing`` process runs. In the main process it
    does nothing.
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
