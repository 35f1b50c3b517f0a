"""The free memory, and errors for data that do not fit into it."""

import os
from pathlib import Path

from leadline.errors import InputError

UNKNOWN = 4 * 2**30
"""Bytes that are assumed to be free if the system does not report its memory."""

EXPANSION = 100
"""Maximum ratio between the size of a compressed array or table and the size of its file."""

SMALL = 256 * 2**20
"""Number of bytes to which any compressed file may expand, however small it is."""


def free_memory() -> int:
    """Return the number of bytes that this process can still allocate.

    It is limited by the machine, by its container and by the limit of the process.
    """
    limits = [_machine(), _container(), _process()]
    known = [limit for limit in limits if limit is not None]
    return max(0, min(known)) if known else UNKNOWN


def refuse_too_large(needed: int, what: str, *, cure: str) -> None:
    """Raise an error if data do not fit into the free memory. Call it before allocating them.

    Args:
        needed: maximum number of bytes of the data and of their working copies.
        what: the data and their size, such as ``"X of shape (5, 2)"``.
        cure: advice to the user.

    Raises:
        InputError: the data need more memory than is free.

    >>> refuse_too_large(10**18, "X of shape (10**9, 10**9)", cure="take fewer rows")
    Traceback (most recent call last):
    leadline.errors.InputError: data must fit into the free memory
      got:   X of shape (10**9, 10**9), which needs 888.2 PiB
      cure:  take fewer rows
    """
    if needed > free_memory():
        raise InputError(
            "data must fit into the free memory",
            got=f"{what}, which needs {size(needed)}",
            cure=cure,
        )


def refuse_expansion(expanded: int, stored: int, what: str, *, cure: str) -> None:
    """Raise an error if compressed data are far larger than their file.

    Raises:
        InputError: the data are larger than 256 MiB and larger than 100 times their file.
    """
    if expanded > max(SMALL, EXPANSION * stored):
        raise InputError(
            f"compressed data must be at most {EXPANSION} times as large as their file",
            got=f"{what}: {size(expanded)} from {size(stored)} on disk",
            cause="a damaged or malicious file, or data that are zero nearly everywhere",
            cure=cure,
        )


def size(count: int) -> str:
    """Return a number of bytes as text with a suitable unit.

    >>> size(1536), size(10**12)
    ('1.5 KiB', '931.3 GiB')
    """
    if count < 1024:
        return f"{count} bytes"
    if count >= 1024**7:
        return "more than 1,024 EiB"
    power = (count.bit_length() - 1) // 10
    return f"{count / 1024**power:,.1f} {_UNITS[power - 1]}"


_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
        return int(values[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf.
        return None


def _container() -> int | None:
    """Return the memory that the control group of the process leaves free.

    Cached files count as free, because the system releases them when memory is needed.
    """
    folder = Path("/sys/fs/cgroup")
    try:
        most = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # There is no such group, or its limit is "max".
        return None
    cached = int(counts.get("active_file", 0)) + int(counts.get("inactive_file", 0))
    return most - used + cached


def _process() -> int | None:
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError, IndexError):  # Windows and macOS
        return None
    return most - used if most != resource.RLIM_INFINITY else None
