"""Configuration of all tests: shapes are checked at run time, and documents are executed.

Every test also checks that global random generators and settings are unchanged.
"""

import random
from pathlib import Path

import numpy as np
import pytest

# The first import of rich.style draws from Python's generator, so it must happen before the tests.
import rich.style  # noqa: F401
from hypothesis import settings
from jaxtyping import install_import_hook
from sybil import Sybil
from sybil.parsers.markdown import SkipParser

# The import hook looks up this module by name.
import tests.shapes  # noqa: F401
from tests.documents import ConsoleParser, PythonParser

install_import_hook("leadline", "tests.shapes.check")

import torch  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("leadline", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("leadline")


pytest_collect_file = Sybil(
    parsers=[PythonParser(), ConsoleParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    fixtures=["tmp_path", "in_tmp_path"],
).pytest()


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def global_state_is_left_alone():
    """Check that a test leaves global generators, the default dtype and the thread count alone."""
    before = (random.getstate(), np.random.get_state(), torch.get_rng_state().numpy().tobytes())
    modes = (torch.get_default_dtype(), torch.get_num_threads())
    yield
    assert random.getstate() == before[0], "the test moved Python's global generator"
    for now, then in zip(np.random.get_state(), before[1], strict=True):
        assert np.array_equal(now, then), "the test moved NumPy's global generator"
    assert torch.get_rng_state().numpy().tobytes() == before[2], (
        "the test moved torch's global generator"
    )
    assert (torch.get_default_dtype(), torch.get_num_threads()) == modes
