"""Tables and versions in documents agree with the files that they describe."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from leadline.cli import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))


def section(path: str, heading: str) -> str:
    """Return the text below a heading, up to the next heading."""
    text = (ROOT / path).read_text("utf-8")
    _, _, below = text.partition(f"## {heading}\n")
    assert below, f"{path} has no heading {heading}"
    return below.partition("\n## ")[0]


def table(text: str) -> list[list[str]]:
    """Return the cells of the rows of a table, without its head."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def names_in(cell: str) -> list[str]:
    """Return the names in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_extras_is_complete():
    extras = [names_in(row[0])[0] for row in table(section("docs/install.md", "Extras"))]
    assert sorted(extras) == sorted(PROJECT["project"]["optional-dependencies"])


def test_the_table_of_versions_agrees_with_the_project():
    project = PROJECT["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["hf"]]
    oldest = dict(requirement.split(">=") for requirement in needed)
    oldest["Python"] = project["requires-python"].removeprefix(">=")
    constraints = (ROOT / "constraints/cpu.txt").read_text("utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==(.+)$", constraints, re.MULTILINE))
    pinned["Python"] = WORKFLOW["jobs"]["pinned"]["steps"][1]["with"]["python-version"]
    names = {"PyTorch": "torch", "NumPy": "numpy"}
    for title, least, exact in table(section("docs/install.md", "Versions")):
        name = names.get(title, title)
        assert least == oldest[name], title
        assert f"{pinned[name]}.".startswith(f"{exact}."), title


@pytest.mark.parametrize("path", ["README.md", "CITATION.cff", "docs/install.md", "CHANGELOG.md"])
def test_documents_name_this_version(path):
    assert PROJECT["project"]["version"] in (ROOT / path).read_text("utf-8")


def test_the_floors_are_those_of_import_linter():
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    layers = [re.findall(r"\w+", layer) for layer in contract["layers"]]
    floors = [names_in(row[1]) for row in table(section("CONTRIBUTING.md", "The house"))]
    assert [sorted(floor) for floor in floors[:-1]] == [
        sorted(layer) for layer in layers[: len(floors) - 1]
    ]
    assert floors[-1] == [name for layer in layers[len(floors) - 1 :] for name in layer]


@pytest.mark.parametrize(
    ("path", "heading"),
    [("README.md", "All instruments"), ("docs/which.md", "On the command line")],
)
def test_the_tables_of_commands_are_complete(path, heading):
    listed = set(re.findall(r"`leadline (\w+)", section(path, heading)))
    assert listed == {name for name in app if not name.startswith("-")}


def test_the_workflow_covers_every_system_and_every_python():
    matrix = WORKFLOW["jobs"]["newest"]["strategy"]["matrix"]
    assert [system.partition("-")[0] for system in matrix["os"]] == ["ubuntu", "macos", "windows"]
    prefix = "Programming Language :: Python :: 3."
    classifiers = PROJECT["project"]["classifiers"]
    pythons = [f"3.{name.removeprefix(prefix)}" for name in classifiers if name.startswith(prefix)]
    assert matrix["python"] == pythons
    steps: list[dict[str, Any]] = [s for job in WORKFLOW["jobs"].values() for s in job["steps"]]
    for action in (step["uses"] for step in steps if "uses" in step):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), f"{action} is not pinned by commit"


def test_hooks_run_on_every_system():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    for hook in hooks["repos"][0]["hooks"]:
        program = hook["entry"].split()[0]
        assert re.fullmatch(r"[a-z-]+", program), f"{program} is a path of one system"
        assert program not in ("bash", "sh")
