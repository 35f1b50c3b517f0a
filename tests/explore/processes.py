"""Descendants of the processes that tests start; tests wait for their ends without sleeping."""

import os
import select
from pathlib import Path

MOMENT = 60_000
"""Milliseconds after which a test fails because a process has not ended."""


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


class Ends:
    """A wait for the ends of processes that need not be children of this process.

    Args:
        pids: ids of running processes.
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
