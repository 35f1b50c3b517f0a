"""``rnn.d``: the gradient of a shared weight as a sum over timesteps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from leadline import gradients, recurrent
from leadline.figures import ACCENT, COLOURS, NEUTRAL, Drawing, extended, line, markers, panels
from leadline.recurrent import GRU, LSTM, RNN, Network, Nonlinearity, Regression
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.storage import record
from leadline.worksheet._answer import Answer
from leadline.worksheet._criterion import Fact
from leadline.worksheet._setting import Setting

if TYPE_CHECKING:
    import pandas as pd

LN10 = math.log(10)

HIDDEN = 16
STEPS = 100
SHORT = 8
"""Hidden size, length of the long sequences, and length of those that are drawn as a graph."""

END = STEPS // 10
"""Number of far terms at the start and of near terms at the end; the term of h_0 is left out."""

DECADES = 3
"""Far terms are tiny or huge if they are 1000 times smaller or larger than the near ones."""

RADII = (0.9, 1.0, 1.1)
"""Spectral radii that W_h is scaled to, around 1, where a linear network is stable."""


@record("worksheet.WeightPaths")
@dataclass(frozen=True, eq=False)
class WeightPaths(Sounding):
    """Contribution of each timestep to the gradient of W_h, for a loss at the last timestep."""

    names: tuple[str, ...]
    """Kinds of networks."""
    log_norms: Float[np.ndarray, "kinds seeds T"]
    """ln ‖dL/dh_t dh_t/dW_h‖ over long sequences; the first is -inf, since h_0 = 0."""
    short_terms: Float[np.ndarray, " S"]
    """The norms of the terms of one short sequence, for the graph."""

    @property
    def far_over_near(self) -> Float[np.ndarray, "kinds seeds"]:
        """Ratio of the median far term to the median near term, in decades."""
        far = self.log_norms[..., 1:END]
        near = self.log_norms[..., -END:]
        return (np.median(far, axis=-1) - np.median(near, axis=-1)) / LN10

    @property
    def num_extreme(self) -> int:
        """The number of networks whose far terms are tiny or huge."""
        return int((np.abs(self.far_over_near) > DECADES).sum())

    @property
    def verdict(self) -> Verdict:
        """The number of networks with tiny or huge far terms, and the range of their ratio."""
        far = self.far_over_near
        return Verdict(
            f"far terms are tiny or huge in {self.num_extreme} of {far.size} networks, "
            f"from 10^{far.min():z.1f} to 10^{far.max():z.1f} of the near ones"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per network: ``kind``, ``seed``, ``decades`` from near to far terms."""
        import pandas as pd

        kinds, seeds = self.far_over_near.shape
        return pd.DataFrame(
            {
                "kind": np.repeat(self.names, seeds),
                "seed": np.tile(np.arange(seeds), kinds),
                "decades": self.far_over_near.ravel(),
            }
        )

    def drawing(self) -> Drawing:
        """Return the unrolled graph, and the terms of long sequences by timestep.

        A path of the graph is as wide as its share of the gradient.
        """
        drawing = panels(
            "One weight, many paths",
            [
                ("a loss at the last of eight timesteps", "", ""),
                (
                    f"{STEPS} timesteps, median network",
                    "timestep t",
                    "‖dL/dh<sub>t</sub> dh<sub>t</sub>/dW<sub>h</sub>‖",
                ),
            ],
            height=460,
            yaxis2={"tickprefix": "10<sup>", "ticksuffix": "</sup>"},
        )
        t = np.arange(2, 1 + self.log_norms.shape[-1])
        curves = [
            line(
                t,
                np.median(log_norms[:, 1:], axis=0) / LN10,
                name=name,
                colour=COLOURS[i % len(COLOURS)],
                width=2,
                panel=2,
            )
            for i, (name, log_norms) in enumerate(zip(self.names, self.log_norms, strict=True))
        ]
        with_graph = _with_graph(drawing, self.short_terms / self.short_terms.sum())
        return extended(with_graph, curves)


def _with_graph(drawing: Drawing, shares: Float[np.ndarray, " S"]) -> Drawing:
    """Draw the states in a row, their shared weight below, and the loss at the end of the row."""
    steps = len(shares)
    weight = (1 + steps) / 2
    states = markers(
        np.arange(1, 1 + steps),
        np.ones(steps),
        size=26,
        colour="rgba(0,0,0,0)",
        customdata=shares,
        hovertemplate="t = %{x}: %{customdata:z.2g} of all<extra></extra>",
        showlegend=False,
    )
    paths: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for t, share in enumerate(shares.tolist(), start=1):
        path = f"M {weight},0.12 C {weight},0.5 {t},0.4 {t},0.86"
        stroke = {"color": ACCENT, "width": max(0.7, 40 * share)}
        paths.append(
            {"type": "path", "path": path, "line": stroke, "layer": "below", "opacity": 0.75}
        )
        notes.append(_arrow(t + 0.3, t + 0.68))
        notes.append(_text(t, 1, f"h<sub>{t}</sub>"))
        font = {"color": ACCENT, "size": 11}
        notes.append({**_text(t, 1.16, _share(share)), "font": font})
    notes.append(_text(steps + 1, 1, "<b>L</b>"))
    notes.append(_text(weight, 0, "<b>W<sub>h</sub></b>"))
    return extended(
        drawing,
        [states],
        shapes=paths,
        annotations=notes,
        xaxis={"visible": False, "range": [0.4, steps + 1.4], "fixedrange": True},
        yaxis={"visible": False, "range": [-0.15, 1.4], "fixedrange": True},
    )


def _share(share: float) -> str:
    """Return a share in percent, or as a power of ten if it is below one percent, with markup."""
    if share >= 0.01 or share == 0:
        return f"{share:z.0%}"
    return f"10<sup>{math.log10(share):z.0f}</sup>"


def _text(x: float, y: float, text: str) -> dict[str, Any]:
    return {"x": x, "y": y, "text": text, "showarrow": False}


def _arrow(start: float, end: float) -> dict[str, Any]:
    place = {"x": end, "y": 1, "ax": start, "ay": 1, "axref": "x", "ayref": "y"}
    return {**place, "showarrow": True, "arrowhead": 2, "arrowcolor": NEUTRAL, "text": ""}


def shared_weight(setting: Setting) -> Answer:
    """``rnn.d``: the sum of the terms against automatic differentiation, then their range."""
    errors = [
        _largest_error(make, layers, last_only, seed)
        for make in (RNN, LSTM, GRU)
        for layers in (1, 2)
        for last_only in (True, False)
        for seed in setting.seeds
    ]
    kinds = _kinds()
    log_norms = np.array(
        [[_log_norms(make(seed), STEPS, seed) for seed in setting.seeds] for make in kinds.values()]
    )
    protocol = Protocol(
        {
            "hidden units": HIDDEN,
            "timesteps": STEPS,
            "loss": "at the last timestep",
            "far": f"timesteps 2 to {END}",
            "near": f"the last {END} timesteps",
            "tiny or huge": f"beyond a factor of 10^{DECADES}",
            "dtype": "float64",
        },
        seeds=setting.seeds,
    )
    short = np.exp(_log_norms(_regression(RNN(1, HIDDEN, seed=0), 0), SHORT, 0))
    paths = WeightPaths(protocol, tuple(kinds), log_norms, short)
    far = np.median(paths.far_over_near, axis=1)
    return Answer(
        protocol=protocol,
        statement_id="rnn.d",
        sentence="the terms sum to the gradient of automatic differentiation to "
        f"{max(errors):z.1e}; over {STEPS} timesteps the far terms are tiny or huge in "
        f"{paths.num_extreme} of {paths.far_over_near.size} networks.",
        soundings={"paths": paths},
        facts=_facts(paths, max(errors)),
        findings=(
            "Median far term over near term: "
            + "; ".join(
                f"{name}: 10^{decades:z.1f}" for name, decades in zip(kinds, far, strict=True)
            )
            + ".",
        ),
    )


def _facts(paths: WeightPaths, error: float) -> dict[str, Fact]:
    """Return the identity and the range of the terms.

    Args:
        paths: the terms by timestep.
        error: largest relative difference between the sum of the terms and the gradient.
    """
    return {
        "sum_equals_autograd": Fact(
            "sum over t of dL/dh_t dh_t/dW against automatic differentiation, for every "
            "parameter of RNN, LSTM and GRU of one and two layers and for their heads, largest "
            "difference over the largest entry, float64",
            error <= 1e-9,
            f"largest difference {error:z.1e}",
            "at most 1e-9",
        ),
        "terms_span_decades": Fact(
            f"far terms of W_h a thousand times smaller or larger than near ones, over {STEPS} "
            "timesteps",
            2 * paths.num_extreme > paths.far_over_near.size,
            f"in {paths.num_extreme} of {paths.far_over_near.size} networks",
            "in more than half of them",
        ),
    }


def _kinds() -> dict[str, Callable[[int], Regression]]:
    """Return constructors of networks by name; each takes a seed."""

    def plain(nonlinearity: Nonlinearity, radius: float) -> Callable[[int], Regression]:
        return lambda seed: _with_radius(
            _regression(RNN(1, HIDDEN, nonlinearity=nonlinearity, seed=seed), seed), radius
        )

    linear = {f"linear, ρ = {radius:zg}": plain("identity", radius) for radius in RADII}
    tanh = {f"tanh, ρ = {radius:zg}": plain("tanh", radius) for radius in RADII}
    return {**linear, **tanh, "LSTM": lambda seed: _regression(LSTM(1, HIDDEN, seed=seed), seed)}


def _regression(network: Network, seed: int) -> Regression:
    return Regression(network, seed=seed).double()


def _with_radius(model: Regression, radius: float) -> Regression:
    W_h = model.network.layers[0].W_h
    with torch.no_grad():
        W_h.mul_(radius / float(torch.linalg.eigvals(W_h).abs().max()))
    return model


def _log_norms(model: Regression, time: int, seed: int) -> Float[np.ndarray, " T"]:
    """Return ln of the norm of each term of W_h's gradient, for one sequence and a final loss."""
    x, y = (values.double() for values in recurrent.running_average(1, time, seed=seed))
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y, last_only=True)
    return tape.weight_terms(loss).layers[0].log_norms["W_h"]


def _largest_error(
    make: type[RNN] | type[LSTM] | type[GRU], layers: int, last_only: bool, seed: int
) -> float:
    """Return the largest error of summed terms against automatic differentiation.

    The error is relative to the largest entry of each gradient.
    """
    batch = 3
    time = 12
    outputs = 2
    model = Regression(make(2, 6, layers, seed=seed), outputs, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    x, y = (
        torch.randn(batch, time, n, generator=generator, dtype=torch.float64) for n in (2, outputs)
    )
    with gradients.trace(model) as tape:
        predictions, states = model(x)
        loss = recurrent.mse(predictions, y, last_only=last_only)
    terms = tape.weight_terms(loss)
    expected = dict(
        zip(
            dict(model.named_parameters()),
            torch.autograd.grad(loss, list(model.parameters())),
            strict=True,
        )
    )
    found = {
        f"network.layers.{layer.index}.{name}": torch.from_numpy(gradient)
        for layer in terms.layers
        for name, gradient in layer.gradients.items()
    }
    with torch.no_grad():
        error = 2 * (predictions - y) / (batch * outputs * (1 if last_only else time))
        if last_only:
            error[:, :-1] = 0
        # The head reads each h_t once, so its gradient has a closed form: the sum over t of
        # dL/dŷ_t dŷ_t/dW_f.
        found |= {"W_f": (error.mT @ states).sum(0), "b_f": error.sum((0, 1))}
    assert found.keys() == expected.keys()
    return max(float((found[name] - g).abs().max() / g.abs().max()) for name, g in expected.items())
