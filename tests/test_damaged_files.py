"""Damaged soundings, language models and metrics load, or raise an error of Leadline.

The mutations are the same in every run. Other files have tests of their own: tables, arrays and
images in ``tests/data/test_mutations.py``, encoders and checkpoints in
``tests/autoencoders/test_sealed.py``.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadline import Sounding, decoding, gradients
from leadline.errors import LeadlineError
from tests.data.test_mutations import any_bytes, words

FILES = Path(__file__).parent / "files" / "0.1"
SOUNDINGS = sorted((FILES / "soundings").iterdir())
MODELS = sorted((FILES / "language_models").iterdir())
CASES = 16
"""Number of mutations of each file."""


def check_mutations(path: Path, load: Callable[[], Any]) -> int:
    """Load a file in many damaged forms, and return how often the damage was refused."""
    content = path.read_bytes()
    rng = np.random.default_rng(list(path.name.encode()))
    num_refused = 0
    for case in range(CASES):
        is_text = path.suffix != ".safetensors"
        mutate = words if is_text and case % 2 else any_bytes
        path.write_bytes(mutate(rng, content))
        try:
            load()
        except LeadlineError:
            num_refused += 1
    path.write_bytes(content)
    return num_refused


@pytest.mark.parametrize("source", SOUNDINGS, ids=lambda path: path.name)
def test_a_damaged_sounding_loads_or_is_refused(source, tmp_path):
    folder = tmp_path / "sounding"
    shutil.copytree(source, folder)
    for path in sorted(folder.iterdir()):
        num_refused = check_mutations(path, lambda: Sounding.load(folder))
        assert num_refused > CASES / 4, path.name


@pytest.mark.parametrize("source", MODELS, ids=lambda path: path.name)
def test_a_damaged_language_model_loads_or_is_refused(source, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(source, folder)
    for path in sorted(folder.iterdir()):
        num_refused = check_mutations(path, lambda: decoding.RecurrentLM.load(folder))
        assert num_refused > CASES / 4, path.name


def test_damaged_metrics_load_or_are_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    shutil.copy(FILES / "metrics.jsonl", path)
    assert check_mutations(path, lambda: gradients.read_metrics(path)) > CASES / 4
