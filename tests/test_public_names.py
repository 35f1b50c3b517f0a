"""The public names are the listed ones, and each has an entry in the API reference."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LISTED = json.loads((ROOT / "tests" / "public_names.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def reference():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield import_module("pages.reference")
    finally:
        sys.path.remove(str(ROOT / "docs"))


def test_public_names_are_the_listed_ones(reference):
    """After a deliberate change, run ``python -m tests.test_public_names``."""
    found = {
        name: reference.public_names(package) for name, package in reference.packages().items()
    }
    assert {name: sorted(names) for name, names in found.items()} == LISTED


@pytest.mark.parametrize("package", LISTED)
def test_every_public_name_is_in_the_reference(reference, package):
    text = reference.page(import_module(package))
    for name in LISTED[package]:
        assert f":: {package}.{name}\n" in text


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "docs"))
    pages = import_module("pages.reference")
    names = {
        name: sorted(pages.public_names(package)) for name, package in pages.packages().items()
    }
    (ROOT / "tests" / "public_names.json").write_text(json.dumps(names, indent=1) + "\n", "utf-8")
