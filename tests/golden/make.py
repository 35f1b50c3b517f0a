"""Results of public functions on small fixed inputs, as Leadline 0.1.0 gave them.

The files in ``tests/golden/results`` were written by Leadline 0.1.0 (commit 12d23f8), from the
root of this repository, with torch 2.13.0 on x86-64:

    git worktree add --detach ../zero-one 12d23f8
    PYTHONPATH=../zero-one/src python -m tests.golden.make

``test_golden.py`` computes the same results with the current code and compares them. Names that
changed since 0.1 are in ``names.py``.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import leadline
from tests.golden import autoencoders, data, decoding, gradients, probing, representation
from tests.golden.names import IS_0_1
from tests.golden.values import Values, flat, save

RESULTS = Path(__file__).parent / "results"

CASES: dict[str, Callable[[], dict[str, object]]] = {
    f"{room.__name__.rpartition('.')[2]}-{case.__name__}": case
    for room in (autoencoders, data, decoding, gradients, probing, representation)
    for case in room.CASES
}
"""Functions that compute named results, by the name of their files."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, so that sums are added in one order; restore global state."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LSTM with projections")
            yield
    finally:
        torch.set_num_threads(before)


def results(name: str) -> Values:
    """Compute one case."""
    with one_thread():
        return flat(CASES[name](), "")


def main() -> None:
    """Write all results; only Leadline 0.1 may."""
    if not IS_0_1:
        sys.exit(f"results are written by Leadline 0.1.0 only; this is {leadline.__file__}")
    RESULTS.mkdir(exist_ok=True)
    for name in CASES:
        save(results(name), RESULTS, name)
        print(name)


if __name__ == "__main__":
    main()
