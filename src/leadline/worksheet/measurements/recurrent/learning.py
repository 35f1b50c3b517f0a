"""``rnn.e``: recurrent networks that learn the running average."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from leadline import recurrent
from leadline.figures import ACCENT, COLOURS, NEUTRAL, Drawing, extended, line, markers, new_drawing
from leadline.randomness import torch_generator
from leadline.recurrent import LSTM, RNN, Regression
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.statistics import AT_LEAST_ZERO
from leadline.storage import record
from leadline.worksheet._answer import Answer, effects_of
from leadline.worksheet._setting import Setting

if TYPE_CHECKING:
    import pandas as pd

TIME = 10
HIDDEN = 32
LIMIT = 0.02
"""Timesteps, hidden units, and the share of the zero predictor's error that counts as learned."""

ARCHITECTURES = {
    "RNN, 1 layer": (RNN, 1),
    "RNN, 2 layers": (RNN, 2),
    "LSTM, 1 layer": (LSTM, 1),
    "LSTM, 2 layers": (LSTM, 2),
}

STEPS = {"quick": {RNN: 1000, LSTM: 250}, "full": {RNN: 3000, LSTM: 1500}}
"""Optimiser steps by budget and cell; chosen, with the learning rate, on other seeds."""

LR = 1e-2
TESTED = 2000
"""The highest learning rate, and the number of test sequences."""

TASKS = ("all timesteps", "the last timestep")


@record("worksheet.LearnedAverage")
@dataclass(frozen=True, eq=False)
class LearnedAverage(Sounding):
    """Error on test sequences, which neither training nor the choice of the best weights uses."""

    architectures: tuple[str, ...]
    share: Float[np.ndarray, "tasks architectures seeds"]
    """Mean squared error divided by that of predicting zero.

    The tasks have a loss at all timesteps, or only at the last.
    """

    @property
    def worst(self) -> Float[np.ndarray, "tasks seeds"]:
        """The largest share of all architectures."""
        return self.share.max(axis=1)

    @property
    def verdict(self) -> Verdict:
        """The remaining error in each task."""
        by_task = "; ".join(
            f"{task}: median {100 * np.median(share):z.2g} %, at worst {100 * share.max():z.2g} %"
            for task, share in zip(TASKS, self.share, strict=True)
        )
        return Verdict(f"of the zero predictor's error is left at {by_task}")

    def table(self) -> "pd.DataFrame":
        """Return one row per network: ``task``, ``architecture``, ``seed``, ``share``.

        ``share`` is the share of the zero predictor's error.
        """
        import pandas as pd

        task, architecture, seed = np.indices(self.share.shape)
        return pd.DataFrame(
            {
                "task": np.array(TASKS)[task.ravel()],
                "architecture": np.array(self.architectures)[architecture.ravel()],
                "seed": seed.ravel(),
                "share": self.share.ravel(),
            }
        )

    def drawing(self) -> Drawing:
        """Return every network's share of error by task and architecture, and the limit of 2 %."""
        places = np.arange(len(self.architectures))
        jitter = np.linspace(-0.1, 0.1, self.share.shape[-1])
        looks = zip(TASKS, self.share, (ACCENT, COLOURS[1]), (-0.17, 0.17), strict=True)
        traces = [
            markers(
                (places[:, None] + shift + jitter).ravel(),
                100 * share.ravel(),
                name=f"loss at {task}",
                colour=colour,
                size=6,
                opacity=0.75,
                hovertemplate="%{y:z.2g} %",
            )
            for task, share, colour, shift in looks
        ]
        ends = [-0.5, len(places) - 0.5]
        traces.append(line(ends, [100 * LIMIT] * 2, name="2 %", colour=NEUTRAL, dash="dot"))
        ticks = 10.0 ** np.arange(np.floor(np.log10(100 * self.share.min())), 3)
        drawing = new_drawing(
            "The error that is left on the running average",
            "",
            "error, % of the zero predictor's",
            height=420,
            xaxis={"tickvals": places, "ticktext": self.architectures, "range": ends},
            yaxis={"type": "log", "tickvals": ticks, "ticktext": [f"{tick:zg}" for tick in ticks]},
        )
        return extended(drawing, traces)


def running_average_is_learned(setting: Setting) -> Answer:
    """``rnn.e``: the remaining error of four architectures on both tasks."""
    share = np.array(
        [
            [_share(cell, layers, last_only, setting) for cell, layers in ARCHITECTURES.values()]
            for last_only in (False, True)
        ]
    )
    protocol = _protocol(setting)
    learned = LearnedAverage(protocol, tuple(ARCHITECTURES), share)
    every, last = learned.worst
    effects = effects_of(
        "rnn.e",
        error_share_all_steps=(
            every,
            "worst share of the zero predictor's error, all timesteps",
            "",
            AT_LEAST_ZERO,
        ),
        error_share_last_step=(
            last,
            "worst share of the zero predictor's error, last timestep",
            "",
            AT_LEAST_ZERO,
        ),
    )
    return Answer(
        protocol=protocol,
        statement_id="rnn.e",
        sentence=f"the worst of four architectures leaves {100 * every.mean():z.2g} % of the zero "
        f"predictor's error at all timesteps and {100 * last.mean():z.2g} % at the last, the mean "
        f"over {len(every)} seeds.",
        soundings={"learned": learned},
        effects=effects,
        findings=(
            "Median share left, at all timesteps and at the last: "
            + "; ".join(
                f"{name} {100 * a:z.2g} % and {100 * b:z.2g} %"
                for name, (a, b) in zip(ARCHITECTURES, np.median(share, axis=-1).T, strict=True)
            )
            + ".",
            f"{int((share > LIMIT).sum())} of {share.size} networks left more than 2 %.",
        ),
    )


def _protocol(setting: Setting) -> Protocol:
    return Protocol(
        {
            "timesteps": TIME,
            "hidden units": HIDDEN,
            "steps": {cell.__name__: steps for cell, steps in STEPS[setting.budget].items()},
            "learning rate": LR,
            "error": f"on {TESTED} fresh sequences; the worst of four architectures for each seed",
        },
        seeds=setting.seeds,
    )


def _share(
    cell: type[RNN] | type[LSTM], layers: int, last_only: bool, setting: Setting
) -> Float[np.ndarray, " seeds"]:
    """Return the remaining share of error for networks of one architecture, trained together."""
    models = [Regression(cell(1, HIDDEN, layers, seed=seed), seed=seed) for seed in setting.seeds]
    steps = STEPS[setting.budget][cell]
    every = max(1, steps // 5)
    recurrent.train(
        models,
        seeds=setting.seeds,
        time=TIME,
        last_only=last_only,
        num_steps=steps,
        learning_rate=LR,
        evaluate_every=every,
        patience=9,
    )
    return np.array(
        [
            error_share(model, seed, last_only)
            for model, seed in zip(models, setting.seeds, strict=True)
        ]
    )


def error_share(model: Regression, seed: int, last_only: bool) -> float:
    """Return the mean squared error divided by the zero predictor's, on test sequences."""
    x = torch.randn(TESTED, TIME, 1, generator=torch_generator(seed, "worksheet.rnn.e"))
    y = x.cumsum(1) / torch.arange(1, TIME + 1).unsqueeze(1)
    with torch.no_grad():
        left = recurrent.mse(model(x)[0], y, last_only)
    return float(left / recurrent.mse(torch.zeros_like(y), y, last_only))
