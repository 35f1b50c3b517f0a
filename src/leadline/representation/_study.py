"""The sounding of a study: which kind was chosen, what it is worth, and its encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from leadline.autoencoders import Encoder, Examples, TrainingCurves, pictures
from leadline.errors import InputError
from leadline.figures import Drawing, bands, image_strip, interactive, mean_and_range
from leadline.probing import LabelEfficiency, seeds_in_words
from leadline.representation._choice import choose
from leadline.representation._kept import KeptProbe
from leadline.sounding import Interval, Sounding, Verdict, decimals
from leadline.statistics import PERCENT, POINTS, Effect, effect, paired_interval
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@record("representation.RepresentationStudy")
@dataclass(frozen=True, eq=False)
class RepresentationStudy(Sounding):
    """Autoencoders of several kinds on one's own data: their training, their worth, and the encoder that was chosen.

    Errors are squared errors per row of what the autoencoders were shown, in units of its spread.
    """

    kinds: tuple[str, ...]
    chosen: str
    encoder: Encoder
    """Frozen; takes rows in the units in which they were given, and gives codes of unit spread."""
    origin: str
    """What the encoder was pretrained on, in words."""
    probe: KeptProbe | None
    """The logistic regression on its codes: C, chosen by accuracy on all labels, and its accuracy on labels that were
    left out; ``None`` without labels."""
    efficiency: LabelEfficiency | None
    """Probes of all kinds beside raw inputs, principal components and an untrained encoder; ``None`` without labels."""
    held_out: Float[np.ndarray, "kinds seeds draws"] | None
    """Accuracies on labels that were held out to choose a kind by: none is of a row that its seed reports on."""
    curves: Mapping[str, TrainingCurves]
    """Of each kind: errors of what was held out in pretraining, a row per seed."""
    ranks: Float[np.ndarray, "kinds seeds"]
    """Effective rank of the codes (RankMe)."""
    examples: Mapping[str, Examples]
    """For each kind the same few rows or patches: as they are, as it is shown them, and as it reconstructs them."""
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    """What was noticed in the data and done about it."""

    @property
    def verdict(self) -> Verdict:
        """What the chosen kind is worth with all labels of a probe pool; or that nothing was probed."""
        if self.efficiency is None:
            ranks = ", ".join(
                f"{kind} {decimals(rank, '.0f')}"
                for kind, rank in zip(self.kinds, self.ranks.mean(1), strict=True)
            )
            return Verdict(
                f"nothing was probed, as nothing is labelled: {self.chosen} was picked by the largest effective rank "
                f"of its codes ({ranks}), which is a hypothesis and no measure of worth; {self.origin}"
            )
        most = int(self.efficiency.budgets[-1])
        others = [
            f"{name} {decimals(self.efficiency.interval(name, most).estimate, '.1f')} %"
            for name in ("raw", "pca", "untrained")
            if name in self.efficiency.names
        ]
        if self.efficiency.majority is not None:
            others.append(
                f"the largest class {decimals(100 * self.efficiency.majority.mean(), '.1f')} %"
            )
        gain = paired_interval(
            100 * (self._honest() - self.efficiency.at("raw", most).mean(axis=1)), bounds=POINTS
        )
        return Verdict(
            f"{self.chosen} is chosen; choosing so reaches {_percent(self.accuracy())} with {most} labels, on rows "
            f"that had no say ({', '.join(others)}): {gain:+.1f} points over raw inputs, "
            f"{seeds_in_words(len(self.protocol.seeds))}; {self.origin}"
        )

    @property
    def strength(self) -> float | None:
        """C of the kept probe, for scikit-learn's ``LogisticRegression`` on the codes; ``None`` without labels."""
        return None if self.probe is None else self.probe.strength

    def accuracy(self) -> Interval:
        """Test accuracy, with all labels of a probe pool, of the kind that each seed chose, in percent.

        Raises:
            InputError: nothing was probed.
        """
        if self.efficiency is None:
            raise InputError(
                "an accuracy needs labels", got="a study without any", cure="give represent(X, y)"
            )
        return paired_interval(100 * self._honest(), bounds=PERCENT)

    @property
    def choices(self) -> tuple[str, ...]:
        """The kind that each seed chooses by itself, by labels that it does not report on; none without labels."""
        return (
            ()
            if self.held_out is None
            else tuple(choose(self.kinds, draws) for draws in self.held_out.swapaxes(0, 1))
        )

    def optimism(self) -> Effect:
        """How much better than the honest choice the best kind on the rows that are reported on looks, in points.

        For each seed, with all labels: accuracy of the kind that is best on its test rows, minus that of its choice.

        Raises:
            InputError: nothing was probed.
        """
        if self.efficiency is None:
            raise InputError(
                "optimism is of a choice by labels",
                got="a study without any",
                cure="give represent(X, y)",
            )
        most = int(self.efficiency.budgets[-1])
        best = np.max([self.efficiency.at(kind, most).mean(axis=1) for kind in self.kinds], axis=0)
        label = f"best on the test rows minus the choice, {most} labels"
        return effect(100 * (best - self._honest()), label, "points", bounds=PERCENT)

    def _honest(self) -> Float[np.ndarray, " seeds"]:
        """Test accuracy, with all labels, of the kind that each seed chose."""
        assert self.efficiency is not None
        at = {
            kind: self.efficiency.at(kind, int(self.efficiency.budgets[-1])).mean(axis=1)
            for kind in self.kinds
        }
        return np.array([at[kind][i] for i, kind in enumerate(self.choices)])

    @property
    def widening(self) -> float:
        """How much wider intervals would be over new labelled rows than over new splits of the same ones.

        Formula: ``sqrt(1 + n r)``, n seeds, r rows to report on by rows in the pool.

        Reference: Nadeau & Bengio, *Inference for the generalization error*, 2003.
        """
        _, _, pool, _, report = self.protocol.settings["shares"]
        return float((1 + len(self.protocol.seeds) * report / pool) ** 0.5)

    @property
    def findings(self) -> tuple[str, ...]:
        """What else is to be said: few labels, optimism, losses, and what was noticed in the data."""
        found = []
        if self.efficiency is not None:
            few, most = (int(self.efficiency.budgets[i]) for i in (0, -1))
            found.append(self._chosen_how())
            gain = self.efficiency.gain(self.chosen, labels=few).interval
            found.append(
                f"With {few} labels {self.chosen} gains {gain:+.1f} points over raw inputs."
            )
            looked = self.optimism().interval
            often = "Choosing a kind by the rows that are reported on, as is often done, would have"
            found.append(
                f"{often} looked {looked} points better with {most} labels: that is optimism, and is not in the "
                "numbers above."
                if looked.estimate > 0
                else f"{often} chosen alike with {most} labels: there is no optimism to tell."
            )
            found.append(self._kept())
            found.append(
                "Intervals are over weights and over splits of the same labelled rows; over new labelled rows they "
                f"would be about {self.widening:.1f} times as wide."
                if gain.is_known
                else f"There is {seeds_in_words(len(self.protocol.seeds))}."
            )
        for k, kind in enumerate(self.kinds):
            own = self.curves[kind].own
            start, best = own[:, 0].mean(), np.nanmin(own, axis=1).mean()
            found.append(
                f"{kind.capitalize()}: the validation error of what it is trained for fell to "
                f"{decimals(100 * best / start, '.0f')} % of its start; the effective rank of its codes is "
                f"{decimals(self.ranks[k].mean(), '.0f')}."
            )
        return (*found, *(f"Note: {note}." for note in self.notes))

    def _kept(self) -> str:
        """The kept probe and its accuracy, in a sentence."""
        assert self.probe is not None
        left_out = decimals(100 * self.probe.accuracy, ".1f")
        largest = decimals(100 * self.probe.majority, ".1f")
        return (
            f"The probe that is kept has C = {self.probe.strength:g}, chosen by accuracy on all {self.probe.labels} "
            f"labels; chosen and fitted in the same way without them, it predicts {left_out} % of labels that are left "
            f"out (the largest class is {largest} %)."
        )

    def _chosen_how(self) -> str:
        """What the choice rests on, in a sentence."""
        assert self.held_out is not None
        means = dict(zip(self.kinds, 100 * self.held_out.mean(axis=(1, 2)), strict=True))
        told = ", ".join(f"{kind} {decimals(mean, '.1f')} %" for kind, mean in means.items())
        if len(means) == 1:
            return f"On labels that were held out it reaches {told}; there was nothing to choose."
        best = max(means, key=lambda kind: means[kind])
        alone = self.choices.count(self.chosen)
        why = (
            "the best"
            if best == self.chosen
            else f"less than a standard error behind {best}, and then preferred"
        )
        return (
            f"On labels that were held out: {told}. {self.chosen.capitalize()} is {why}; {alone} of "
            f"{len(self.choices)} seeds choose it by themselves."
        )

    def table(self) -> "pd.DataFrame":
        """One row per representation and label count, as of :class:`~leadline.probing.LabelEfficiency`, where
        ``chosen`` is the share of :attr:`choices`, the same for all counts; without labels one row per kind, as of
        :meth:`losses`."""
        if self.efficiency is None:
            return self.losses()
        table = self.efficiency.table().drop(columns=["optimism", "optimism low", "optimism high"])
        share = {
            name: self.choices.count(name) / len(self.choices) for name in self.efficiency.names
        }
        return table.assign(chosen=table["representation"].map(share))

    def losses(self) -> "pd.DataFrame":
        """One row per kind, means over seeds: errors on held-out rows at the start and at their lowest, and ranks."""
        import pandas as pd

        curves = [self.curves[kind] for kind in self.kinds]
        return pd.DataFrame(
            {
                "kind": self.kinds,
                "clean error, start": [found.clean[:, 0].mean() for found in curves],
                "clean error, lowest": [np.nanmin(found.clean, axis=1).mean() for found in curves],
                "own error, start": [found.own[:, 0].mean() for found in curves],
                "own error, lowest": [np.nanmin(found.own, axis=1).mean() for found in curves],
                "effective rank": self.ranks.mean(1),
                "chosen": [kind == self.chosen for kind in self.kinds],
            }
        )

    def drawing(self) -> Drawing:
        """Return accuracy by label count; without labels, the training curves."""
        return self._training() if self.efficiency is None else self.efficiency.drawing()

    def training(self) -> "go.Figure":
        """Return the errors by epoch, as shares of those at the start; mean and range over seeds."""
        return interactive(self._training())

    def strip(self) -> "go.Figure | None":
        """Return held-out examples: clean, as shown to each kind, and as reconstructed.

        Returns:
            A figure, or None if the rows are not images.
        """
        if any(found.image_size is None for found in self.examples.values()):
            return None
        stages = {}
        for kind, found in self.examples.items():
            images = pictures(found)
            stages["input"] = images["input"]
            # A vanilla autoencoder is shown the input itself.
            if kind != "vanilla":
                stages[f"{kind}: shown"] = images["shown"]
            stages[f"{kind}: reconstructed"] = images["reconstructed"]
        title = "What the autoencoders are shown, and what they make of it"
        return interactive(image_strip(stages, title=title))

    def _training(self) -> Drawing:
        longest = max(found.own.shape[1] for found in self.curves.values())
        curves = {}
        for kind, found in self.curves.items():
            own = mean_and_range(_shares(found.own, longest))
            if kind == "vanilla":
                curves[kind] = own
                continue
            curves[f"{kind}, corrupted"] = own
            curves[f"{kind}, clean"] = mean_and_range(_shares(found.clean, longest))
        return bands(
            np.arange(longest),
            curves,
            title="Held-out rows",
            x_label="epoch",
            y_label="error, share of that at the start",
            yaxis_rangemode="tozero",
        )


def _shares(
    error: Float[np.ndarray, "seeds epochs"], length: int
) -> Float[np.ndarray, "seeds length"]:
    """Return the errors as shares of the first, with NaN after the last epoch up to ``length``."""
    missing = length - error.shape[1]
    return np.pad(error / error[:, :1], ((0, 0), (0, missing)), constant_values=np.nan)


def _percent(accuracy: Interval) -> str:
    """An accuracy with its unit; to one decimal where there is no interval to tell how many count."""
    return f"{accuracy if accuracy.is_known else decimals(accuracy.estimate, '.1f')} %"
