"""Child processes of the explorer end with it, also if it is killed."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

ORPHANED = 1
"""The exit code of a process that ended because its parent was gone."""


def end_with_parent() -> None:
    """Let this process end as soon as its parent has ended, however the parent ended.

    A thread waits on a pipe that the parent holds open: the operating system closes it with the parent. Ctrl-C reaches
    every process of a terminal; the parent answers it and ends its children, so this process ignores it.

    Call it first in the function that a ``multiprocessing`` process runs; in the main process it does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_and_end, args=(parent,), name="leadline parent", daemon=True).start()


def _wait_and_end(parent: BaseProcess) -> None:
    parent.join()
    os._exit(ORPHANED)
