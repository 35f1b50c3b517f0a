import numpy as np
import pytest

from leadline.worksheet import STATEMENTS, Setting
from leadline.worksheet.measurements.recurrent import eigenvalues as measurements


def test_the_answer_follows_from_its_slopes():
    """Slopes that follow ln rho meet the criterion; slopes that follow ln sigma refute it."""
    rng = np.random.default_rng(0)
    ln_rho, departure = rng.uniform(-0.5, 0.5, (12, 16)), rng.uniform(0, 1, (12, 16))
    noise = 0.01 * rng.standard_normal((12, 16))
    for slope, expected in ((ln_rho + noise, (1, 0)), (ln_rho + departure + noise, (0, 1))):
        rule = measurements.EigenvalueRule(
            measurements.Protocol(), ln_rho, ln_rho + departure, slope, np.zeros(3)
        )
        np.testing.assert_allclose(rule.coefficients.mean(0), expected, atol=0.02)
        assert len(rule.table()) == 12 * 16
        assert rule.figure().to_dict()["data"]


def test_matrices_have_the_drawn_spectral_radius(monkeypatch: pytest.MonkeyPatch):
    drawn = []
    monkeypatch.setattr(
        measurements, "_log_growth", lambda W, time, seed: drawn.append(W) or np.zeros(time)
    )
    for seed in range(20):
        ln_rho, ln_sigma, _ = measurements._one_matrix(np.random.default_rng(seed))
        assert np.log(np.abs(np.linalg.eigvals(drawn[-1])).max()) == pytest.approx(ln_rho, abs=1e-6)
        assert ln_sigma >= ln_rho - 1e-12


def test_growth_equals_that_of_the_matrix_power():
    W = np.array([[0.5, 1.5], [0.0, 0.5]])
    growth = measurements._log_growth(W, 12, seed=3)
    rng_row = np.exp(growth)
    model_row = measurements.recurrent.Regression(
        measurements.recurrent.RNN(1, 2, nonlinearity="identity", seed=3), seed=3
    ).double()
    w = model_row.W_f.detach().numpy()[0]
    expected = [
        np.linalg.norm(w @ np.linalg.matrix_power(W, n)) / np.linalg.norm(w) for n in range(12)
    ]
    np.testing.assert_allclose(rng_row, expected, rtol=1e-9)


def test_traced_gradients_equal_the_closed_form():
    assert (
        max(
            measurements._closed_form_error(seed, last)
            for seed in range(3)
            for last in (True, False)
        )
        < 1e-9
    )


def test_rnn_a_is_measured_and_supported(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(Setting, "seeds", property(lambda self: (0, 1, 2)))
    answer = measurements.largest_eigenvalue(Setting("quick"))
    assert answer.statement is STATEMENTS["rnn.a"]
    assert set(answer.effects) | set(answer.facts) == {
        "closed_form",
        "slope_on_ln_rho",
        "slope_on_ln_sigma_max",
    }
    assert answer.facts["closed_form"].holds
    assert answer.effects["slope_on_ln_rho"].interval.estimate == pytest.approx(1, abs=0.05)
    answer.save(tmp_path)
    assert str(type(answer).load(tmp_path)) == str(answer)
