"""Processes that tests start, and the ends of their descendants, which are waited for without sleeping."""

import os
import select
from pathlib import Path

MOMENT = 60_000
"""Milliseconds after which a process that should have ended is taken to go on."""


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have started."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


class Ends:
    """Waits for the ends of processes that are not children of this one.

    Args:
        pids: processes that run now.
    """

    def __init__(self, pids: list[int]):
        self._handles = {os.pidfd_open(pid): pid for pid in pids}

    def wait(self) -> None:
        poll = select.poll()
        for handle in self._handles:
            poll.register(handle, select.POLLIN)
        waiting = dict(self._handles)
        while waiting:
            ended = poll.poll(MOMENT)
            assert ended, f"still running: {list(waiting.values())}"
            for handle, _ in ended:
                poll.unregister(handle)
                del waiting[handle]
        for handle in self._handles:
            os.close(handle)
