import pytest

from tests.reliability.writers import NAMES, Materials, Writer, make_materials, writers


@pytest.fixture(scope="session")
def materials(tmp_path_factory) -> Materials:
    """What the writers read and save."""
    return make_materials(tmp_path_factory.mktemp("materials"))


@pytest.fixture(params=NAMES)
def writer(request, materials) -> Writer:
    """Every writer of Leadline in turn."""
    known = writers(materials)
    assert set(known) == set(NAMES)
    return known[request.param]
