"""Measurement of ``ae.h``: corruption as augmentation of a vanilla autoencoder.

The file compares the effects of corruption, and the weights bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline import data
from leadline.autoencoders import (
    Autoencoder,
    Corruption,
    GaussianNoise,
    MaskedPatchTransformer,
    Nothing,
    PatchMask,
    PixelMask,
    Pretrained,
    pretrain,
    pretrain_many,
)
from leadline.data import Dataset, Roles, label_subsets
from leadline.figures import COLOURS, NEUTRAL, Drawing, extended, markers, panels
from leadline.probing import Scaling, fit_probes
from leadline.randomness import numpy_generator
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.statistics import AT_LEAST_ZERO, PERCENT, POINTS, Effect, paired_interval
from leadline.storage import record
from leadline.worksheet._answer import Answer, effects_of, finding
from leadline.worksheet._criterion import Fact
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders import overfitting
from leadline.worksheet.measurements.autoencoders.arms import error_bar
from leadline.worksheet.measurements.autoencoders.pretraining import label_count, layers, spread

if TYPE_CHECKING:
    import pandas as pd

NOISE = 0.1
MASK_RATIO = 0.02
"""Strengths with the lowest clean error on held-out rows, chosen on other seeds."""

SWAPPED = 0.2
"""Share of the entries that the unseen corruption replaces."""

DRAWS = 5
"""Number of times that the test rows are corrupted."""

LABELS_PER_CLASS = 10

IDENTITY_EPOCHS = 5


@record("worksheet.Augmented")
@dataclass(frozen=True, eq=False)
class Augmented(Sounding):
    """Vanilla, denoising and masked autoencoders that overfit a few rows."""

    kinds: tuple[str, ...]
    error: Float[np.ndarray, "kinds seeds"]
    """Squared error of clean test rows after the last epoch, summed over features."""
    accuracy: Float[np.ndarray, "kinds seeds states"]
    """Accuracy in [0, 1] of a probe on test rows, clean and with entries from other rows.

    The probe is fitted to clean rows.
    """

    @property
    def lost(self) -> Float[np.ndarray, "kinds seeds"]:
        """Accuracy lost under the unseen corruption, in points."""
        return 100 * (self.accuracy[..., 0] - self.accuracy[..., 1])

    @property
    def verdict(self) -> Verdict:
        """The error and the lost accuracy of each kind."""
        means = zip(self.kinds, self.error.mean(1), self.lost.mean(1), strict=True)
        return Verdict(
            "clean test error and accuracy lost under an unseen corruption: "
            + "; ".join(
                f"{kind} {error:z.3f} and {lost:z.1f} points" for kind, error, lost in means
            )
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per kind, each value with its 95 % interval.

        The values are the clean test error, the accuracies (percent) and the lost points.
        """
        import pandas as pd

        rows = []
        for i, kind in enumerate(self.kinds):
            columns = {
                "clean test error": (self.error[i], AT_LEAST_ZERO),
                "accuracy": (100 * self.accuracy[i, :, 0], PERCENT),
                "lost": (self.lost[i], POINTS),
            }
            row: dict[str, object] = {"kind": kind}
            for name, (values, bounds) in columns.items():
                interval = paired_interval(values, bounds=bounds)
                row |= {
                    name: interval.estimate,
                    f"{name} low": interval.low,
                    f"{name} high": interval.high,
                }
            rows.append(row)
        return pd.DataFrame(rows)

    def drawing(self) -> Drawing:
        """Return each kind's error and lost accuracy, with 95 % intervals over seeds."""
        ticks = {
            "tickvals": list(range(len(self.kinds))),
            "ticktext": list(self.kinds),
            "range": [-0.5, 2.6],
        }
        drawing = panels(
            "Corruption as augmentation, where a vanilla autoencoder overfits",
            [
                ("clean test rows, last epoch", "", "squared error per row"),
                ("under a corruption unseen in training", "", "accuracy lost, points"),
            ],
            xaxis=ticks,
            xaxis2=ticks,
        )
        traces = []
        measured = ((self.error, AT_LEAST_ZERO), (self.lost, POINTS))
        for panel, (values, bounds) in enumerate(measured, 1):
            for i, kind in enumerate(self.kinds):
                interval = paired_interval(values[i], bounds=bounds)
                common = {
                    "colour": NEUTRAL if kind == "vanilla" else COLOURS[i - 1],
                    "showlegend": False,
                    "panel": panel,
                }
                x = i + np.linspace(-0.14, 0.14, values.shape[1]) + 0.22
                traces.append(
                    markers(x, values[i], size=5, opacity=0.45, hoverinfo="skip", **common)
                )
                bar = error_bar([interval], width=5)
                traces.append(
                    markers(
                        [i - 0.1], [interval.estimate], name=kind, size=9, error_y=bar, **common
                    )
                )
        return extended(drawing, traces)


@record("worksheet.Materialised")
@dataclass(frozen=True)
class Materialised(Corruption):
    """A corruption that records every pair (corrupted, clean) that training uses."""

    corruption: Corruption
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list, compare=False)

    @property
    def counts_everywhere(self) -> bool:
        """Same value as for the wrapped corruption."""
        return self.corruption.counts_everywhere

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Corrupt the rows and record the pair."""
        seen, loss_mask = self.corruption.corrupt(x, generator)
        self.pairs.append((seen.clone(), x.clone()))
        return seen, loss_mask


def corruption_is_augmentation(setting: Setting) -> Answer:
    """``ae.h``: effect of corruption on an overfitting autoencoder, and equality of weights."""
    dataset = setting.data or data.digits()
    roles = [data.split_roles(dataset.labels, seed=seed) for seed in setting.seeds]
    kinds: dict[str, Corruption] = {
        "vanilla": Nothing(),
        "denoising": GaussianNoise(NOISE * spread(dataset)),
        "masked": PixelMask(MASK_RATIO),
    }
    augmented = _augmented(kinds, dataset, roles, setting)
    same = {
        kind: _identical(kinds[kind], dataset, roles, setting) for kind in ("denoising", "masked")
    }
    dropped = tokens_in_encoder(drop=True)
    filled = tokens_in_encoder(drop=False)
    effects = _effects(augmented)
    pairs = len(roles) * len(same)
    return Answer(
        protocol=augmented.protocol,
        statement_id="ae.h",
        sentence="against vanilla, the clean test error changes by "
        f"{effects['denoising_test_error_minus_vanilla'].interval} (denoising) and "
        f"{effects['masked_test_error_minus_vanilla'].interval} (masked), the accuracy lost under "
        f"an unseen corruption by {effects['denoising_accuracy_lost_minus_vanilla'].interval} and "
        f"{effects['masked_accuracy_lost_minus_vanilla'].interval} points; on materialised pairs "
        f"{sum(map(sum, same.values()))} of {pairs} vanilla runs end with the same bits.",
        soundings={"augmented": augmented},
        effects=effects,
        facts={
            "identical_to_augmented_vanilla": Fact(
                "weights of vanilla training on the materialised (corrupted, clean) pairs, bit for "
                "bit",
                all(map(all, same.values())),
                f"equal in {sum(map(sum, same.values()))} of {pairs} runs",
                "equal in all",
            ),
            "dropped_tokens": Fact(
                "the one difference: tokens that enter the encoder of a masked transformer, 75 % "
                "hidden",
                dropped < filled,
                f"{dropped}, against {filled} with hidden patches filled with zeros",
                "fewer than with zeros",
            ),
        },
        findings=(finding(augmented),),
    )


def _effects(augmented: Augmented) -> dict[str, Effect]:
    """Return the error and the lost accuracy of each corruption, minus those of vanilla."""
    measured = {}
    for name, values, label, unit in (
        (
            "test_error",
            augmented.error,
            "clean test error at the last epoch",
            "squared error per row",
        ),
        (
            "accuracy_lost",
            augmented.lost,
            "accuracy lost under an unseen corruption",
            "points",
        ),
    ):
        for i, kind in ((1, "denoising"), (2, "masked")):
            difference = values[i] - values[0]
            text = f"{kind} minus vanilla: {label}"
            measured[f"{kind}_{name}_minus_vanilla"] = (difference, text, unit)
    return effects_of("ae.h", **measured)


def _augmented(
    kinds: Mapping[str, Corruption], dataset: Dataset, roles: Sequence[Roles], setting: Setting
) -> Augmented:
    named = [(kind, i) for kind in kinds for i in range(len(roles))]
    rows = [
        overfitting.scarce_rows(dataset, role, seed)
        for role, seed in zip(roles, setting.seeds, strict=True)
    ]
    results = pretrain_many(
        [
            Autoencoder(
                dataset.X.shape[1],
                overfitting.HIDDEN_SIZES,
                corruption=kinds[kind],
                seed=setting.seeds[i],
            )
            for kind, i in named
        ],
        [rows[i] for _, i in named],
        validation=None,
        seeds=[setting.seeds[i] for _, i in named],
        epochs=overfitting.epochs(setting),
        batch_size=overfitting.BATCH_SIZE,
    )
    labels = label_count(dataset, roles, per_class=LABELS_PER_CLASS)
    subsets = setting.pick(quick=10, full=30)
    error = []
    accuracy = []
    for (_, i), result in zip(named, results, strict=True):
        error.append(overfitting.reconstruction_error(result, dataset.X[roles[i].test]))
        accuracy.append(
            _accuracies(result, rows[i], dataset, roles[i], setting.seeds[i], labels, subsets)
        )
    protocol = Protocol(
        {
            "data": dataset.name,
            "encoder": layers(dataset, overfitting.HIDDEN_SIZES),
            "rows": len(rows[0]),
            "epochs": overfitting.epochs(setting),
            "batch size": overfitting.BATCH_SIZE,
            "noise": NOISE * spread(dataset),
            "mask ratio": MASK_RATIO,
            "unseen corruption": f"{100 * SWAPPED:z.0f} % of the entries are those of other rows",
            "labels": labels,
            "label subsets": subsets,
        },
        seeds=setting.seeds,
    )
    shape = (len(kinds), len(roles))
    return Augmented(
        protocol, tuple(kinds), np.reshape(error, shape), np.reshape(accuracy, (*shape, 2))
    )


def _accuracies(
    pretrained: Pretrained,
    pretraining: np.ndarray,
    dataset: Dataset,
    role: Roles,
    seed: int,
    labels: int,
    subsets: int,
) -> tuple[float, float]:
    """Return the accuracy of probes on clean and on swapped test rows.

    The probes are fitted to clean rows.
    """
    encode = pretrained.encoder.encode
    y = dataset.labels
    y_test = dataset.labels[role.test]
    clean = dataset.X[role.test]
    scaling = Scaling.fit(encode(pretraining))
    rows = label_subsets(y, role.probe_pool, [labels], num=subsets, seed=seed).rows(labels)
    Z = scaling(encode(dataset.X[rows.ravel()])).reshape(*rows.shape, -1)
    solved = fit_probes(torch.from_numpy(Z), torch.from_numpy(y[rows]), dataset.num_classes)

    def accuracy(X: np.ndarray) -> float:
        scores = solved.fits.logits(torch.from_numpy(scaling(encode(X))).expand(len(rows), -1, -1))[
            :, 0
        ]
        return float((scores.argmax(2).numpy() == y_test).mean())

    rng = numpy_generator(seed, "worksheet.ae.h")
    return accuracy(clean), float(
        np.mean([accuracy(with_entries_of_others(clean, rng)) for _ in range(DRAWS)])
    )


def with_entries_of_others(
    X: Float[np.ndarray, "n d"], rng: np.random.Generator
) -> Float[np.ndarray, "n d"]:
    """Return rows in which a share of the entries comes from the same feature of other rows."""
    others = np.take_along_axis(
        X, rng.permuted(np.tile(np.arange(len(X))[:, None], X.shape[1]), axis=0), axis=0
    )
    return np.where(rng.random(X.shape) < SWAPPED, others, X)


def _identical(
    corruption: Corruption, dataset: Dataset, roles: Sequence[Roles], setting: Setting
) -> list[bool]:
    return [
        equals_vanilla_on_pairs(corruption, overfitting.scarce_rows(dataset, role, seed), seed)
        for role, seed in zip(roles, setting.seeds, strict=True)
    ]


def equals_vanilla_on_pairs(corruption: Corruption, X: Float[np.ndarray, "n d"], seed: int) -> bool:
    """True if training with corruption gives the weights of vanilla training on the same pairs.

    The vanilla autoencoder passes once through the pairs of all epochs, in their original order.
    """
    batch = min(overfitting.BATCH_SIZE, len(X))
    # All batches have the same size, so that joined epochs are split at the same rows.
    X = X[: len(X) // batch * batch]
    options: dict[str, Any] = {
        "batch_size": batch,
        "schedule": "constant",
        "validation": None,
        "centre": False,
    }
    sizes = (X.shape[1], overfitting.HIDDEN_SIZES)
    shown = Materialised(corruption)
    corrupted = pretrain(
        Autoencoder(*sizes, corruption=shown, seed=seed),
        X,
        epochs=IDENTITY_EPOCHS,
        seed=seed,
        **options,
    )
    seen, clean = (torch.cat(part).numpy() for part in zip(*shown.pairs, strict=True))
    vanilla = pretrain(
        Autoencoder(*sizes, seed=seed), seen, targets=clean, shuffle=False, epochs=1, **options
    )
    return all(
        np.array_equal(corrupted.weights[name], vanilla.weights[name]) for name in vanilla.weights
    )


def tokens_in_encoder(*, drop: bool) -> int:
    """Return the number of tokens in a masked transformer's encoder during a training step.

    The class token is included.

    Args:
        drop: True if hidden patches are dropped, as in this transformer; False if they are filled
            with zeros.
    """
    model = MaskedPatchTransformer(
        16, 4, width=16, depth=1, decoder_width=8, mask_ratio=0.75, seed=0
    )
    mask = PatchMask(0.75, 4, 16, loss="masked", drop=drop)
    counted: list[int] = []
    hook = model.encoder.blocks[0].register_forward_pre_hook(
        lambda _, inputs: counted.append(inputs[0].shape[1])
    )
    images = torch.zeros(2, 16 * 16)
    seen, loss_mask = mask.corrupt(images, torch.Generator().manual_seed(0))
    model.squared_error(seen, images, loss_mask)
    hook.remove()
    return counted[0]
