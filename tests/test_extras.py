"""If an extra is missing, the error names the command that installs it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WITHOUT_EXTRAS = """
import json
import sys
from pathlib import Path

MISSING = ("dash", "transformers", "pyarrow", "onnx", "onnxscript", "distributed")
sys.modules.update(dict.fromkeys(MISSING))

import numpy as np

from leadline import autoencoders, data, decoding, explore, worksheet
from leadline.cli import run

Path("rows.parquet").write_bytes(b"PAR1")
model = autoencoders.Autoencoder(2, (1,), seed=0)
encoder = autoencoders.pretrain(model, np.eye(40, 2, dtype="float32"), epochs=1).encoder
statements = worksheet.select(("beam.a",))
calls = {
    "explore": lambda: explore.gradients(),
    "hf": lambda: decoding.huggingface,
    "parquet": lambda: data.read("rows.parquet"),
    "onnx": lambda: encoder.to_onnx("encoder.onnx"),
    "cluster": lambda: list(worksheet.run(statements, worksheet.Setting(), cluster="tcp://a:1")),
}
errors = {}
for extra, call in calls.items():
    try:
        call()
    except Exception as error:
        errors[extra] = str(error)
errors["codes"] = [run(["explore"]), run(["represent", "rows.parquet"])]
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory) -> tuple[dict, str]:
    """Return the errors of calls that need a missing extra, and what commands print."""
    folder = tmp_path_factory.mktemp("extras")
    command = [sys.executable, "-c", WITHOUT_EXTRAS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_every_extra_of_users_is_tested(without_extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(project["optional-dependencies"]) - {"dev", "docs"}
    assert set(without_extras[0]) - {"codes"} == extras


@pytest.mark.parametrize("extra", ["explore", "hf", "parquet", "onnx", "cluster"])
def test_a_missing_extra_is_named_with_its_command(without_extras, extra):
    assert f"pip install 'leadline[{extra}]'" in without_extras[0][extra]


def test_commands_name_a_missing_extra(without_extras):
    errors, printed = without_extras
    assert errors["codes"] == [2, 2]
    for extra in ("explore", "parquet"):
        assert f"pip install 'leadline[{extra}]'" in printed
