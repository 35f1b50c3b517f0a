"""The language model of the search room. It is trained once on the manual of Python, then cached.

A separate process trains it. The user's cache folder keeps it as safetensors and JSON. If the cache
cannot be written, a temporary folder keeps the model until the server ends.
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
"""Settings of the model; training takes about 15 seconds on one processor core."""

_training = threading.Lock()
_workers: dict[Path, tuple[BaseProcess, float]] = {}
_ready: dict[Path, RecurrentLM] = {}


def model() -> RecurrentLM:
    """Return the trained model; the first call starts its training.

    Raises:
        PendingError: the training is running.
        InputError: the training failed.
        SaveError: the training process could not start.
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
            except SaveError:  # missing, damaged, or saved by another release
                if worker is not None:
                    del _workers[where]
                    raise InputError(
                        "the training of the language model failed",
                        got=f"exit code {worker.exitcode}",
                        cause="too little memory or disk space; the terminal shows the error",
                        cure="change a setting to try again",
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
            "Training the language model on the manual of Python: "
            f"{time.monotonic() - since:.0f} s so far. It takes 15 to 60 s, and is done only once."
        )


def train(recipe: dict[str, Any], where: Path) -> None:
    """Train and save the model in the worker process, which ends when its parent ends."""
    orphans.end_with_parent()
    # One thread leaves a core for the page, and sums are always rounded in the same way.
    torch.set_num_threads(1)
    RecurrentLM(**recipe).fit(text()).save(where)


def text() -> str:
    """Return the text of the manual; each run of one punctuation mark becomes a single mark."""
    return re.sub(r"([^\w\s])(?:\s*\1)+", r"\1", manual_text().text)


def code() -> list[str]:
    """Return lines of Python code that train the same model, under the name ``lm``."""
    settings = ", ".join(f"{name}={value!r}" for name, value in RECIPE.items())
    return [
        "torch.set_num_threads(1)  # With another number, sums are rounded differently.",
        "# A row of dashes becomes a single dash.",
        'text = re.sub(r"([^\\w\\s])(?:\\s*\\1)+", r"\\1", data.manual_text().text)',
        f"lm = decoding.RecurrentLM({settings}).fit(text)",
    ]


def folder() -> Path:
    """Return the folder of the model; its name depends on everything that can change the model."""
    versions = leadline.__version__, torch.__version__, manual_text().sha256
    key = hashlib.sha256(json.dumps([RECIPE, *versions]).encode()).hexdigest()[:16]
    return _cache(os.environ.get("XDG_CACHE_HOME", "")) / f"manual-{key}"


@cache
def _cache(home: str) -> Path:
    """Return Leadline's folder in the user's cache.

    If it cannot be written, return a temporary folder.
    """
    try:
        where = (Path(home) if home else Path.home() / ".cache") / "leadline"
        where.mkdir(parents=True, exist_ok=True)
        if os.access(where, os.W_OK | os.X_OK):
            return where
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        pass
    return temporary("leadline-explorer-models")
