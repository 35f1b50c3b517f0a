"""Functions that jobs run in the tests."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leadline.errors import InputError
from leadline.explore.server._jobs import Write


def counts(settings: Mapping[str, Any], folder: Path, write: Write) -> None:
    for step in range(settings["steps"]):
        write({"step": step, "name": settings["name"]})
    (folder / "result.txt").write_text("there")


def never_ends(settings: Mapping[str, Any], folder: Path, write: Write) -> None:
    write({"pid": os.getpid()})
    threading.Event().wait()


def refuses(settings: Mapping[str, Any], folder: Path, write: Write) -> None:
    raise InputError("this cannot be trained", got="steps = 0")


def breaks(settings: Mapping[str, Any], folder: Path, write: Write) -> None:
    raise ZeroDivisionError("by nothing")


def dies(settings: Mapping[str, Any], folder: Path, write: Write) -> None:
    os._exit(7)
