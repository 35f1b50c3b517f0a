"""The sounding of a study: the chosen kind, its worth, and its encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from leadline.autoencoders import Encoder, Examples, TrainingCurves, pictures
from leadline.errors import InputError
from leadline.figures import Drawing, bands, extended, image_strip, mean_and_range
from leadline.probing import LabelEfficiency
from leadline.representation._choice import choose
from leadline.representation._kept import KeptProbe
from leadline.representation._row_counts import RowCounts
from leadline.sounding import Interval, Sounding, Verdict, decimals
from leadline.statistics import (
    FEWEST_REPLICATES,
    PERCENT,
    POINTS,
    Effect,
    effect,
    interval_columns,
    over_seeds,
    paired_interval,
)
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.0, 0.0, 0.6, 0.15, 0.25)
"""Shares of the labelled rows, split anew for each seed.

The order is that of :class:`leadline.data.Roles`: two pretraining roles, which are empty, then the
probe pool, probe-validation rows and test rows.
"""


@record("representation.RepresentationStudy")
@dataclass(frozen=True, eq=False)
class RepresentationStudy(Sounding):
    """Autoencoders of several kinds on your own data, their worth, and the chosen encoder.

    Errors are squared errors per row of the autoencoders' input, in units of its spread.
    """

    kinds: tuple[str, ...]
    """The kinds of autoencoders that were pretrained."""
    chosen: str
    """The kind that all seeds together choose."""
    encoder: Encoder
    """The frozen encoder; it accepts rows in their given units and returns codes of unit spread."""
    origin: str
    """The rows that the encoder was pretrained on, in words."""
    probe: KeptProbe | None
    """The logistic regression on the codes: its C, chosen on all labels, and its cross-validated
    accuracy; ``None`` without labels."""
    efficiency: LabelEfficiency | None
    """Probes of all kinds, raw inputs, principal components and an untrained encoder; ``None``
    without labels."""
    held_out: Float[np.ndarray, "kinds seeds draws"] | None
    """Accuracies on held-out labels, by which each seed chooses a kind. They do not include the
    seed's test rows."""
    curves: Mapping[str, TrainingCurves]
    """Training curves of each kind: errors on held-out rows, a row for each seed."""
    ranks: Float[np.ndarray, "kinds seeds"]
    """Effective rank of the codes (RankMe)."""
    examples: Mapping[str, Examples]
    """A few rows or patches for each kind: clean, as the autoencoder's input, and reconstructed."""
    class_names: tuple[str, ...]
    """The names of the classes, in the order of their indices."""
    notes: tuple[str, ...]
    """Observations about the data, and what was done about them."""
    shares: tuple[float, ...] = SHARES
    """Share of the labelled rows in each role, in the order of :class:`leadline.data.Roles`."""
    view: str | None = None
    """Input of the autoencoders, ``"whole rows"`` or ``"patches"``; ``None`` in files of 0.1."""
    row_counts: RowCounts | None = None
    """Numbers of rows for pretraining, training, validation and test; ``None`` in files of 0.1."""

    @property
    def verdict(self) -> Verdict:
        """The gain of the choice over raw inputs with the largest label count.

        At most ``row_counts.training`` of the labels train a probe: the others choose a kind and
        measure the accuracy. Without labels, it is the kind with the largest effective rank.
        """
        if self.efficiency is None:
            rank = decimals(self.ranks[self.kinds.index(self.chosen)].mean(), ".0f")
            return Verdict(
                f"nothing was probed, because no row has a label; {self.chosen} has the largest "
                f"effective rank, {rank}"
            )
        most = self._most
        accuracy = decimals(self.accuracy().estimate, ".1f")
        raw = decimals(self.efficiency.interval("raw", most).estimate, ".1f")
        of_all = "" if self.row_counts is None else f" of {self.row_counts.labelled}"
        return Verdict(
            f"{self.chosen} is chosen; the choice gains {self._gain(most):+.1f} points over raw "
            f"inputs with {most}{of_all} labels {over_seeds(self._num_seeds)}: "
            f"{accuracy} % against {raw} %"
        )

    @property
    def strength(self) -> float | None:
        """C of the kept probe, for scikit-learn's ``LogisticRegression`` on the codes.

        It is ``None`` without labels.
        """
        return None if self.probe is None else self.probe.strength

    def accuracy(self) -> Interval:
        """Return the mean test accuracy of each seed's choice, with all labels, in percent.

        Raises:
            InputError: the study has no labels.
        """
        self._require_labels("accuracy")
        return paired_interval(100 * self._honest(self._most), bounds=PERCENT)

    @property
    def choices(self) -> tuple[str, ...]:
        """The kind that each seed chooses on its own by held-out labels; empty without labels."""
        if self.held_out is None:
            return ()
        return tuple(choose(self.kinds, draws) for draws in self.held_out.swapaxes(0, 1))

    def optimism(self) -> Effect:
        """Return how much a choice made on the test rows overstates the accuracy, in points.

        For each seed, this is the accuracy of the kind that is best on its test rows, minus that of
        its own choice, with all labels.

        Raises:
            InputError: the study has no labels.
        """
        efficiency = self._require_labels("optimism")
        most = self._most
        best = np.max([efficiency.at(kind, most).mean(axis=1) for kind in self.kinds], axis=0)
        label = f"best on the test rows minus the choice, {most} labels"
        return effect(100 * (best - self._honest(most)), label, "points", bounds=PERCENT)

    @property
    def widening(self) -> float:
        """Factor by which intervals would be wider for new labelled rows than for new splits.

        Formula: ``sqrt(1 + n r)`` with n seeds and r test rows per row of the probe pool.

        Reference: Nadeau & Bengio, *Inference for the generalization error*, 2003.
        """
        _, _, pool, _, test = self.shares
        return float((1 + self._num_seeds * test / pool) ** 0.5)

    @property
    def findings(self) -> tuple[str, ...]:
        """Sentences about the rows, the encoder, the choice, training, and the data."""
        origin = f"{self.origin[:1].upper()}{self.origin[1:]}."
        notes = tuple(f"Note: {note}." for note in self.notes)
        rows = ()
        if self.row_counts is not None:
            rows = (f"{self.row_counts}.",)
        return (origin, *rows, *self._label_findings(), *self._training_findings(), *notes)

    def _label_findings(self) -> tuple[str, ...]:
        """Return sentences about the choice and the probes; nothing without labels."""
        if self.efficiency is None:
            return ()
        fewest = int(self.efficiency.budgets[0])
        most = self._most
        gain = self.efficiency.gain(self.chosen, labels=fewest).interval
        optimism = self.optimism().interval
        choice = "Choosing a kind on the test rows would"
        if optimism.estimate > 0:
            overstated = f"{choice} overstate the accuracy with {most} labels by {optimism} points."
        else:
            overstated = f"{choice} not overstate the accuracy with {most} labels."
        if gain.is_known:
            coverage = (
                "Intervals cover new weights and new splits of the same labelled rows; for new "
                f"labelled rows they would be about {self.widening:.1f} times as wide."
            )
        else:
            coverage = (
                f"There are no intervals: {self._num_seeds} seeds, and an interval needs "
                f"{FEWEST_REPLICATES}."
            )
        return (
            self._choice_sentence(),
            f"With {fewest} labels {self.chosen} gains {gain:+.1f} points over raw inputs.",
            overstated,
            self._probe_sentence(),
            coverage,
        )

    def _training_findings(self) -> tuple[str, ...]:
        """Return a sentence about the training of each kind."""
        sentences = []
        for k, kind in enumerate(self.kinds):
            losses = self.curves[kind].own
            share = 100 * np.nanmin(losses, axis=1).mean() / losses[:, 0].mean()
            rank = decimals(self.ranks[k].mean(), ".0f")
            sentences.append(
                f"{kind.capitalize()}: its own validation loss fell to {decimals(share, '.0f')} % "
                f"of the initial one; the effective rank of its codes is {rank}."
            )
        return tuple(sentences)

    def _probe_sentence(self) -> str:
        """Return a sentence about the kept probe and its cross-validated accuracy."""
        assert self.probe is not None
        accuracy = decimals(100 * self.probe.accuracy, ".1f")
        largest = decimals(100 * self.probe.majority, ".1f")
        return (
            f"The kept probe has C = {self.probe.strength:g}, chosen by accuracy on all "
            f"{self.probe.labels} labels; in cross-validation this choice predicts {accuracy} % of "
            f"labels correctly (largest class {largest} %)."
        )

    def _choice_sentence(self) -> str:
        """Return a sentence about the held-out accuracies and the choice."""
        assert self.held_out is not None
        means = dict(zip(self.kinds, 100 * self.held_out.mean(axis=(1, 2)), strict=True))
        listed = ", ".join(f"{kind} {decimals(mean, '.1f')} %" for kind, mean in means.items())
        if len(means) == 1:
            return f"Accuracy on held-out labels: {listed}; it is the only kind."
        best = max(means, key=lambda kind: means[kind])
        if best == self.chosen:
            reason = "has the best mean"
        else:
            reason = f"is less than a standard error behind {best}, and therefore preferred"
        agreeing = self.choices.count(self.chosen)
        return (
            f"Accuracy on held-out labels: {listed}. {self.chosen.capitalize()} {reason}; "
            f"{agreeing} of {len(self.choices)} seeds choose it on their own."
        )

    def table(self) -> "pd.DataFrame":
        """Return a table with one row per representation and label count.

        The columns are those of :meth:`LabelEfficiency.table <leadline.probing.LabelEfficiency>`
        without ``optimism``. ``chosen`` is the share of :attr:`choices`, equal for all label
        counts. ``choice`` and ``choice gain`` are the accuracy of each seed's choice (percent) and
        its gain over raw inputs (points), with 95 % intervals, equal for all representations.
        Without labels the table is that of :meth:`losses`.
        """
        import pandas as pd

        if self.efficiency is None:
            return self.losses()
        table = self.efficiency.table().drop(columns=["optimism", "optimism low", "optimism high"])
        shares = {
            name: self.choices.count(name) / len(self.choices) for name in self.efficiency.names
        }
        table["chosen"] = table["representation"].map(shares)
        columns = {}
        for labels in self.efficiency.budgets.tolist():
            accuracy = paired_interval(100 * self._honest(labels), bounds=PERCENT)
            columns[labels] = {
                **interval_columns("choice", accuracy),
                **interval_columns("choice gain", self._gain(labels)),
            }
        choice = pd.DataFrame([columns[labels] for labels in table["labels"]])
        return pd.concat([table, choice], axis=1)

    def losses(self) -> "pd.DataFrame":
        """Return a table with one row per kind, as means over seeds.

        Columns: errors on held-out rows at the start and at their lowest, on clean rows and on the
        kind's own corrupted rows; the effective rank; and whether the kind was chosen.
        """
        import pandas as pd

        rows = []
        for k, kind in enumerate(self.kinds):
            curves = self.curves[kind]
            rows.append(
                {
                    "kind": kind,
                    "clean error, start": curves.clean[:, 0].mean(),
                    "clean error, lowest": np.nanmin(curves.clean, axis=1).mean(),
                    "own error, start": curves.own[:, 0].mean(),
                    "own error, lowest": np.nanmin(curves.own, axis=1).mean(),
                    "effective rank": self.ranks[k].mean(),
                    "chosen": kind == self.chosen,
                }
            )
        return pd.DataFrame(rows)

    def drawing(self) -> Drawing:
        """Return accuracy by label count; without labels, the training curves."""
        if self.efficiency is None:
            return self.training_drawing()
        drawing = self.efficiency.drawing()
        if self.row_counts is None:
            return drawing
        most = min(self.row_counts.training)
        label = f"labels that train the probe, at most {most} of {self.row_counts.labelled}"
        return extended(drawing, xaxis_title_text=label)

    def training_drawing(self) -> Drawing:
        """Return the errors on held-out rows by epoch, as shares of the initial ones.

        The curves are means over seeds, in bands from the smallest to the largest value.
        """
        longest = max(curves.own.shape[1] for curves in self.curves.values())
        bands_of_kinds = {}
        for kind, curves in self.curves.items():
            corrupted = mean_and_range(_shares(curves.own, longest))
            if kind == "vanilla":
                bands_of_kinds[kind] = corrupted
                continue
            bands_of_kinds[f"{kind}, corrupted"] = corrupted
            bands_of_kinds[f"{kind}, clean"] = mean_and_range(_shares(curves.clean, longest))
        return bands(
            np.arange(longest),
            bands_of_kinds,
            title="Reconstruction error on held-out rows",
            x_label="epoch",
            y_label="error, share of that at the start",
            yaxis_rangemode="tozero",
        )

    def examples_drawing(self) -> Drawing | None:
        """Return examples: clean, as the input of each kind, and as reconstructed.

        Returns:
            A drawing, or ``None`` if the rows are not images.
        """
        if any(examples.image_size is None for examples in self.examples.values()):
            return None
        stages = {}
        for kind, examples in self.examples.items():
            images = pictures(examples)
            stages["input"] = images["input"]
            # A vanilla autoencoder is shown the input itself.
            if kind != "vanilla":
                stages[f"{kind}: shown"] = images["shown"]
            stages[f"{kind}: reconstructed"] = images["reconstructed"]
        return image_strip(stages, title="Inputs and reconstructions of the autoencoders")

    @property
    def _most(self) -> int:
        """The largest label count."""
        assert self.efficiency is not None
        return int(self.efficiency.budgets[-1])

    @property
    def _num_seeds(self) -> int:
        """The number of seeds."""
        return len(self.protocol.seeds)

    def _require_labels(self, caller: str) -> LabelEfficiency:
        """Return the probes, or refuse a study without labels."""
        if self.efficiency is None:
            raise InputError(
                f"{caller}() needs a study with labels",
                got="a study without labels",
                cure="call represent(X, y)",
            )
        return self.efficiency

    def _honest(self, labels: int) -> Float[np.ndarray, " seeds"]:
        """Return the test accuracy of each seed's choice."""
        assert self.efficiency is not None
        accuracies = {kind: self.efficiency.at(kind, labels).mean(axis=1) for kind in self.kinds}
        return np.array([accuracies[kind][i] for i, kind in enumerate(self.choices)])

    def _gain(self, labels: int) -> Interval:
        """Return the gain of each seed's choice over raw inputs, in points."""
        assert self.efficiency is not None
        raw = self.efficiency.at("raw", labels).mean(axis=1)
        return paired_interval(100 * (self._honest(labels) - raw), bounds=POINTS)


def _shares(
    error: Float[np.ndarray, "seeds epochs"], length: int
) -> Float[np.ndarray, "seeds length"]:
    """Return the errors as shares of the first, with NaN after the last epoch up to ``length``."""
    missing = length - error.shape[1]
    return np.pad(error / error[:, :1], ((0, 0), (0, missing)), constant_values=np.nan)
