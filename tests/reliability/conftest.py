import pytest

from tests.reliability.writers import NAMES, Materials, Writer, make_materials, writers


@pytest.fixture(scope="session")
def materials(tmp_path_factory) -> Materials:
    """Return the inputs of the writers."""
    return make_materials(tmp_path_factory.mktemp("materials"))


@pytest.fixture(params=NAMES)
def name(request) -> str:
    """Return the name of each writer of Leadline in turn."""
    return request.param


@pytest.fixture
def writer(name, materials) -> Writer:
    """Return the writer with this name."""
    known = writers(materials)
    assert set(known) == set(NAMES)
    return known[name]
