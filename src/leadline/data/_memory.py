"""The memory that is free, and the refusal of data that need more."""

import os
from pathlib import Path

from leadline.errors import InputError

UNKNOWN = 4 * 2**30
"""Bytes that are taken as free where the system does not report its memory."""

EXPANSION = 100
"""A compressed array or table may be this many times as large as its file."""

SMALL = 256 * 2**20
"""Bytes that every compressed file may expand to, however small it is."""


def free_memory() -> int:
    """Bytes that this process can still allocate: what the machine, its container and the process's limit leave."""
    limits = [_machine(), _container(), _process()]
    known = [limit for limit in limits if limit is not None]
    return max(0, min(known)) if known else UNKNOWN


def refuse_too_large(needed: int, what: str, *, cure: str) -> None:
    """Refuse data that do not fit into the free memory, before anything is allocated.

    Args:
        needed: bytes that the data need at most, working copies included.
        what: names the data with their size, as in ``"X of shape (5, 2)"``.
        cure: what the user can do.

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
    """Refuse compressed data that are far larger than the file that holds them.

    Raises:
        InputError: the data are larger than 256 MiB and than 100 times their file.
    """
    if expanded > max(SMALL, EXPANSION * stored):
        raise InputError(
            f"compressed data must be at most {EXPANSION} times as large as their file",
            got=f"{what}: {size(expanded)} from {size(stored)} on disk",
            cause="a damaged or malicious file, or data that are zero nearly everywhere",
            cure=cure,
        )


def size(count: int) -> str:
    """Bytes in words.

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
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def _container() -> int | None:
    """The limit of the control group, less what it uses; cached files are given back when memory is needed."""
    folder = Path("/sys/fs/cgroup")
    try:
        most = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return None
    cached = int(counts.get("active_file", 0)) + int(counts.get("inactive_file", 0))
    return most - used + cached


def _process() -> int | None:
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError, IndexError):  # Windows, macOS
        return None
    return most - used if most != resource.RLIM_INFINITY else None
