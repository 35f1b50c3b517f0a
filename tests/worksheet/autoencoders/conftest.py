import numpy as np
import pytest

from leadline.data import Dataset
from leadline.worksheet import Setting
from leadline.worksheet.measurements.autoencoders import other_data


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """A setting with two seeds, few epochs and few label subsets."""
    monkeypatch.setattr(other_data, "ROWS", 200)
    monkeypatch.setattr(Setting, "seeds", property(lambda self: (0, 1)))
    monkeypatch.setattr(
        Setting,
        "pick",
        lambda self, *, quick, full: min(quick, 10) if quick > 10 else min(quick, 2),
    )
    return Setting("quick")


@pytest.fixture
def heaps(short: Setting) -> Setting:
    """The short setting with rows that are not images: three small clusters in 12 dimensions."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = (rng.standard_normal((120, 12)) + 2 * np.eye(12)[y]).astype(np.float32)
    return Setting("quick", Dataset(X, y, name="three heaps"))
