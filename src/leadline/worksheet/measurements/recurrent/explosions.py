"""``rnn.b``: exploding and vanishing gradients, by nonlinearity and scale of the weights."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float

from leadline import gradients, recurrent
from leadline.figures import ACCENT, COLOURS, NEUTRAL, Drawing, extended, line, panels
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.statistics import Effect
from leadline.storage import record
from leadline.worksheet._answer import Answer, effects_of
from leadline.worksheet._criterion import Fact
from leadline.worksheet._setting import Setting

if TYPE_CHECKING:
    import pandas as pd

Nonlinearity = Literal["identity", "relu", "tanh"]
NONLINEARITIES: tuple[Nonlinearity, ...] = ("identity", "relu", "tanh")
RELU = NONLINEARITIES.index("relu")
TANH = NONLINEARITIES.index("tanh")
NAMES = {"identity": "none", "relu": "ReLU", "tanh": "tanh"}

SMALL = (0.3, 0.5, 0.7, 0.9)
LARGE = (1.1, 1.4, 2.0, 3.0)
"""Spectral radii below 1, which are only reported, and above 1, which the criterion uses."""

HIDDEN = 16
STEPS = 50
BATCH = 8
LIMIT = math.log(1000)
"""The gradient explodes if it is 1000 times larger at the first timestep than at the last.

It vanishes if it is 1000 times smaller, or zero.
"""


@record("worksheet.Explosions")
@dataclass(frozen=True, eq=False)
class Explosions(Sounding):
    """Ratio of the gradient at the first timestep to that at the last, by scale of the weights."""

    radii: Float[np.ndarray, " radii"]
    """Spectral radii that W_h is scaled to."""
    log_growth: Float[np.ndarray, "seeds 3 radii networks"]
    """ln(‖dL/dh_1‖ / ‖dL/dh_T‖) over the batch; -inf if the gradient at timestep 1 is zero.

    The second axis is no nonlinearity, ReLU and tanh.
    """
    largest_state: Float[np.ndarray, "seeds 3 radii networks"]
    """The largest ``|h|`` of any unit at any timestep."""

    @property
    def exploding(self) -> Float[np.ndarray, "seeds 3 radii"]:
        """Share of networks whose gradient explodes, in percent."""
        return 100 * (self.log_growth > LIMIT).mean(-1)

    @property
    def vanishing(self) -> Float[np.ndarray, "seeds 3 radii"]:
        """Share of networks whose gradient vanishes, in percent."""
        return 100 * (self.log_growth < -LIMIT).mean(-1)

    def at_large_radii(
        self, shares: Float[np.ndarray, "seeds 3 radii"]
    ) -> Float[np.ndarray, "seeds 3"]:
        """Return the mean of shares over the spectral radii above 1."""
        return shares[..., self.radii > 1].mean(-1)

    @property
    def slope_at_small_radii(self) -> Float[np.ndarray, "seeds 3"]:
        """Median growth of ln ‖dL/dh_t‖ over one step back, at the spectral radii up to 1."""
        small = ~(self.radii > 1)
        return np.median(self.log_growth[..., small, :], axis=(-2, -1)) / (STEPS - 1)

    @property
    def verdict(self) -> Verdict:
        """The shares at spectral radii above 1."""
        large = self.radii > 1
        exploding, vanishing = (
            shares[..., large].mean((0, 2)) for shares in (self.exploding, self.vanishing)
        )
        shares_by_kind = [
            f"{NAMES[kind]} {exploding[i]:z.0f} % explode, {vanishing[i]:z.0f} % vanish"
            for i, kind in enumerate(NONLINEARITIES)
        ]
        return Verdict("at spectral radii above 1: " + "; ".join(shares_by_kind))

    def table(self) -> "pd.DataFrame":
        """Return one row per nonlinearity, radius and seed: ``exploding`` and ``vanishing``.

        Both are percentages of the networks.
        """
        import pandas as pd

        seed, kind, radius = (axis.ravel() for axis in np.indices(self.exploding.shape))
        return pd.DataFrame(
            {
                "nonlinearity": [NAMES[NONLINEARITIES[i]] for i in kind],
                "spectral_radius": self.radii[radius],
                "seed": seed,
                "exploding": self.exploding.ravel(),
                "vanishing": self.vanishing.ravel(),
            }
        )

    def drawing(self) -> Drawing:
        """Return the shares of exploding and of vanishing gradients by spectral radius."""
        ticks = {
            "type": "log",
            "tickvals": self.radii,
            "ticktext": [f"{radius:zg}" for radius in self.radii],
        }
        percent = {"range": [-4, 104]}
        labels = ("spectral radius of W<sub>h</sub>", "% of networks")
        drawing = panels(
            f"Gradients over {STEPS} timesteps, by the scale of the weights",
            [
                ("1000 times larger at the start", *labels),
                ("1000 times smaller at the start", *labels),
            ],
            xaxis=ticks,
            xaxis2=ticks,
            yaxis=percent,
            yaxis2=percent,
        )
        colours = (NEUTRAL, ACCENT, COLOURS[1])
        traces = [
            line(
                self.radii,
                shares[:, i].mean(0),
                name=NAMES[kind],
                colour=colour,
                mode="lines+markers",
                legendgroup=kind,
                showlegend=panel == 1,
                panel=panel,
            )
            for panel, shares in enumerate((self.exploding, self.vanishing), 1)
            for i, (kind, colour) in enumerate(zip(NONLINEARITIES, colours, strict=True))
        ]
        return extended(drawing, traces)


def nonlinearities(setting: Setting) -> Answer:
    """``rnn.b``: shares of exploding and vanishing gradients, and two constructed networks."""
    networks = setting.pick(quick=8, full=24)
    radii = np.array(SMALL + LARGE)
    found = np.array(
        [
            [
                [[_growth(kind, radius, seed, i) for i in range(networks)] for radius in radii]
                for kind in NONLINEARITIES
            ]
            for seed in setting.seeds
        ]
    )
    protocol = _protocol(setting, networks)
    explosions = Explosions(protocol, radii, found[..., 0], found[..., 1])
    exploding = explosions.at_large_radii(explosions.exploding)
    vanishing = explosions.at_large_radii(explosions.vanishing)
    return Answer(
        protocol=protocol,
        statement_id="rnn.b",
        sentence=f"at spectral radii above 1, {exploding[:, RELU].mean():z.0f} % of ReLU networks "
        f"explode and {vanishing[:, RELU].mean():z.0f} % vanish, {exploding[:, TANH].mean():z.0f} "
        f"% and {vanishing[:, TANH].mean():z.0f} % of tanh networks.",
        soundings={"explosions": explosions},
        effects=_effects(explosions),
        facts={
            "tanh_states_bounded": _bounded_states(explosions),
            "tanh_exception": _tanh_exception(),
        },
        findings=_findings(explosions),
    )


def _protocol(setting: Setting, networks: int) -> Protocol:
    settings = {
        "hidden units": HIDDEN,
        "timesteps": STEPS,
        "sequences": BATCH,
        "networks per seed, radius and nonlinearity": networks,
        "weights": "PyTorch's initialisation, all weights and biases scaled until W_h has the "
        "spectral radius",
        "explodes, vanishes": "‖dL/dh_1‖ more than 1000 times, less than 1/1000 of ‖dL/dh_T‖; "
        "loss at the end",
        "dtype": "float64",
    }
    return Protocol(settings, seeds=setting.seeds)


def _effects(explosions: Explosions) -> dict[str, Effect]:
    """Return the shares of both nonlinearities, and their paired differences."""
    exploding = explosions.at_large_radii(explosions.exploding)
    vanishing = explosions.at_large_radii(explosions.vanishing)
    slope = explosions.slope_at_small_radii
    shares = {
        f"{kind}_{fate}": (values[:, i], f"{fate} gradients, {NAMES[kind]}", "% of networks")
        for fate, values in (("exploding", exploding), ("vanishing", vanishing))
        for i, kind in ((RELU, "relu"), (TANH, "tanh"))
    }
    return effects_of(
        "rnn.b",
        **shares,
        relu_minus_tanh_exploding=(
            exploding[:, RELU] - exploding[:, TANH],
            "exploding gradients, ReLU minus tanh",
            "points",
        ),
        tanh_minus_relu_vanishing=(
            vanishing[:, TANH] - vanishing[:, RELU],
            "vanishing gradients, tanh minus ReLU",
            "points",
        ),
        tanh_minus_relu_slope_below_1=(
            slope[:, TANH] - slope[:, RELU],
            "ln of the gradient's growth per step back at spectral radii below 1, tanh minus ReLU",
            "nats",
        ),
    )


def _bounded_states(explosions: Explosions) -> Fact:
    bound = float(explosions.largest_state[:, TANH].max())
    return Fact(
        "largest |h| of all tanh networks (a state so near to 1 that it rounds to it "
        "counts as inside)",
        bound <= 1,
        f"{bound:z.6g}; of ReLU networks {explosions.largest_state[:, RELU].max():z.1e}",
        "at most 1",
    )


def _tanh_exception() -> Fact:
    growth, radius, state = exception()
    return Fact(
        "a tanh network with spectral radius above 1 and states near zero: its gradient explodes",
        growth > LIMIT and radius > 1 and state < 0.01,
        f"spectral radius {radius:z.2f}, largest |h| {state:z.1e}, gradient "
        f"{math.exp(growth):z.1e} times larger",
        "radius above 1, states below 0.01, 1000 times larger",
    )


def _findings(explosions: Explosions) -> tuple[str, ...]:
    linear = explosions.at_large_radii(explosions.exploding)[:, 0]
    by_radius = explosions.vanishing[..., explosions.radii > 1].mean(0)
    slope = explosions.slope_at_small_radii
    return (
        f"Without a nonlinearity {linear.mean():z.0f} % explode at these radii.",
        "Which of the two vanishes more often depends on the scale: at a spectral radius of "
        f"{LARGE[0]}, {by_radius[RELU, 0]:z.0f} % of ReLU and {by_radius[TANH, 0]:z.0f} % of "
        f"tanh networks, at {LARGE[-1]:zg}, {by_radius[RELU, -1]:z.0f} % and "
        f"{by_radius[TANH, -1]:z.0f} %.",
        f"Below 1, at {SMALL[0]} to {SMALL[-1]}, it shrinks "
        f"{math.exp(-slope[:, RELU].mean()):z.1f}-fold per step back through ReLU and "
        f"{math.exp(-slope[:, TANH].mean()):z.1f}-fold through tanh (medians).",
        "A ReLU network whose W_h has spectral radius 0 can explode: over 29 steps back its "
        f"gradient grows {_doubling():z.0f}-fold, twofold each step.",
    )


def _growth(kind: Nonlinearity, radius: float, seed: int, network: int) -> tuple[float, float]:
    """Return ln ‖dL/dh_1‖ - ln ‖dL/dh_T‖ and the largest |h| of a network of this scale.

    Networks of one seed differ only in nonlinearity and scale: they share the random draws of
    weights and sequences.
    """
    drawn = int(np.random.SeedSequence((seed, network)).generate_state(1)[0])
    model = recurrent.Regression(
        recurrent.RNN(1, HIDDEN, nonlinearity=kind, seed=drawn), seed=drawn
    ).double()
    (layer,) = model.network.layers
    with torch.no_grad():
        factor = radius / float(torch.linalg.eigvals(layer.W_h).abs().max())
        for weights in layer.parameters():
            weights.mul_(factor)
    x, y = (values.double() for values in recurrent.running_average(BATCH, STEPS, seed=drawn))
    return traced_growth(model, x, y)


def traced_growth(
    model: recurrent.Regression, x: torch.Tensor, y: torch.Tensor
) -> tuple[float, float]:
    """Return ln ‖dL/dh_1‖ - ln ‖dL/dh_T‖ over the batch, and the largest |h|."""
    with gradients.trace(model) as tape:
        predictions, h = model(x)
        loss = recurrent.mse(predictions, y, last_only=True)
    log = tape.gradient_flow(loss).layers[0].log_total
    first, last = (float(np.logaddexp.reduce(2 * log[:, t]) / 2) for t in (0, -1))
    return first - last, float(h.detach().abs().max())


def exception(radius: float = 1.5) -> tuple[float, float, float]:
    """Return results of a tanh network whose states stay near zero.

    W_h is ``radius`` times a rotation. There are no biases, and inputs are about 1e-12.

    Returns:
        ln of the gradient's growth, the spectral radius and the largest |h|.
    """
    model = recurrent.Regression(recurrent.RNN(1, HIDDEN, seed=0), seed=0).double()
    (layer,) = model.network.layers
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((HIDDEN, HIDDEN)))
    with torch.no_grad():
        layer.W_h.copy_(radius * torch.from_numpy(rotation))
        layer.b.zero_()
    x, y = (values.double() for values in recurrent.running_average(BATCH, STEPS, seed=0))
    growth, state = traced_growth(model, 1e-12 * x, y)
    return growth, float(torch.linalg.eigvals(layer.W_h.detach()).abs().max()), state


def _doubling(steps: int = 29) -> float:
    """Return the growth of the preset's gradient over ``steps`` timesteps."""
    network, x = recurrent.RNN.zero_radius_that_explodes(steps + 1)
    with gradients.trace(network) as tape:
        loss = network(x)[0][:, -1].sum()
    log = tape.gradient_flow(loss).layers[0].log_total[0]
    return math.exp(log[0] - log[-1])
