"""The sounding of label efficiency: scores by label count, gains, and label multipliers."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from leadline import checks
from leadline.errors import InputError
from leadline.figures import NEUTRAL, Drawing, bands, extended, rule
from leadline.probing.studies._open_intervals import is_uninformative, positive_in_words
from leadline.sounding import Interval, Sounding, Verdict, decimals
from leadline.statistics import (
    PERCENT,
    POINTS,
    UNBOUNDED,
    Bounds,
    Effect,
    effect,
    interval_columns,
    over_seeds,
    paired_interval,
    zero_crossing,
)
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

BASELINES = ("raw", "pca", "untrained")
"""Names of the representations that a study adds to the given encoders."""

Measure = Literal["accuracy", "R²"]
"""Score of a probe: the share of correct answers, or the share of a quantity's variance that is
explained."""

SCORES: dict[Measure, Bounds] = {"accuracy": PERCENT, "R²": (-math.inf, 100.0)}
"""Possible values of a score, in percent."""

GAINS: dict[Measure, Bounds] = {"accuracy": POINTS, "R²": UNBOUNDED}
"""Possible differences of two scores, in points."""


@record("probing.LabelEfficiency")
@dataclass(frozen=True, eq=False)
class LabelEfficiency(Sounding):
    """Scores of linear probes on frozen representations, by seed, label count and label subset.

    Scores are accuracies. For a quantity they are R², the share of its variance that is explained.
    """

    names: tuple[str, ...]
    """The representations, in the order of the first axis."""
    sizes: tuple[int, ...]
    """Number of features of each representation."""
    budgets: Int[np.ndarray, " budgets"]
    """Label counts, ascending."""
    accuracy: Float[np.ndarray, "encoders seeds budgets subsets"]
    """Score on the test rows, at most 1. All representations share the label subsets, so that
    differences are paired."""
    validation_accuracy: Float[np.ndarray, "encoders seeds budgets subsets"]
    """Score on the probe-validation rows, which only serves to choose a representation."""
    strengths: Float[np.ndarray, "encoders seeds budgets subsets"]
    """C of each probe, chosen from its labels."""
    rank_me: Float[np.ndarray, "encoders seeds"]
    """Effective rank of the codes of the pretraining rows, see
    :func:`~leadline.probing.rank_me`. It needs no labels, and may or may not predict the scores."""
    measure: Measure = "accuracy"
    """The kind of score."""
    majority: Float[np.ndarray, " seeds"] | None = None
    """Share of the most frequent class in each test role, the accuracy of always predicting it;
    ``None`` for R²."""

    def at(self, name: str, labels: int | None = None) -> Float[np.ndarray, "seeds subsets"]:
        """Return the test scores of one representation, at most 1.

        Args:
            name: a representation in :attr:`names`.
            labels: a label count in :attr:`budgets`; by default the smallest.

        Raises:
            InputError: the name or the label count was not measured.
        """
        return self.accuracy[self._place(name), :, self._budget(labels)]

    def interval(self, name: str, labels: int | None = None) -> Interval:
        """Return the mean score over seeds in percent, with its 95 % interval.

        The arguments are those of :meth:`at`.
        """
        return paired_interval(100 * self.at(name, labels), bounds=SCORES[self.measure])

    def gain(self, name: str, over: str = "raw", labels: int | None = None) -> Effect:
        """Return the paired difference of two representations in points.

        Args:
            name: a representation in :attr:`names`.
            over: the representation that is subtracted.
            labels: a label count in :attr:`budgets`; by default the smallest.
        """
        labels = self._labels(labels)
        difference = 100 * (self.at(name, labels) - self.at(over, labels))
        return effect(
            difference,
            f"{name} minus {over}, {labels} labels",
            "points",
            bounds=GAINS[self.measure],
        )

    def gain_shrinks(self, name: str, over: str = "raw") -> Effect:
        """Return the gain with the fewest labels minus the gain with the most, in points."""
        fewest, most = self._fewest_and_most
        gain_at_fewest = 100 * (self.at(name, fewest) - self.at(over, fewest))
        gain_at_most = 100 * (self.at(name, most) - self.at(over, most))
        label = f"gain of {name} over {over} at {fewest} labels minus the gain at {most}"
        lowest, highest = GAINS[self.measure]
        bounds = (2 * lowest, 2 * highest)
        return effect(gain_at_fewest - gain_at_most, label, "points", bounds=bounds)

    def crossing(self, name: str, over: str = "raw", level: float = 0.95) -> Interval:
        """Return the label count at which the curves of two representations meet.

        Curves are straight between label counts on a logarithmic axis. The estimate is the first
        crossing of the mean curves: ``inf`` if ``name`` leads at all counts, and 0 if it never
        leads. Fieller's interval over seeds is open (0 or ``inf``) on a side where the last label
        count does not separate the curves. All seeds count, whether or not their own curves cross;
        see :func:`leadline.statistics.zero_crossing`.
        """
        return self._label_count(self._curve(over) - self._curve(name), level)

    def multiplier(
        self, name: str, over: str = "raw", labels: int | None = None, level: float = 0.95
    ) -> Interval:
        """Return how many times as many labels ``over`` needs to match ``name``.

        Formula: ``n / labels``, where the curve of ``over`` reaches the score that ``name`` has
        with ``labels`` labels at n labels. The estimate and its interval are read as in
        :meth:`crossing`; ``inf`` means that ``over`` does not match ``name`` with any label count.
        """
        labels = self._labels(labels)
        reached = self.at(name, labels)[:, None]
        count = self._label_count(self._curve(over) - reached, level)
        return Interval(count.estimate / labels, count.low / labels, count.high / labels, level)

    @property
    def candidates(self) -> tuple[str, ...]:
        """The representations without the baselines, or the baselines if there are no others."""
        return tuple(name for name in self.names if name not in BASELINES) or self.names

    @property
    def chosen(self) -> str:
        """The candidate with the best mean validation score at the fewest labels."""
        means = self.validation_accuracy[:, :, 0].mean(axis=(1, 2))
        return max(self.candidates, key=lambda name: means[self.names.index(name)])

    def choices(self, labels: int | None = None) -> tuple[str, ...]:
        """Return the candidate with the best validation score of each seed."""
        best = self._validation(labels).argmax(axis=0)
        return tuple(self.candidates[i] for i in best)

    def honest(self, labels: int | None = None) -> Interval:
        """Return the mean test score of each seed's choice (:meth:`choices`) in percent."""
        return paired_interval(100 * self._chosen_at(labels)[0], bounds=SCORES[self.measure])

    def optimism(self, labels: int | None = None) -> Effect:
        """Return how much a choice made on the test rows overstates the score, in points.

        For each seed, this is the test score of the candidate that is best on the test rows, minus
        that of the candidate that the validation rows choose. It is never negative, and 0 if both
        are the same candidate.

        Reference: Cawley & Talbot, *On over-fitting in model selection and subsequent selection
        bias in performance evaluation*, 2010.
        """
        labels = self._labels(labels)
        honest, best = self._chosen_at(labels)
        label = f"best on the test rows minus the honest choice, {labels} labels"
        bounds = (0.0, GAINS[self.measure][1])
        return effect(100 * (best - honest), label, "points", bounds=bounds)

    @property
    def verdict(self) -> Verdict:
        """The gain of the chosen representation over raw inputs with the fewest labels."""
        fewest, _ = self._fewest_and_most
        seeds = over_seeds(self.accuracy.shape[1])
        raw = decimals(self.interval("raw", fewest).estimate, ".1f")
        unit = "%" if self.measure == "accuracy" else "% of the variance"
        largest = ""
        if self.majority is not None:
            share = decimals(100 * float(np.mean(self.majority)), ".1f")
            largest = f", largest class {share} %"
        if self.chosen == "raw":
            return Verdict(
                f"raw inputs reach {raw} {unit} with {fewest} labels {seeds}; "
                f"no candidate does better on the validation rows{largest}"
            )
        accuracy = decimals(self.interval(self.chosen, fewest).estimate, ".1f")
        gain = self.gain(self.chosen, labels=fewest).interval
        return Verdict(
            f"{self.chosen} gains {gain:+.1f} points over raw inputs with {fewest} labels {seeds}: "
            f"{accuracy} % against {raw} {unit}{largest}"
        )

    @property
    def findings(self) -> tuple[str, ...]:
        """Sentences about more labels, the label multiplier, the crossing and the optimism."""
        fewest, most = self._fewest_and_most
        name = self.chosen
        sentences = []
        if name != "raw":
            if most != fewest:
                gain = self.gain(name, labels=most).interval
                sentences.append(
                    f"With {most} labels {name} gains {gain:+.1f} points over raw inputs."
                )
            sentences.append(self.multiplier_sentence(name))
            sentences.append(self.crossing_sentence(name))
        if len(self.candidates) > 1:
            optimism = self.optimism(fewest).interval
            choice = f"Choosing among {len(self.candidates)} candidates on the test rows would"
            if optimism.estimate > 0:
                sentences.append(
                    f"{choice} overstate the score with {fewest} labels by {optimism:.1f} points."
                )
            else:
                sentences.append(f"{choice} not overstate the score with {fewest} labels.")
        return tuple(sentences)

    def multiplier_sentence(self, name: str) -> str:
        """Return a sentence about how many more labels raw inputs need than ``name``."""
        labels = self._labels(None)
        multiplier = self.multiplier(name)
        if is_uninformative(multiplier):
            return (
                f"The seeds do not determine how many more labels raw inputs need to match {name} "
                f"with {labels} labels."
            )
        return (
            f"Raw inputs need {positive_in_words(multiplier, '.1f')} times as many labels to match "
            f"{name} with {labels} labels."
        )

    def crossing_sentence(self, name: str) -> str:
        """Return a sentence about the label count at which ``name`` and raw inputs meet."""
        crossing = self.crossing(name)
        if is_uninformative(crossing):
            return f"The seeds do not determine where the curves of {name} and raw inputs meet."
        labels = positive_in_words(crossing, ".0f")
        return f"The curves of {name} and raw inputs meet at {labels} labels."

    def table(self) -> "pd.DataFrame":
        """Return a table with one row per representation and label count.

        Columns, of which the first four have 95 % intervals (``low``, ``high``):

        - ``accuracy``: score in percent;
        - ``gain``: gain over raw inputs, in points;
        - ``multiplier``: how many times as many labels raw inputs need for the same score;
        - ``optimism``: optimism of a choice on the test rows at this label count, in points;
        - ``RankMe``: effective rank of the codes;
        - ``chosen``: share of seeds whose validation rows choose this representation;
        - ``largest class``: share of the largest class of the test rows, in percent.

        The ends of intervals are NaN if there are fewer than three seeds.
        """
        import pandas as pd

        rows = []
        for i, name in enumerate(self.names):
            for labels in self.budgets.tolist():
                row: dict[str, Any] = {
                    "representation": name,
                    "features": self.sizes[i],
                    "labels": labels,
                    **interval_columns("accuracy", self.interval(name, labels)),
                    **interval_columns("gain", self.gain(name, labels=labels).interval),
                    **interval_columns("multiplier", self.multiplier(name, labels=labels)),
                    **interval_columns("optimism", self.optimism(labels).interval),
                    "RankMe": self.rank_me[i].mean(),
                    "chosen": self.choices(labels).count(name) / self.accuracy.shape[1],
                }
                if self.majority is not None:
                    row["largest class"] = 100 * self.majority.mean()
                rows.append(row)
        return pd.DataFrame(rows)

    def drawing(self) -> Drawing:
        """Return accuracy by label count with 95 % intervals over seeds; baselines are grey."""
        curves = {name: self._ends(name) for name in self.names}
        drawn = np.stack([end for curve in curves.values() for end in curve])
        if self.majority is not None:
            drawn = np.append(drawn, 100 * self.majority.mean())
        is_accuracy = self.measure == "accuracy"
        # An unknown interval has NaN ends. An R² may be far below zero; the axis stops at -100 %.
        bottom = max(np.nanmin(drawn), 0.0 if is_accuracy else -100.0)
        top = min(np.nanmax(drawn), 100.0)
        margin = 0.04 * (top - bottom) or 1.0
        drawing = bands(
            self.budgets,
            curves,
            title=f"{'Test accuracy' if is_accuracy else 'R²'} by number of labels",
            yaxis_range=[bottom - margin, top + margin],
            x_label="number of labels",
            y_label="test accuracy, %" if is_accuracy else "variance explained, test rows, %",
            log_x=True,
            baselines=[name for name in self.names if name in BASELINES],
        )
        if not all(np.isfinite(low).all() for _, low, _ in curves.values()):
            for trace in drawing["data"]:
                if trace["mode"] == "lines+markers":
                    trace["hovertemplate"] = "%{y:.3g}"
        if self.majority is None:
            return drawing
        return extended(drawing, **largest_class_line(self.majority))

    def _ends(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return estimate, low and high by label count, in percent."""
        intervals = [self.interval(name, labels) for labels in self.budgets.tolist()]
        estimate = np.array([interval.estimate for interval in intervals])
        low = np.array([interval.low for interval in intervals])
        high = np.array([interval.high for interval in intervals])
        return estimate, low, high

    @property
    def _fewest_and_most(self) -> tuple[int, int]:
        """The smallest and the largest label count."""
        return int(self.budgets[0]), int(self.budgets[-1])

    def _curve(self, name: str) -> Float[np.ndarray, "seeds budgets subsets"]:
        return self.accuracy[self._place(name)]

    def _validation(self, labels: int | None) -> Float[np.ndarray, "candidates seeds"]:
        """Return the mean validation score of each candidate and seed."""
        rows = [self._place(name) for name in self.candidates]
        return self.validation_accuracy[rows, :, self._budget(labels)].mean(axis=2)

    def _chosen_at(
        self, labels: int | None
    ) -> tuple[Float[np.ndarray, " seeds"], Float[np.ndarray, " seeds"]]:
        """Return each seed's test score of its honest choice, and its best test score."""
        scores = np.stack([self.at(name, labels).mean(axis=1) for name in self.candidates])
        choice = self._validation(labels).argmax(axis=0)
        honest = np.take_along_axis(scores, choice[None], axis=0)[0]
        return honest, scores.max(axis=0)

    def _label_count(
        self, rising: Float[np.ndarray, "seeds budgets subsets"], level: float
    ) -> Interval:
        """Return the label count at which rising curves cross zero."""
        crossing = zero_crossing(np.log(self.budgets), rising, level)
        # exp(log(n)) misses n by a rounding error, so measured counts are looked up.
        exact = {math.log(n): float(n) for n in self.budgets.tolist()}

        def count(log_count: float) -> float:
            return exact.get(log_count, math.exp(log_count))

        return Interval(
            count(crossing.estimate), count(crossing.low), count(crossing.high), level=level
        )

    def _labels(self, labels: int | None) -> int:
        """Return a label count that was measured; by default the smallest."""
        return int(self.budgets[self._budget(labels)])

    def _place(self, name: str) -> int:
        """Return the index of a representation."""
        if not isinstance(name, str) or name not in self.names:
            raise InputError(
                "the representation was not measured",
                got=checks.shown(name),
                cure=f"use one of {', '.join(self.names)}",
            )
        return self.names.index(name)

    def _budget(self, labels: int | None) -> int:
        """Return the index of a label count; by default that of the smallest."""
        if labels is None:
            return 0
        labels = checks.whole_number(labels, "labels")
        if labels not in self.budgets:
            known = ", ".join(map(str, self.budgets.tolist()))
            raise InputError(
                "the label count was not measured",
                got=f"labels = {labels}",
                cure=f"use one of {known}",
            )
        return self.budgets.tolist().index(labels)


def largest_class_line(majority: np.ndarray) -> dict[str, Any]:
    """Return a thin line at the accuracy of always predicting the largest class, as layout."""
    share = 100 * float(np.mean(majority))
    text = f"largest class {decimals(share, '.1f')} %"
    note = {"text": text, "font": {"size": 11, "color": NEUTRAL}}
    return rule(y=share, colour=NEUTRAL, width=1, dash="dot", note=note)
