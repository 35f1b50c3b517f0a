"""The language model of the search room: trained once on the manual inside Python, in a process of its own, and kept.

It lies in the user's cache folder as safetensors and JSON; where that cannot be written, in a folder for the session.
"""

import hashlib
import json
import multiprocessing
import os
import re
import threading
import time
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

import leadline
from leadline.data import manual_text
from leadline.decoding import RecurrentLM
from leadline.errors import InputError, SaveError
from leadline.explore.page._room import PendingError
from leadline.explore.server import _orphans as orphans
from leadline.explore.server._folders import temporary

RECIPE: dict[str, Any] = {"vocabulary_size": 1500, "hidden_size": 96, "epochs": 3, "seed": 0}
"""Settings of the model: some 15 seconds of one processor."""

_training = threading.Lock()
_workers: dict[Path, tuple[BaseProcess, float]] = {}
_ready: dict[Path, RecurrentLM] = {}


def model() -> RecurrentLM:
    """The model, once it is there.

    Raises:
        PendingError: it is being trained.
        InputError: it could not be trained.
    """
    with _training:
        where = folder()
        if where in _ready:
            return _ready[where]
        worker, since = _workers.get(where, (None, 0.0))
        if worker is None or not worker.is_alive():
            try:
                _ready[where] = RecurrentLM.load(where)
                return _ready[where]
            except SaveError:  # not there, damaged, or of another release
                if worker is not None:
                    del _workers[where]
                    raise InputError(
                        "the language model is trained once",
                        got=f"its training ended with code {worker.exitcode}",
                        cause="too little memory, or no room on the disk; the terminal says more",
                        cure="move a control to try again",
                    ) from None
            worker = multiprocessing.get_context("spawn").Process(
                target=train, args=(RECIPE, where), daemon=True
            )
            try:
                orphans.start(worker)
            except OSError as error:
                raise SaveError(
                    f"the language model's training could not start: {error.strerror or error}"
                ) from error
            since = time.monotonic()
            _workers[where] = worker, since
        raise PendingError(
            "the language model is being trained on Python's own manual, once and for all: "
            f"{time.monotonic() - since:.0f} s so far, of some 15 to 60"
        )


def train(recipe: dict[str, Any], where: Path) -> None:
    """Train the model and save it; the worker process runs this, and ends with its parent."""
    orphans.end_with_parent()
    torch.set_num_threads(
        1
    )  # leaves a processor to the page, and sums always run in the same order
    RecurrentLM(**recipe).fit(text()).save(where)


def text() -> str:
    """The manual; the rules of its tables, runs of one sign, are shortened to the sign."""
    return re.sub(r"([^\w\s])(?:\s*\1)+", r"\1", manual_text().text)


def code() -> list[str]:
    """Lines of Python that make the same model, under the name ``lm``."""
    settings = ", ".join(f"{name}={value!r}" for name, value in RECIPE.items())
    return [
        "torch.set_num_threads(1)  # as it was trained: sums in the same order",
        'text = re.sub(r"([^\\w\\s])(?:\\s*\\1)+", r"\\1", data.manual_text().text)  # a rule of dashes is one dash',
        f"lm = decoding.RecurrentLM({settings}).fit(text)",
    ]


def folder() -> Path:
    """Where the model lies: its name changes with whatever could change the model."""
    versions = leadline.__version__, torch.__version__, manual_text().sha256
    key = hashlib.sha256(json.dumps([RECIPE, *versions]).encode()).hexdigest()[:16]
    return _cache(os.environ.get("XDG_CACHE_HOME", "")) / f"manual-{key}"


@cache
def _cache(home: str) -> Path:
    try:
        where = (Path(home) if home else Path.home() / ".cache") / "leadline"
        where.mkdir(parents=True, exist_ok=True)
        if os.access(where, os.W_OK | os.X_OK):
            return where
    except (OSError, RuntimeError):  # a RuntimeError says that the user has no home folder
        pass
    return temporary("leadline-explorer-models")
