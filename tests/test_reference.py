"""The reference has every public name, which.md only public names, commands.rst every command."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from leadline import cli
from tests.test_public_names import PUBLIC_NAMES

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module", autouse=True)
def documents_on_path():
    sys.path.insert(0, str(DOCS))
    yield
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def reference(documents_on_path):
    return import_module("pages.reference")


@pytest.mark.parametrize("package", PUBLIC_NAMES)
def test_every_public_name_is_in_the_reference(reference, package):
    documented = reference.public_names(import_module(package))
    text = reference.page(import_module(package))
    for name in documented:
        assert f":: {package}.{name}\n" in text
    others = set(PUBLIC_NAMES[package]) - set(documented)
    rooms = {name.removeprefix("leadline.") for name in reference.packages()}
    assert package == "leadline" or not others
    assert others <= rooms | {"__version__", *import_module("leadline.representation").__all__}


def test_the_page_of_the_commands_has_every_command_and_exit_code():
    text = import_module("pages.commands").page()
    for code, meaning in cli.EXIT_CODES.items():
        assert f"   * - {code}\n     - {meaning}\n" in text
    for name in cli.app:
        assert name.startswith("-") or f"   Example: leadline {name} " in text
    assert "leadline: --budget must be quick or full\n     got:   --budget slow" in text


def test_functions_on_the_page_which_function_when_are_public_and_linked(reference):
    source = [(DOCS / "which.md").read_text("utf-8")]
    names = re.findall(r"`([a-z]+(?:\.\w+)+)`", source[0])
    reference.link_functions(None, "which", source)
    assert len(names) > 40
    assert [name for name in names if f"{{any}}`{name} <leadline." not in source[0]] == []


def test_functions_on_other_pages_are_unchanged(reference):
    source = ["`probing.linear_probe`"]
    reference.link_functions(None, "install", source)
    assert source == ["`probing.linear_probe`"]
