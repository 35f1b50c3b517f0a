"""``rnn.c``: losses at every timestep, and learning of a long-range dependency."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline import gradients, recurrent
from leadline.figures import ACCENT, COLOURS, NEUTRAL, Drawing, extended, line, markers, panels
from leadline.randomness import torch_generator
from leadline.recurrent import RNN, Regression
from leadline.sounding import Interval, Protocol, Sounding, Verdict
from leadline.statistics import SHARE, Effect
from leadline.storage import record
from leadline.worksheet._answer import Answer, effects_of
from leadline.worksheet._setting import Setting

if TYPE_CHECKING:
    import pandas as pd

Arm = Literal["none", "local", "past"]
ARMS: dict[Arm, str] = {
    "none": "the last loss alone",
    "local": "and local losses",
    "past": "and losses on x₁",
}

HIDDEN = 32
TIME = 20
BATCH = 64
LR = 3e-3
"""``TIME`` is the longest of 5, 10, 20 and 30 timesteps at which some networks learn.

This was measured on other seeds, with the loss at the end only and the steps of the quick budget.
"""

EARLY = TIME // 4
FAR = TIME // 2
"""The first ``EARLY`` timesteps are early; a loss at k is far from t if ``k - t >= FAR``."""

LARGEST_EXPONENT = math.log(sys.float_info.max)

TESTED = 2000
"""Number of test sequences for the final R²."""


@record("worksheet.LongRange")
@dataclass(frozen=True, eq=False)
class LongRange(Sounding):
    """Effect of a loss at every timestep on the gradient at early timesteps, and on learning."""

    log_total: Float[np.ndarray, "2 networks T"]
    """ln ‖dL/dh_t‖ over the batch before training: loss at the end only, and local losses."""
    log_far: Float[np.ndarray, "networks T"]
    """ln of the sum of ‖dL_k/dh_t‖ over all k far from t, with local losses.

    The value is -inf if no k is far from t.
    """
    far_share: Float[np.ndarray, "2 networks"]
    """Share of the norms ‖dL_k/dh_t‖ from far k, averaged over early t.

    The first axis is before and after training.
    """
    r2: Mapping[str, Float[np.ndarray, "seeds _"]]
    """R² of the final target for each network, by arm."""

    @property
    def log_ratio(self) -> Float[np.ndarray, " networks"]:
        """Ratio of the gradient with local losses to that without, in nats; mean over early t."""
        return (self.log_total[1] - self.log_total[0])[:, :EARLY].mean(axis=1)

    @property
    def verdict(self) -> Verdict:
        """The size of the gradient compared with the result of learning."""
        none = self.r2["none"].mean()
        local = self.r2["local"].mean()
        return Verdict(
            f"local losses make the early gradient {math.exp(self.log_ratio.mean()):z.3g} times as "
            f"large, {self.far_share[0].mean():z.2g} of it from afar; the final R² is {local:z.2f} "
            f"with them, {none:z.2f} without"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per arm and network: ``arm``, ``seed``, ``network``, ``r2``.

        ``r2`` belongs to the final target.
        """
        import pandas as pd

        frames = []
        for arm, r2 in self.r2.items():
            seed, network = np.indices(r2.shape)
            columns = {"seed": seed.ravel(), "network": network.ravel(), "r2": r2.ravel()}
            frames.append(pd.DataFrame({"arm": arm, **columns}))
        return pd.concat(frames, ignore_index=True)

    def drawing(self) -> Drawing:
        """Return the gradient before training by timestep, and the final R² of every network."""
        names = list(ARMS.values())
        drawing = panels(
            "A loss at every timestep: the gradient, and what is learned",
            [
                ("before training, median network", "timestep t", "‖dL/dh<sub>t</sub>‖"),
                (f"does it learn x₁ over {TIME} timesteps?", "", "R² on new sequences"),
            ],
            height=440,
            xaxis2={"tickvals": list(range(len(names))), "ticktext": names, "range": [-0.5, 2.5]},
            yaxis={"tickprefix": "10<sup>", "ticksuffix": "</sup>"},
            yaxis2={"range": [-0.1, 1.05]},
        )
        alone, local = np.median(self.log_total, axis=1) / math.log(10)
        far = np.median(self.log_far, axis=0) / math.log(10)
        far = np.where(np.isfinite(far), far, np.nan)
        from_far = f"with local losses: from k ≥ t + {FAR}"
        t = np.arange(1, TIME + 1)
        traces = [
            line(t, local, name="with local losses", colour=COLOURS[1], dash="solid", width=2),
            line(t, alone, name="the last loss alone", colour=ACCENT, dash="solid", width=2),
            line(t, far, name=from_far, colour=NEUTRAL, dash="dash", width=2),
        ]
        looks = zip(self.r2.values(), (ACCENT, COLOURS[1], COLOURS[2]), strict=True)
        traces += [
            markers(
                i + np.linspace(-0.25, 0.25, r2.size),
                r2.ravel(),
                colour=colour,
                size=6,
                opacity=0.75,
                showlegend=False,
                hovertemplate="R² %{y:z.3f}<extra></extra>",
                panel=2,
            )
            for i, (r2, colour) in enumerate(looks)
        ]
        return extended(drawing, traces)


def loss_at_every_timestep(setting: Setting) -> Answer:
    """``rnn.c``: the influence of far losses, then learning with and without local losses."""
    steps, networks = setting.pick(quick=(1000, 2), full=(3000, 4))
    members = [[1000 + 100 * seed + i for i in range(networks)] for seed in setting.seeds]
    flat = [member for of_seed in members for member in of_seed]
    begun = [_gradients(model, member) for model, member in zip(_models(flat), flat, strict=True)]
    models = {arm: _trained(arm, flat, steps) for arm in ("none", "local")}
    r2 = {
        arm: _final_r2(trained, flat).reshape(len(members), networks)
        for arm, trained in models.items()
    }
    # The arm "past" does not affect the outcome, so one network per seed is enough.
    first = [of_seed[0] for of_seed in members]
    r2["past"] = _final_r2(_trained("past", first, steps), first)[:, None]
    after = [
        _gradients(model, member)[2] for model, member in zip(models["local"], flat, strict=True)
    ]
    protocol = Protocol(
        {
            "hidden units": HIDDEN,
            "timesteps": TIME,
            "networks per seed": networks,
            "steps": steps,
            "batch": BATCH,
            "learning rate": LR,
            "final target": "x_1, at the last timestep, by an output of its own; weight 1 in both "
            "arms",
            "local targets": "x_t, at every other timestep, by another output; their mean has "
            "weight 1",
            "early": f"t from 1 to {EARLY}",
            "far": f"k - t at least {FAR}",
        },
        seeds=setting.seeds,
    )
    found = LongRange(
        protocol,
        log_total=np.stack([[totals[i] for totals, _, _ in begun] for i in range(2)]),
        log_far=np.array([far for _, far, _ in begun]),
        far_share=np.array([[share for _, _, share in begun], after]),
        r2=r2,
    )
    return _answer(found, networks)


def _answer(found: LongRange, networks: int) -> Answer:
    def by_seed(values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, networks)

    none, local, past = (found.r2[arm] for arm in ARMS)
    effects = effects_of(
        "rnn.c",
        far_share_of_early_gradient=(
            by_seed(found.far_share[0]),
            "share of the early gradient from far losses",
            "",
            SHARE,
        ),
        final_r2_with_minus_without=(local - none, "final R² with local losses minus without", ""),
        ln_ratio_of_early_gradients=(
            by_seed(found.log_ratio),
            "ln of early gradient with over without",
            "nats",
        ),
        far_share_after_learning=(
            by_seed(found.far_share[1]),
            "the same share after learning with local losses",
            "",
            SHARE,
        ),
        final_r2_past_minus_without=(
            past - none[:, :1],
            "final R² with losses on x₁ minus without",
            "",
        ),
    )
    effects["ratio_of_early_gradients"] = _as_ratio(effects["ln_ratio_of_early_gradients"])
    return Answer(
        protocol=found.protocol,
        statement_id="rnn.c",
        sentence="local losses make the early gradient "
        f"{effects['ratio_of_early_gradients'].interval:.3g} times as large; "
        f"{effects['far_share_of_early_gradient'].interval} of it comes from far losses; they "
        f"change the final R² by {effects['final_r2_with_minus_without'].interval}.",
        soundings={"long_range": found},
        effects=effects,
        findings=(
            f"The final target was learned (R² above 0.5) by {_learned(none)} networks with the "
            f"last loss alone, by {_learned(local)} with local losses beside it, and by "
            f"{_learned(past)} with losses beside it whose target is x₁ itself.",
        ),
    )


def _as_ratio(log: Effect) -> Effect:
    """Return the effect of a ratio from that of its logarithm: geometric mean and interval."""

    def exp(value: float) -> float:
        return math.exp(value) if value < LARGEST_EXPONENT else math.inf

    def ratio(interval: Interval) -> Interval:
        return Interval(
            exp(interval.estimate), exp(interval.low), exp(interval.high), interval.level
        )

    return Effect(
        "early gradient with over without, geometric mean",
        ratio(log.interval),
        ratio(log.simultaneous),
        exp(log.detectable),
        log.replicates,
        "times",
    )


def _learned(r2: np.ndarray) -> str:
    return f"{int((r2 > 0.5).sum())} of {r2.size}"


def task(arm: Arm) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    """Return a function that draws sequences with two targets for each timestep.

    The targets are the arm's auxiliary target, and x_1 for the last timestep.
    """

    def draw(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch, TIME, 1, generator=generator)
        first = x[:, :1].expand_as(x)
        return x, torch.cat([first if arm == "past" else x, first], -1)

    return draw


def _fresh(arm: Arm, batch: int, member: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Draw sequences that no network is trained on."""
    generator = torch_generator(member, f"worksheet.rnn.c.{purpose}")
    assert generator is not None
    return task(arm)(batch, generator)


def loss_weights(arm: Arm) -> Float[np.ndarray, "T 2"]:
    """Return the weight of each squared error.

    The final error has weight 1. The auxiliary errors have a total weight of 1, or 0 if the arm has
    none.
    """
    weights = np.zeros((TIME, 2), dtype=np.float32)
    weights[-1, 1] = 1
    if arm != "none":
        weights[:-1, 0] = 1 / (TIME - 1)
    return weights


def _models(members: Sequence[int]) -> list[Regression]:
    return [Regression(RNN(1, HIDDEN, seed=member), 2, seed=member) for member in members]


def _trained(arm: Arm, members: Sequence[int], steps: int) -> list[Regression]:
    """Train networks of one arm; all arms share initial weights and inputs."""
    models = _models(members)
    recurrent.train(
        models,
        seeds=members,
        time=TIME,
        num_steps=steps,
        batch_size=BATCH,
        learning_rate=LR,
        draw=task(arm),
        weights=loss_weights(arm),
        evaluate_every=steps // 10,
        patience=10,
    )
    return models


def _gradients(
    model: Regression, member: int
) -> tuple[Float[np.ndarray, "2 T"], Float[np.ndarray, " T"], float]:
    """Return log norms of the total gradient, log norms from far losses, and the far share.

    The total gradient is measured without and with local losses. The far share is a mean over
    early t.
    """
    x, y = _fresh("local", BATCH, member, "traced")
    with gradients.trace(model) as tape:
        squared = (model(x)[0] - y).square().mean(0)
        terms = {
            arm: (squared * torch.from_numpy(loss_weights(arm))).sum(-1)
            for arm in ("none", "local")
        }
    flows = [tape.gradient_flow(term).layers[0].log_total for term in terms.values()]
    log_norms = tape.influence(terms["local"]).layers[0].log_norms
    totals = np.stack([np.logaddexp.reduce(2 * flow, axis=0) / 2 for flow in flows])
    return totals, *far_part(log_norms)


def far_part(log_norms: Float[np.ndarray, "T T"]) -> tuple[Float[np.ndarray, " T"], float]:
    """Return ln of the sum of norms over k far from t, by t, and its share of the sum over all k.

    The share is a mean over early t.
    """
    k, t = np.indices(log_norms.shape)
    far = np.logaddexp.reduce(np.where(k - t >= FAR, log_norms, -np.inf), axis=0)
    everything = np.logaddexp.reduce(log_norms, axis=0)
    return far, float(np.exp(far[:EARLY] - everything[:EARLY]).mean())


def _final_r2(
    models: Sequence[Regression], members: Sequence[int]
) -> Float[np.ndarray, " networks"]:
    return np.array(
        [final_r2(model, member) for model, member in zip(models, members, strict=True)]
    )


def final_r2(model: Regression, member: int) -> float:
    """Return R² of the prediction of x_1 at the last timestep, on new sequences."""
    x, y = _fresh("none", TESTED, member, "tested")
    with torch.no_grad():
        left = (model(x)[0] - y)[:, -1, 1].square().mean()
    return 1 - float(left / y[:, -1, 1].var(correction=0))
