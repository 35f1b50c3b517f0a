"""What a study of label efficiency found: accuracies by label count, and what follows from them."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from leadline import checks
from leadline.errors import InputError
from leadline.figures import NEUTRAL, Drawing, bands, extended, rule
from leadline.sounding import Interval, Sounding, Verdict, decimals
from leadline.statistics import (
    FEWEST_REPLICATES,
    PERCENT,
    POINTS,
    UNBOUNDED,
    Bounds,
    Effect,
    effect,
    no_interval,
    paired_interval,
    zero_crossing,
)
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

BASELINES = ("raw", "pca", "untrained")
"""Names of the representations that a study holds beside those given."""

Measure = Literal["accuracy", "R²"]
"""What probes are measured by: the share of right answers, or of a quantity's variance that is explained."""

SCORES: dict[Measure, Bounds] = {"accuracy": PERCENT, "R²": (-math.inf, 100.0)}
"""Possible values of a measure, in percent."""

GAINS: dict[Measure, Bounds] = {"accuracy": POINTS, "R²": UNBOUNDED}
"""Possible differences of two values of a measure, in points."""


@record("probing.LabelEfficiency")
@dataclass(frozen=True, eq=False)
class LabelEfficiency(Sounding):
    """Accuracies of linear probes on frozen representations: (encoders, seeds, budgets, subsets), in [0, 1].

    Of a quantity the R² stands in place of the accuracy, and everything is said of percent of variance explained.
    """

    names: tuple[str, ...]
    """The representations, in the order of the first axis."""
    sizes: tuple[int, ...]
    """Features of each."""
    budgets: Int[np.ndarray, " budgets"]
    """Label counts, ascending."""
    accuracy: Float[np.ndarray, "encoders seeds budgets subsets"]
    """On the test role. All representations share the label subsets, so that differences are paired."""
    validation_accuracy: Float[np.ndarray, "encoders seeds budgets subsets"]
    """On the probe-validation role: only to choose between representations."""
    strengths: Float[np.ndarray, "encoders seeds budgets subsets"]
    """C of each probe, chosen inside its labels."""
    rank_me: Float[np.ndarray, "encoders seeds"]
    """Effective rank of the codes of the pretraining rows, told without labels: see :func:`~leadline.probing.rank_me`.
    A hypothesis beside the accuracies."""
    measure: Measure = "accuracy"
    """What ``accuracy`` holds."""
    majority: Float[np.ndarray, " seeds"] | None = None
    """Share of the most frequent class in each test role: the accuracy of always predicting it; ``None`` for R²."""

    def at(self, name: str, labels: int | None = None) -> Float[np.ndarray, "seeds subsets"]:
        """Test accuracies of one representation, in [0, 1]; at the fewest labels by default.

        Raises:
            InputError: a name or a budget that was not measured.
        """
        return self.accuracy[self._place(name), :, self._budget(labels)]

    def interval(self, name: str, labels: int | None = None) -> Interval:
        """Mean accuracy over seeds, in percent, with its 95 % interval; at the fewest labels by default."""
        return paired_interval(100 * self.at(name, labels), bounds=SCORES[self.measure])

    def gain(self, name: str, over: str = "raw", labels: int | None = None) -> Effect:
        """Paired difference of two representations, in points of accuracy; at the fewest labels by default."""
        labels = self._labels(labels)
        difference = 100 * (self.at(name, labels) - self.at(over, labels))
        return effect(
            difference,
            f"{name} minus {over}, {labels} labels",
            "points",
            bounds=GAINS[self.measure],
        )

    def gain_shrinks(self, name: str, over: str = "raw") -> Effect:
        """How much larger the gain is at the fewest labels than at the most, in points of accuracy."""
        few, many = (int(self.budgets[i]) for i in (0, -1))
        gains = [100 * (self.at(name, labels) - self.at(over, labels)) for labels in (few, many)]
        label = f"gain of {name} over {over} at {few} labels minus the gain at {many}"
        lowest, highest = GAINS[self.measure]
        return effect(gains[0] - gains[1], label, "points", bounds=(2 * lowest, 2 * highest))

    def crossing(self, name: str, over: str = "raw", level: float = 0.95) -> Interval:
        """Label count at which the curve of ``name`` meets that of ``over``, with Fieller's interval over seeds.

        Curves are straight between budgets on a logarithmic axis; the first crossing of the mean curves is the
        estimate. Where they do not meet, it is ``inf`` if ``name`` leads all along, and 0 if it trails. The interval is
        open (0, ``inf``) at a side where the curves are not told apart at the last budget of that side. All seeds
        count, whether or not their own curves cross: see :func:`leadline.statistics.zero_crossing`.
        """
        return self._label_count(self._curve(over) - self._curve(name), level)

    def multiplier(
        self, name: str, over: str = "raw", labels: int | None = None, level: float = 0.95
    ) -> Interval:
        """How many times as many labels ``over`` needs for what ``name`` reaches with ``labels`` (the fewest).

        Formula: ``n / labels``, n being where the curve of ``over`` passes the accuracy of ``name`` at ``labels``, read
        and given an interval as in :meth:`crossing`: ``inf`` where ``over`` does not reach it with any label count.
        """
        labels = self._labels(labels)
        reached = self.at(name, labels)[:, None]
        found = self._label_count(self._curve(over) - reached, level)
        return Interval(found.estimate / labels, found.low / labels, found.high / labels, level)

    @property
    def candidates(self) -> tuple[str, ...]:
        """What is chosen from: the representations, baselines aside, or the baselines where there is nothing else."""
        return tuple(name for name in self.names if name not in BASELINES) or self.names

    @property
    def chosen(self) -> str:
        """The candidate that does best on the probe-validation role at the fewest labels, over all seeds."""
        means = self.validation_accuracy[:, :, 0].mean(axis=(1, 2))
        return max(self.candidates, key=lambda name: means[self.names.index(name)])

    def choices(self, labels: int | None = None) -> tuple[str, ...]:
        """For each seed the candidate that does best on its probe-validation role; at the fewest labels by default."""
        best = self._validation(labels).argmax(axis=0)
        return tuple(self.candidates[i] for i in best)

    def honest(self, labels: int | None = None) -> Interval:
        """Test accuracy of each seed's honest choice (see :meth:`choices`), in percent, with its 95 % interval."""
        return paired_interval(100 * self._chosen_at(labels)[0], bounds=SCORES[self.measure])

    def optimism(self, labels: int | None = None) -> Effect:
        """How much a choice made on the test rows would have overstated, in points; at the fewest labels by default.

        For each seed: accuracy of the candidate that is best on the test role, minus that of the candidate which the
        probe-validation role chooses. Never negative: 0 where both choose alike.

        Reference: Cawley & Talbot, *On over-fitting in model selection and subsequent selection bias in performance
        evaluation*, 2010.
        """
        labels = self._labels(labels)
        honest, best = self._chosen_at(labels)
        label = f"best on the test rows minus the honest choice, {labels} labels"
        return effect(100 * (best - honest), label, "points", bounds=(0.0, GAINS[self.measure][1]))

    @property
    def over_seeds(self) -> str:
        """The number of seeds as the end of a clause: ``"over 12 seeds"``, or ``"(no interval: 2 seeds)"``."""
        words = seeds_in_words(self.accuracy.shape[1])
        return f"({words})" if words.startswith("no ") else f"over {words}"

    @property
    def largest_class(self) -> str:
        """The share of the largest class as a clause of a sentence; nothing for a quantity."""
        return "" if self.majority is None else largest_class(self.majority)

    @property
    def verdict(self) -> Verdict:
        """What the chosen representation gains over raw inputs, in points and in labels, and the study's optimism."""
        name = self.chosen
        few, many = (int(self.budgets[i]) for i in (0, -1))
        reaches, percent = (
            ("reaches", "%") if self.measure == "accuracy" else ("explains", "% of the variance")
        )
        own, raw = self.interval(name, few).estimate, self.interval("raw", few).estimate
        parts = [
            f"{name} {reaches} {decimals(own, '.1f')} {percent} with {few} labels where raw inputs "
            f"{'reach' if self.measure == 'accuracy' else 'explain'} {decimals(raw, '.1f')} %{self.largest_class}: "
            f"{self.gain(name, labels=few).interval:+.1f} points {self.over_seeds}",
        ]
        if many != few:
            parts.append(f"with {many} labels {self.gain(name, labels=many).interval:+.1f} points")
        parts += [
            f"for what {few} labels give, {needs('raw inputs need', self.multiplier(name))}",
            meets("the curves", self.crossing(name)),
        ]
        if len(self.candidates) > 1:
            claimed, choosing = (
                self.optimism(few).interval,
                f"choosing among {len(self.candidates)} on the test rows",
            )
            parts.append(
                f"{choosing} would have claimed {claimed:.1f} points too much"
                if claimed.estimate > 0
                else f"{choosing} would have chosen alike"
            )
        return Verdict("; ".join(parts))

    def table(self) -> "pd.DataFrame":
        """One row per representation and label count.

        Columns: ``accuracy`` and its 95 % interval (percent), ``gain`` over raw inputs and its 95 % interval (points),
        ``multiplier``: how many times as many labels raw inputs need for the same, with its 95 % interval, ``RankMe``
        (directions in use, told without labels), ``chosen``: share of seeds whose probe-validation role chooses this
        representation, ``optimism``: of a choice on the test rows at this label count, with its 95 % interval
        (points), and ``largest class``: its share of the test rows (percent), which always predicting it would reach.
        Ends of intervals are NaN where there are fewer than three seeds.
        """
        import pandas as pd

        measured = ("accuracy", "gain", "multiplier", "optimism")
        rows = []
        for i, name in enumerate(self.names):
            for labels in self.budgets.tolist():
                found = (
                    self.interval(name, labels),
                    self.gain(name, labels=labels).interval,
                    self.multiplier(name, labels=labels),
                    self.optimism(labels).interval,
                )
                row: dict[str, Any] = {
                    "representation": name,
                    "features": self.sizes[i],
                    "labels": labels,
                }
                for what, interval in zip(measured, found, strict=True):
                    row |= {
                        what: interval.estimate,
                        f"{what} low": interval.low,
                        f"{what} high": interval.high,
                    }
                chosen = self.choices(labels).count(name) / self.accuracy.shape[1]
                row |= {"RankMe": self.rank_me[i].mean(), "chosen": chosen}
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
            title="What a label is worth",
            yaxis_range=[bottom - margin, top + margin],
            x_label="labels",
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
        found = [self.interval(name, labels) for labels in self.budgets.tolist()]
        estimate = np.array([interval.estimate for interval in found])
        low = np.array([interval.low for interval in found])
        high = np.array([interval.high for interval in found])
        return estimate, low, high

    def _curve(self, name: str) -> Float[np.ndarray, "seeds budgets subsets"]:
        return self.accuracy[self._place(name)]

    def _validation(self, labels: int | None) -> Float[np.ndarray, "candidates seeds"]:
        rows = [self._place(name) for name in self.candidates]
        return self.validation_accuracy[rows, :, self._budget(labels)].mean(axis=2)

    def _chosen_at(
        self, labels: int | None
    ) -> tuple[Float[np.ndarray, " seeds"], Float[np.ndarray, " seeds"]]:
        """Test accuracy of the honest choice of each seed, and of what is best on the test role itself."""
        tested = np.stack([self.at(name, labels).mean(axis=1) for name in self.candidates])
        best = self._validation(labels).argmax(axis=0)
        return np.take_along_axis(tested, best[None], axis=0)[0], tested.max(axis=0)

    def _label_count(
        self, rising: Float[np.ndarray, "seeds budgets subsets"], level: float
    ) -> Interval:
        found = zero_crossing(np.log(self.budgets), rising, level)
        # Back from the logarithm by the budget itself, which exp(log(n)) misses by a rounding error.
        exact = {math.log(n): float(n) for n in self.budgets.tolist()}
        ends = (exact.get(end, math.exp(end)) for end in (found.estimate, found.low, found.high))
        return Interval(*ends, level=level)

    def _labels(self, labels: int | None) -> int:
        """A label count that was measured; the fewest by default."""
        return int(self.budgets[self._budget(labels)])

    def _place(self, name: str) -> int:
        if not isinstance(name, str) or name not in self.names:
            raise InputError(
                "no such representation",
                got=checks.shown(name),
                cure=f"use one of {', '.join(self.names)}",
            )
        return self.names.index(name)

    def _budget(self, labels: int | None) -> int:
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


def seeds_in_words(seeds: int) -> str:
    """The number of seeds, and that they are too few for an interval where they are.

    >>> seeds_in_words(12), seeds_in_words(2)
    ('12 seeds', 'no interval: 2 seeds')
    """
    return f"{seeds} seeds" if seeds >= FEWEST_REPLICATES else no_interval(seeds)


def largest_class(majority: Float[np.ndarray, "..."]) -> str:
    """The share of the largest class as a clause of a sentence.

    >>> largest_class(np.array([0.5, 0.6]))
    ' (the largest class is 55.0 % of the test rows)'
    """
    return f" (the largest class is {decimals(100 * float(np.mean(majority)), '.1f')} % of the test rows)"


def needs(who: str, multiplier: Interval) -> str:
    """A clause that says how many times as many labels are needed.

    >>> needs("raw inputs need", Interval(4.0, 3.0, 5.5))
    'raw inputs need 4.0 [3.0, 5.5] times as many'
    >>> needs("raw inputs need", Interval(math.inf, 0.0, math.inf))
    'the seeds do not tell how many times as many raw inputs need'
    >>> needs("raw inputs need", Interval(4.0, math.nan, math.nan))
    'raw inputs need 4.0 times as many'
    """
    if _is_open(multiplier):
        return f"the seeds do not tell how many times as many {who}"
    return f"{who} {in_words(multiplier, '.1f')} times as many"


def meets(curves: str, crossing: Interval) -> str:
    """A clause that says at how many labels two curves meet.

    >>> meets("the curves", Interval(math.inf, 30.0, math.inf))
    'the curves meet at 30 or more labels'
    >>> meets("the curves", Interval(4.0, 0.0, math.inf))
    'the seeds do not tell where the curves meet'
    """
    if _is_open(crossing):
        return f"the seeds do not tell where {curves} meet"
    return f"{curves} meet at {in_words(crossing, '.0f')} labels"


def in_words(interval: Interval, spec: str) -> str:
    """A positive quantity whose interval is open at one side at most, or that has none.

    >>> in_words(Interval(4.0, 3.0, 5.5), ".1f"), in_words(Interval(math.inf, 30.0, math.inf), ".0f")
    ('4.0 [3.0, 5.5]', '30 or more')
    >>> in_words(Interval(4.0, 3.0, math.inf), ".1f"), in_words(Interval(4.0, 0.0, 5.0), ".0f")
    ('4.0 (3.0 or more)', '4 (5 or fewer)')
    """
    if not interval.is_known or (interval.low > 0 and interval.high < math.inf):
        return f"{interval:{spec}}"
    is_below = interval.low > 0
    bound = f"{decimals(interval.low if is_below else interval.high, spec)} or {'more' if is_below else 'fewer'}"
    return (
        f"{decimals(interval.estimate, spec)} ({bound})"
        if 0 < interval.estimate < math.inf
        else bound
    )


def _is_open(interval: Interval) -> bool:
    """True if the interval is open at both sides, or unknown around an infinite or zero estimate: it says nothing."""
    if not interval.is_known:
        return not 0 < interval.estimate < math.inf
    return interval.low <= 0 and interval.high == math.inf


def largest_class_line(majority: np.ndarray) -> dict[str, Any]:
    """Return a thin line at the accuracy of always predicting the largest class, as layout."""
    share = 100 * float(np.mean(majority))
    text = f"largest class {decimals(share, '.1f')} %"
    note = {"text": text, "font": {"size": 11, "color": NEUTRAL}}
    return rule(y=share, colour=NEUTRAL, width=1, dash="dot", note=note)
