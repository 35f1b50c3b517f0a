import pytest

from tests.reliability.writers import NAMES, Materials, Writer, make_materials, writers


@pytest.fixture(scope="session")
def materials(tmp_path_factory) -> Materials:
    """What the writers read and save."""
    return make_materials(tmp_path_factory.mktemp("materials"))


@pytest.fixture(params=NAMES)
def name(request) -> str:
    """The name of every writer of Leadline in turn."""
    return request.param


@pytest.fixture
def writer(name, materials) -> Writer:
    """The writer of this name."""
    known = writers(materials)
    assert set(known) == set(NAMES)
    return known[name]
