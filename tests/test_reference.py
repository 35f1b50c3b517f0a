"""Every public name has an entry in the API reference."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.test_public_names import PUBLIC_NAMES

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def reference():
    sys.path.insert(0, str(DOCS))
    try:
        yield import_module("pages.reference")
    finally:
        sys.path.remove(str(DOCS))


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
