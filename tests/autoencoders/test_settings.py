import dataclasses

import pytest

from leadline.autoencoders import Autoencoder, pretrain
from leadline.autoencoders.training._settings import PretrainingSettings
from leadline.errors import InputError


def test_settings_are_frozen():
    settings = PretrainingSettings(1e-3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.epochs = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"learning_rate": 0}, "learning_rate = 0"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"batch_size": 1.5}, r"batch_size = 1\.5"),
        ({"schedule": "linear"}, "schedule = 'linear'"),
        ({"patience": 0}, "patience = 0"),
        ({"centre": 1}, "centre = 1"),
        ({"shuffle": "no"}, "shuffle = 'no'"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_bad_settings_are_refused(values, text):
    with pytest.raises(InputError, match=text):
        PretrainingSettings(**{"learning_rate": 1e-3, **values})


def test_the_cosine_schedule_rises_and_falls():
    settings = PretrainingSettings(1.0, epochs=100)
    rates = [settings.learning_rate_at(epoch) for epoch in range(100)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert max(rates) == rates[5] == 1.0
    assert rates[-1] < 1e-3


def test_a_constant_schedule_does_not_change():
    settings = PretrainingSettings(0.1, schedule="constant")
    assert {settings.learning_rate_at(epoch) for epoch in range(200)} == {0.1}


def test_the_protocol_and_the_result_hold_the_settings(tmp_path):
    rows = [[float(i), float(i % 3)] for i in range(20)]
    pretrained = pretrain(Autoencoder(2, (1,), seed=0), rows, epochs=2, batch_size=7, seed=4)
    expected = PretrainingSettings(5e-3, epochs=2, batch_size=7, seed=4)
    assert pretrained.settings == expected
    recorded = expected.record()
    assert pretrained.protocol.seeds == (recorded.pop("seed"),)
    assert recorded.items() <= pretrained.protocol.settings.items()
    pretrained.save(tmp_path)
    assert type(pretrained).load(tmp_path).settings == expected
