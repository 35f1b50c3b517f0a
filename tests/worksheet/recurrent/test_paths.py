import numpy as np
import pytest

from leadline.gradients.soundings._weight_terms import LayerTerms
from leadline.recurrent import GRU, LSTM, RNN
from leadline.worksheet import Setting
from leadline.worksheet.measurements.recurrent import paths as measurements


@pytest.fixture
def two_seeds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Setting, "seeds", property(lambda self: (0, 1)))


def of_decades(*decades: float) -> measurements.WeightPaths:
    """Return networks whose far terms are 10^decades times the near terms."""
    log_norms = np.zeros((1, len(decades), measurements.STEPS))
    log_norms[0, :, : measurements.END] = np.array(decades)[:, None] * np.log(10)
    log_norms[..., 0] = -np.inf
    return measurements.WeightPaths(
        measurements.Protocol(), ("one",), log_norms, np.array([0.0, 0.25, 0.75])
    )


def test_only_extreme_far_terms_are_counted():
    paths = of_decades(-3.1, -2.9, 0, 2.9, 3.1)
    np.testing.assert_allclose(paths.far_over_near, [[-3.1, -2.9, 0, 2.9, 3.1]])
    assert paths.num_extreme == 2
    assert "in 2 of 5 networks, from 10^-3.1 to 10^3.1" in str(paths)


def test_the_width_of_a_path_is_its_share():
    figure = of_decades(-5).figure().to_dict()
    assert [shape["line"]["width"] for shape in figure["layout"]["shapes"]] == pytest.approx(
        [0.7, 10, 30]
    )
    assert {"0%", "25%", "75%"} <= {note.get("text") for note in figure["layout"]["annotations"]}


@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("make", [RNN, LSTM, GRU])
def test_the_sum_over_timesteps_is_the_gradient(make, last_only):
    assert measurements._largest_error(make, 2, last_only, seed=3) < 1e-12


def test_a_wrong_sum_is_detected(monkeypatch: pytest.MonkeyPatch, two_seeds):
    right = LayerTerms.__init__

    def one_too_large(self, **fields):
        right(
            self,
            **{**fields, "gradients": {n: g * (1 + 1e-8) for n, g in fields["gradients"].items()}},
        )

    monkeypatch.setattr(LayerTerms, "__init__", one_too_large)
    answer = measurements.shared_weight(Setting("quick"))
    assert not answer.facts["sum_equals_autograd"].holds
    assert answer.verdict.outcome == "refuted"


def test_rnn_d_is_measured(two_seeds, tmp_path):
    answer = measurements.shared_weight(Setting("quick"))
    assert set(answer.facts) == {"sum_equals_autograd", "terms_span_decades"}
    assert answer.facts["sum_equals_autograd"].holds
    paths = answer.soundings["paths"]
    assert isinstance(paths, measurements.WeightPaths)
    assert len(paths.table()) == paths.far_over_near.size == 2 * len(paths.names)
    answer.save(tmp_path)
    assert str(type(answer).load(tmp_path)) == str(answer)
