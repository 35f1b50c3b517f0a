from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def as_users_run() -> Iterator[None]:
    """Disable the run-time checks of shapes, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
