"""``rnn.a``: gradient growth of linear networks against the largest eigenvalue of W_h."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from leadline import gradients, recurrent
from leadline.figures import ACCENT, NEUTRAL, Drawing, extended, line, markers, panels
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.storage import record
from leadline.worksheet._answer import Answer, effects_of
from leadline.worksheet._criterion import Fact
from leadline.worksheet._setting import Setting

if TYPE_CHECKING:
    import pandas as pd

HIDDEN = 16
STEPS = 200
"""Hidden size of the networks of ``rnn.a``, and the length of their sequences."""


@record("worksheet.EigenvalueRule")
@dataclass(frozen=True, eq=False)
class EigenvalueRule(Sounding):
    """Gradient growth of linear networks, with two possible predictors."""

    ln_rho: Float[np.ndarray, "seeds matrices"]
    """Logarithm of the spectral radius of W_h."""
    ln_sigma: Float[np.ndarray, "seeds matrices"]
    """Logarithm of the largest singular value of W_h."""
    slope: Float[np.ndarray, "seeds matrices"]
    """Growth of ln ‖dL/dh_t‖ per step of distance, over the farther half of the sequence."""
    transient: Float[np.ndarray, "distances"]  # noqa: F821
    """ln ‖dL/dh_{T-n}‖ - ln ‖dL/dh_T‖ for n = 0, 1, …, with spectral radius 0.5.

    The matrix of this network is non-normal.
    """

    @property
    def coefficients(self) -> Float[np.ndarray, "seeds 2"]:
        """Least-squares coefficients of the slope on ln ρ and ln σ_max, with an intercept."""
        rows = []
        for x1, x2, y in zip(self.ln_rho, self.ln_sigma, self.slope, strict=True):
            design = np.stack([x1, x2, np.ones_like(x1)], axis=1)
            rows.append(np.linalg.lstsq(design, y, rcond=None)[0][:2])
        return np.array(rows)

    @property
    def verdict(self) -> Verdict:
        """The predictor that the slope follows."""
        on_rho, on_sigma = self.coefficients.mean(0)
        return Verdict(
            f"the slope of the gradient follows {on_rho:z.3f} ln ρ + {on_sigma:z.3f} ln σ_max"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per matrix: ``seed``, ``ln_rho``, ``ln_sigma``, ``slope``.

        The slope is in nats per timestep.
        """
        import pandas as pd

        seeds = np.repeat(np.arange(len(self.slope)), self.slope.shape[1])
        columns = {"ln_rho": self.ln_rho, "ln_sigma": self.ln_sigma, "slope": self.slope}
        return pd.DataFrame(
            {"seed": seeds, **{name: values.ravel() for name, values in columns.items()}}
        )

    def drawing(self) -> Drawing:
        """Return the measured slope against both predictions, and a transient growth.

        The second panel shows a gradient that first grows although the spectral radius is 0.5.
        """
        drawing = panels(
            "How fast a linear network's gradient grows",
            [
                ("which number predicts the slope?", "prediction, nats per step", "measured slope"),
                ("spectral radius 0.5, far from normal", "distance T - t", "ln of growth"),
            ],
        )
        ends = [float(min(self.ln_rho.min(), self.slope.min())), float(self.ln_sigma.max())]
        slope = self.slope.ravel()
        points = {"size": 5, "opacity": 0.75}
        distance = np.arange(len(self.transient))
        alone = distance * math.log(0.5)
        second = {"showlegend": False, "panel": 2}
        traces = [
            line(ends, ends, name="equal", colour=NEUTRAL, dash="dot"),
            markers(
                self.ln_sigma.ravel(),
                slope,
                name="ln σ<sub>max</sub>",
                colour=NEUTRAL,
                symbol="x-thin-open",
                **points,
            ),
            markers(
                self.ln_rho.ravel(), slope, name="ln ρ", colour=ACCENT, symbol="circle", **points
            ),
            line(distance, self.transient, name="measured", colour=ACCENT, **second),
            line(distance, alone, name="ρ<sup>n</sup> alone", colour=NEUTRAL, dash="dot", **second),
        ]
        return extended(drawing, traces)


def largest_eigenvalue(setting: Setting) -> Answer:
    """``rnn.a``: the closed form, then a regression of slopes over independently drawn matrices."""
    error = max(
        _closed_form_error(seed, last_only) for seed in setting.seeds for last_only in (True, False)
    )
    matrices = setting.pick(quick=16, full=64)
    rows = [
        [_one_matrix(np.random.default_rng((seed, i))) for i in range(matrices)]
        for seed in setting.seeds
    ]
    ln_rho, ln_sigma, slope = np.moveaxis(np.array(rows), -1, 0)
    protocol = _protocol(setting, matrices)
    rule = EigenvalueRule(protocol, ln_rho, ln_sigma, slope, _transient_growth())
    on_rho, on_sigma = rule.coefficients.T
    effects = effects_of(
        "rnn.a",
        slope_on_ln_rho=(on_rho, "coefficient of ln ρ", ""),
        slope_on_ln_sigma_max=(on_sigma, "coefficient of ln σ_max", ""),
    )
    peak = int(rule.transient.argmax())
    return Answer(
        protocol=protocol,
        statement_id="rnn.a",
        sentence="per step of distance the logarithm of the gradient grows by "
        f"{effects['slope_on_ln_rho'].interval} times ln ρ and "
        f"{effects['slope_on_ln_sigma_max'].interval} times ln σ_max; traced gradients equal the "
        f"closed form to {error:z.1e}.",
        soundings={"rule": rule},
        effects=effects,
        facts={
            "closed_form": Fact(
                "traced dL/dh_t against (2/numel)(ŷ - y) W_f W_h^(T-t), relative, float64",
                error <= 1e-9,
                f"largest difference {error:z.1e}",
                "at most 1e-9",
            )
        },
        findings=(
            "In the short run the rule misleads: a non-normal network of spectral radius 0.5 first "
            f"amplifies its gradient {math.exp(rule.transient[peak]):z.0f}-fold, over {peak} "
            "steps, before it vanishes.",
            f"Over these matrices σ_max was {math.exp((ln_sigma - ln_rho).min()):z.1f} to "
            f"{math.exp((ln_sigma - ln_rho).max()):z.1f} times ρ.",
        ),
    )


def _protocol(setting: Setting, matrices: int) -> Protocol:
    return Protocol(
        {
            "hidden units": HIDDEN,
            "timesteps": STEPS,
            "matrices per seed": matrices,
            "slope over distances": f"{STEPS // 2} to {STEPS - 1}",
            "dtype": "float64",
        },
        seeds=setting.seeds,
    )


def _closed_form_error(seed: int, last_only: bool) -> float:
    """Return the largest relative difference between traced norms and the closed form.

    The closed form is the sum over k of (2/numel)(ŷ_k - y_k) W_f W_h^(k-t).
    """
    batch = 4
    time = 20
    outputs = 2
    network = recurrent.RNN(3, 8, nonlinearity="identity", seed=seed)
    model = recurrent.Regression(network, outputs, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    x, y = (
        torch.randn(batch, time, n, generator=generator, dtype=torch.float64) for n in (3, outputs)
    )
    with gradients.trace(model) as tape:
        predictions, _ = model(x)
        loss = recurrent.mse(predictions, y, last_only=last_only)
    traced = tape.gradient_flow(loss).layers[0].total
    with torch.no_grad():
        error = 2 * (predictions - y) / (batch * outputs * (1 if last_only else time))
        if last_only:
            error[:, :-1] = 0
        W_h = model.network.layers[0].W_h
        expected = torch.zeros(batch, time, 8, dtype=torch.float64)
        for t in range(time):
            for k in range(t, time):
                expected[:, t] += error[:, k] @ model.W_f @ torch.linalg.matrix_power(W_h, k - t)
        norms = expected.norm(dim=-1).numpy()
    return float(np.abs(traced / norms - 1).max())


def _one_matrix(rng: np.random.Generator) -> tuple[float, float, float]:
    """Return ln ρ, ln σ_max and the measured slope of a network with a random W_h.

    The spectral radius ρ and the non-normality are drawn independently. In real Schur form,
    ``W_h = Q (D + N) Qᵀ``. D contains the eigenvalues as 2 x 2 rotations, uniform on a disc of
    radius ρ with one eigenvalue on its edge. N lies above the blocks; it changes no eigenvalue and
    makes the matrix non-normal.
    """
    rho = math.exp(rng.uniform(-0.5, 0.5))
    departure = rng.uniform(0, 2)
    radii = np.sqrt(rng.uniform(0, 1, HIDDEN // 2))
    radii *= rho / radii.max()
    angles = rng.uniform(0, math.pi, HIDDEN // 2)
    W = np.zeros((HIDDEN, HIDDEN))
    for i, (radius, angle) in enumerate(zip(radii, angles, strict=True)):
        cosine = radius * math.cos(angle)
        sine = radius * math.sin(angle)
        W[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[cosine, -sine], [sine, cosine]]
    W += (
        rho
        * departure
        / math.sqrt(HIDDEN)
        * np.triu(rng.standard_normal(W.shape), 1)
        * _above_blocks()
    )
    rotation, _ = np.linalg.qr(rng.standard_normal(W.shape))
    W = rotation @ W @ rotation.T
    growth = _log_growth(W, STEPS, seed=int(rng.integers(2**31)))
    far = np.arange(STEPS // 2, STEPS)
    slope = np.polyfit(far, growth[far], 1)[0]
    return math.log(rho), math.log(np.linalg.norm(W, 2)), float(slope)


def _above_blocks() -> np.ndarray:
    block = np.arange(HIDDEN) // 2
    return (block[:, None] < block[None, :]).astype(float)


def _log_growth(W_h: np.ndarray, time: int, seed: int) -> np.ndarray:
    """Return ln ‖dL/dh_{T-n}‖ - ln ‖dL/dh_T‖ for n = 0 … T-1 of a linear network.

    The loss is at the last timestep.
    """
    network = recurrent.RNN(1, len(W_h), nonlinearity="identity", seed=seed)
    model = recurrent.Regression(network, seed=seed).double()
    with torch.no_grad():
        model.network.layers[0].W_h.copy_(torch.from_numpy(W_h))
    x, y = (values.double() for values in recurrent.running_average(1, time, seed=seed))
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y, last_only=True)
    log_total = tape.gradient_flow(loss).layers[0].log_total[0, ::-1]
    return log_total - log_total[0]


def _transient_growth() -> np.ndarray:
    """Return the growth for a chain of eight units with all eigenvalues 0.5.

    Each unit passes 1.5 times its value to the next.
    """
    return _log_growth(0.5 * np.eye(8) + 1.5 * np.eye(8, k=1), 80, seed=0)
