import numpy as np
import pytest

from leadline.worksheet import Setting
from leadline.worksheet.measurements.autoencoders import decoder


@pytest.fixture(scope="module")
def answer():
    """The answer of a short measurement."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Setting, "seeds", property(lambda self: (0, 1)))
        patch.setattr(Setting, "pick", lambda self, *, quick, full: 10)
        yield decoder.decoder_is_thrown_away(Setting("quick"))


def test_ae_c_holds_bit_for_bit(answer, tmp_path):
    assert answer.verdict.outcome == "supported"
    thrown = answer.soundings["thrown"]
    assert (thrown.differing == 0).all()
    assert thrown.foreign == ()
    assert thrown.accuracy.min() > 0.5, (
        "the probe must predict something for the comparison to mean anything"
    )
    assert (thrown.error[:, 1] > 2 * thrown.error[:, 0]).all(), "the decoder was randomised"
    answer.save(tmp_path)
    assert str(type(answer).load(tmp_path)) == str(answer)


def test_the_saved_share_counts_parameters(answer):
    """64-96-64 has 96 * 65 + 64 * 97 parameters, and so has its mirror: half of all."""
    thrown = answer.soundings["thrown"]
    assert thrown.parameters.tolist() == [96 * 65 + 64 * 97] * 2
    assert thrown.saved == 0.5
    assert "50 % of the parameters" in str(answer)


def test_the_verdict_shows_a_decoder_that_leaks(answer):
    thrown = answer.soundings["thrown"]
    leaked = type(thrown)(
        thrown.protocol,
        thrown.accuracy,
        thrown.differing + np.array([1, 0, 0]),
        thrown.rows,
        thrown.error,
        thrown.parameters,
        thrown.foreign,
    )
    assert f"of {leaked.compared} predictions" in str(leaked)
    assert "not exported, 2 change" in str(leaked)
