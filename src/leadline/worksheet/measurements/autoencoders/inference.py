"""Measurement of ``ae.i``: noise or masking when the probe is fitted and when it is used."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from leadline import data
from leadline.autoencoders import Corruption, Encoder, GaussianNoise, PixelMask
from leadline.data import Dataset, Roles, label_subsets
from leadline.figures import ACCENT, NEUTRAL, Drawing, extended, line, panels
from leadline.probing import Scaling, fit_probes
from leadline.randomness import torch_generator
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.statistics import PERCENT, Effect, paired_interval
from leadline.storage import record
from leadline.worksheet._answer import Answer, effects_of
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders.pretraining import (
    epochs_at_most,
    layers,
    pretrained_on_own_rows,
    spread,
)

if TYPE_CHECKING:
    import pandas as pd

HIDDEN_SIZES = (96, 64)

NOISE = 0.5
MASK_RATIO = 0.5

LABELS_PER_CLASS = 10

STATES = ("clean", "corrupted")


@record("worksheet.CorruptedUse")
@dataclass(frozen=True, eq=False)
class CorruptedUse(Sounding):
    """Accuracy in [0, 1] of probes that are fitted to and used on clean or corrupted rows."""

    kinds: tuple[str, ...]
    """Corruptions that the encoders were pretrained with."""
    accuracy: Float[np.ndarray, "kinds seeds 2 2"]
    """Mean accuracy over label subsets.

    The last two axes: fitted to (clean, corrupted) rows, used on (clean, corrupted) rows.
    """

    @property
    def verdict(self) -> Verdict:
        """Accuracy with clean rows throughout, compared with corrupted rows throughout."""
        means = 100 * self.accuracy.mean(1)
        return Verdict(
            "; ".join(
                f"{kind}: {mean[0, 0]:z.1f} % clean throughout, {mean[1, 1]:z.1f} % corrupted "
                "throughout"
                for kind, mean in zip(self.kinds, means, strict=True)
            )
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per corruption and cell: ``accuracy`` in percent, ``low`` and ``high``.

        ``low`` and ``high`` are the ends of the 95 % interval.
        """
        import pandas as pd

        rows = []
        for kind, cells in zip(self.kinds, self.accuracy, strict=True):
            for fit in range(2):
                for use in range(2):
                    interval = paired_interval(100 * cells[:, fit, use], bounds=PERCENT)
                    rows.append(
                        (
                            kind,
                            STATES[fit],
                            STATES[use],
                            interval.estimate,
                            interval.low,
                            interval.high,
                        )
                    )
        return pd.DataFrame(
            rows, columns=["kind", "fitted to", "used on", "accuracy", "low", "high"]
        )

    def drawing(self) -> Drawing:
        """Return the accuracy of each kind's four cells, with 95 % intervals over seeds."""
        ticks = {
            "tickvals": [0, 1],
            "ticktext": [f"{state} rows" for state in STATES],
            "range": [-0.5, 1.5],
        }
        axes = [
            (f"trained with {kind}", "the probe is used on", "accuracy in %") for kind in self.kinds
        ]
        drawing = panels(
            "Corruption when the probe is fitted, and when it is used",
            axes,
            xaxis=ticks,
            xaxis2=ticks,
        )
        table = self.table()
        traces = []
        for panel, kind in enumerate(self.kinds, 1):
            for shift, fit, colour in ((-0.06, "clean", ACCENT), (0.06, "corrupted", NEUTRAL)):
                cells = table[(table["kind"] == kind) & (table["fitted to"] == fit)]
                low = cells["low"].to_numpy()
                mean = cells["accuracy"].to_numpy()
                high = cells["high"].to_numpy()
                trace = line(
                    np.arange(2) + shift,
                    mean,
                    name=f"fitted to {fit} rows",
                    colour=colour,
                    width=1,
                    error_y={"array": high - mean, "arrayminus": mean - low, "width": 4},
                    mode="markers+lines",
                    marker={"color": colour, "size": 8},
                    showlegend=panel == 1,
                    panel=panel,
                )
                traces.append(trace)
        return extended(drawing, traces)


def noise_when_used(setting: Setting) -> Answer:
    """``ae.i``: clean and corrupted rows in a 2 x 2 design, for noise and for masking."""
    dataset = setting.data or data.digits()
    roles = [data.split_roles(dataset.labels, seed=seed) for seed in setting.seeds]
    std = NOISE * spread(dataset)
    kinds: dict[str, Corruption] = {"noise": GaussianNoise(std), "masking": PixelMask(MASK_RATIO)}
    pretrained = pretrained_on_own_rows(kinds, dataset, roles, setting, HIDDEN_SIZES)
    subsets = setting.pick(quick=3, full=10)
    accuracy = np.array(
        [
            [
                _cells(result.encoder, kinds[kind], role, seed, subsets, dataset)
                for result, role, seed in zip(results, roles, setting.seeds, strict=True)
            ]
            for kind, results in pretrained.items()
        ]
    )
    protocol = Protocol(
        {
            "data": dataset.name,
            "encoder": layers(dataset, HIDDEN_SIZES),
            "noise": std,
            "epochs": epochs_at_most(setting),
            "mask ratio": MASK_RATIO,
            "labels per class, at most": LABELS_PER_CLASS,
            "label subsets": subsets,
        },
        seeds=setting.seeds,
    )
    use = CorruptedUse(protocol, tuple(kinds), accuracy)
    noise, masking = 100 * accuracy
    effects = _effects(noise, masking)
    return Answer(
        protocol=protocol,
        statement_id="ae.i",
        sentence="clean throughout instead of corrupted throughout gains "
        f"{effects['clean_minus_noisy'].interval} points for noise and "
        f"{effects['clean_minus_masked'].interval} points for masking.",
        soundings={"use": use},
        effects=effects,
        findings=(
            "Corruption while fitting the probe only, as augmentation: "
            f"{effects['noise_as_augmentation'].interval} points for noise, "
            f"{effects['masking_as_augmentation'].interval} for masking.",
            f"A probe that was fitted to clean rows and is used on corrupted ones loses "
            f"{(noise[:, 0, 0] - noise[:, 0, 1]).mean():z.1f} points by noise and "
            f"{(masking[:, 0, 0] - masking[:, 0, 1]).mean():z.1f} by masking.",
        ),
    )


def _effects(
    noise: Float[np.ndarray, "seeds 2 2"], masking: Float[np.ndarray, "seeds 2 2"]
) -> dict[str, Effect]:
    """Return the effects of clean rows throughout, and of corruption while fitting only.

    Args:
        noise: accuracy in percent of the encoders that were trained with noise. The last two axes
            are those of :attr:`CorruptedUse.accuracy`.
        masking: the same for encoders that were trained with masking.
    """
    return effects_of(
        "ae.i",
        clean_minus_noisy=(
            noise[:, 0, 0] - noise[:, 1, 1],
            "clean minus noisy throughout",
            "points",
        ),
        clean_minus_masked=(
            masking[:, 0, 0] - masking[:, 1, 1],
            "clean minus masked throughout",
            "points",
        ),
        noise_as_augmentation=(
            noise[:, 1, 0] - noise[:, 0, 0],
            "noise while fitting only, minus none",
            "points",
        ),
        masking_as_augmentation=(
            masking[:, 1, 0] - masking[:, 0, 0],
            "masking while fitting only, minus none",
            "points",
        ),
    )


def _cells(
    encoder: Encoder, corruption: Corruption, role: Roles, seed: int, subsets: int, dataset: Dataset
) -> Float[np.ndarray, "2 2"]:
    """Return the mean accuracy of one seed for each of the four cells.

    The first axis is the state that probes are fitted in (clean, corrupted), the second the state
    that they are used on. Each row is corrupted once. The scaling of the codes is fitted to the
    pretraining rows, in the state that the probe is fitted in.
    """
    clean = torch.from_numpy(dataset.X)
    generator = torch_generator(seed, "worksheet.ae.i")
    assert generator is not None
    corrupted, _ = corruption.corrupt(clean, generator)
    codes = [encoder.encode(dataset.X), encoder.encode(corrupted.numpy())]
    labels = min(LABELS_PER_CLASS * dataset.num_classes, len(role.probe_pool))
    rows = label_subsets(dataset.labels, role.probe_pool, [labels], num=subsets, seed=seed).rows(
        labels
    )
    scaled = []
    for Z in codes:
        scaling = Scaling.fit(Z[role.pretrain_train])
        scaled.append([scaling(used) for used in codes])
    # The axes are: state that probes are fitted in, state that they are used on, rows, codes.
    by_state = np.array(scaled)
    Z = torch.from_numpy(np.concatenate([by_state[state, state][rows] for state in range(2)]))
    y = torch.from_numpy(dataset.labels[rows]).repeat(2, 1)
    fits = fit_probes(Z, y, dataset.num_classes).fits
    truth = torch.from_numpy(dataset.labels[role.test])
    cells = np.zeros((2, 2))
    for use in range(2):
        tested = torch.from_numpy(by_state[:, use][:, role.test]).repeat_interleave(subsets, 0)
        right = fits.logits(tested)[:, 0].argmax(2) == truth
        cells[:, use] = right.double().reshape(2, -1).mean(1).numpy()
    return cells
