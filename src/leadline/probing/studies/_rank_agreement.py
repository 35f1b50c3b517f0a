"""Does a lower validation loss, or a higher RankMe, tell the better representation? Kendall's tau will say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.errors import InputError
from leadline.figures import Cloud, Drawing, extended, panels, scatter
from leadline.probing.studies._label_efficiency import (
    SCORES,
    LabelEfficiency,
    Measure,
    largest_class,
    largest_class_line,
    seeds_in_words,
)
from leadline.sounding import Interval, Sounding, Verdict
from leadline.statistics import UNBOUNDED, Bounds, Effect, effect, kendall_tau, paired_interval
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

Criterion = Literal["loss", "RankMe"]
"""What orders configurations without labels: lower validation loss, or higher effective rank, is better."""

Pairs = Literal["all", "within", "across"]
"""Which pairs of configurations are compared: any, those of one variant, or those of two different ones."""


@record("probing.RankAgreement")
@dataclass(frozen=True, eq=False)
class RankAgreement(Sounding):
    """Validation losses, effective ranks and probe accuracies of many configurations, seed by seed."""

    names: tuple[str, ...]
    """The configurations."""
    variants: tuple[str, ...]
    """The variant of each: what kind of training its loss belongs to."""
    labels: int
    """Label count of the probes."""
    loss: Float[np.ndarray, "configurations seeds"]
    rank_me: Float[np.ndarray, "configurations seeds"]
    accuracy: Float[np.ndarray, "configurations seeds"]
    """On the test role, averaged over label subsets, in [0, 1]."""
    measure: Measure = "accuracy"
    """What ``accuracy`` holds; R² of a quantity."""
    majority: Float[np.ndarray, " seeds"] | None = None
    """Share of the most frequent class in each test role: the accuracy of always predicting it; ``None`` for R²."""

    def tau(self, criterion: Criterion = "loss", pairs: Pairs = "all") -> Effect:
        """How far a criterion orders configurations as probes do: 1 alike, 0 not at all, -1 the other way round.

        Formula: Kendall's tau-b of (minus the loss, or RankMe) and accuracy over the pairs of configurations, one for
        each seed; a seed in which one side ties in every pair orders nothing, and counts as 0.

        Raises:
            InputError: there are no such pairs, or no such criterion.
        """
        checks.choice(criterion, "criterion", get_args(Criterion))
        checks.choice(pairs, "pairs", get_args(Pairs))
        if pairs not in self._scopes:
            raise InputError(
                "there must be two configurations to compare",
                got=f"no pairs {pairs} {'variants' if pairs == 'across' else 'a variant'} among {self.variants}",
                cure="give several configurations of several variants, and their variants=",
            )
        better = -self.loss if criterion == "loss" else self.rank_me
        tau = kendall_tau(better.T, self.accuracy.T, among=self._among(pairs))
        label = f"Kendall's tau of {criterion} and {self.measure}, {_SCOPES[pairs]}, {self.labels} labels"
        return effect(np.nan_to_num(tau), label, bounds=(-1.0, 1.0))

    @property
    def verdict(self) -> Verdict:
        """How far each criterion agrees with the probes, within a variant and across variants."""
        several = len(set(self.variants))
        criteria: dict[Criterion, str] = {
            "loss": "a lower validation loss",
            "RankMe": "a higher RankMe",
        }
        told = [
            f"{better} goes with better probes at tau = "
            + " and ".join(
                f"{self.tau(criterion, pairs).interval:.2f} {_SCOPES[pairs]}"
                for pairs in self._scopes[1:]
            )
            for criterion, better in criteria.items()
        ]
        share = "" if self.majority is None else largest_class(self.majority)
        return Verdict(
            f"over {len(self.names)} configurations of {several} variant{'s' * (several > 1)}{share}, "
            f"{'; '.join(told)} ({self.labels} labels, {seeds_in_words(self.loss.shape[1])})"
        )

    def table(self) -> "pd.DataFrame":
        """One row per configuration.

        Columns: ``variant``; ``loss`` (squared error per row), ``RankMe`` (directions) and ``accuracy`` (percent), each
        the mean over seeds with its 95 % interval; ``largest class``: its share of the test rows (percent).
        """
        import pandas as pd

        table = pd.DataFrame({"configuration": self.names, "variant": self.variants})
        measured = (
            ("loss", self.loss, UNBOUNDED),
            ("RankMe", self.rank_me, (0.0, float("inf"))),
            ("accuracy", 100 * self.accuracy, SCORES[self.measure]),
        )
        for name, values, bounds in measured:
            intervals = [paired_interval(row, bounds=bounds) for row in values]
            for column, end in (
                (name, "estimate"),
                (f"{name} low", "low"),
                (f"{name} high", "high"),
            ):
                table[column] = [getattr(interval, end) for interval in intervals]
        if self.majority is not None:
            table["largest class"] = 100 * self.majority.mean()
        return table

    def drawing(self) -> Drawing:
        """Return accuracy against validation loss and against RankMe.

        Each configuration is a point with 95 % intervals over seeds.
        """
        measured = "test accuracy, %" if self.measure == "accuracy" else "variance explained, %"
        axes = [
            ("told by the loss", "validation loss", measured),
            ("told by the effective rank", "RankMe", measured),
        ]
        title = f"Who tells the better representation? {self.labels} labels"
        drawing = panels(title, axes, height=420, yaxis2_matches="y")
        criteria = [(self.loss, UNBOUNDED), (self.rank_me, (0.0, np.inf))]
        for panel, (values, bounds) in enumerate(criteria, 1):
            traces = self._points(values, bounds, axes[panel - 1])
            for trace in traces:
                trace |= {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "showlegend": panel == 1}
                if panel == 1:
                    trace |= {"xaxis": "x", "yaxis": "y"}
            drawing = extended(drawing, traces)
        if self.majority is None:
            return drawing
        return extended(drawing, **largest_class_line(self.majority))

    def _points(
        self, values: np.ndarray, bounds: Bounds, axis: tuple[str, str, str]
    ) -> list[dict[str, Any]]:
        """Return a cloud for each variant; its error bars may differ up and down."""
        clouds: dict[str, Cloud] = {}
        below: list[tuple[np.ndarray, np.ndarray]] = []
        for variant in dict.fromkeys(self.variants):
            rows = [i for i, other in enumerate(self.variants) if other == variant]
            accuracies = 100 * self.accuracy[rows]
            x = _ends([paired_interval(values[i], bounds=bounds) for i in rows])
            y = _ends([paired_interval(row, bounds=SCORES[self.measure]) for row in accuracies])
            names = [self.names[i] for i in rows]
            clouds[variant] = Cloud(x[0], y[0], names, x[2] - x[0], y[2] - y[0])
            below.append((x[0] - x[1], y[0] - y[1]))
        traces = scatter(clouds, title="", x_label=axis[1], y_label=axis[2])["data"]
        for trace, (left, down) in zip(traces, below, strict=True):
            trace["error_x"] |= {"symmetric": False, "arrayminus": left}
            trace["error_y"] |= {"symmetric": False, "arrayminus": down}
        return traces

    @property
    def _scopes(self) -> tuple[Pairs, ...]:
        """The pairs that there are: ``"all"`` first, then at least one of the others."""
        return tuple(
            pairs for pairs in ("all", "within", "across") if np.triu(self._among(pairs), 1).any()
        )

    def _among(self, pairs: Pairs) -> np.ndarray:
        variants = np.array(self.variants)
        same = variants[:, None] == variants
        return {"all": np.ones_like(same), "within": same, "across": ~same}[pairs]


_SCOPES = {"all": "over all", "within": "within a variant", "across": "across variants"}


def rank_agreement(
    study: LabelEfficiency,
    losses: Mapping[str, Sequence[float]],
    *,
    variants: Mapping[str, str] | None = None,
    labels: int | None = None,
) -> RankAgreement:
    """Compare the order of configurations by validation loss, and by RankMe, with their order by probe accuracy.

    Losses of different variants (vanilla, denoising, masked) measure different things, hence pairs are told apart:
    those within a variant, and those across two.

    Args:
        study: probes of the configurations; see :func:`~leadline.probing.label_efficiency`.
        losses: name in the study -> validation loss of each seed, in the order of the study's seeds:
            ``[one.clean_error[one.best_epoch] for one in pretrained]``. Lower is better.
        variants: name -> variant; by default all configurations are of one.
        labels: label count of the probes; by default the fewest.

    Raises:
        InputError: fewer than three configurations, names that the study does not hold, or losses that are not one
            finite number for each seed.

    >>> from leadline import data, probing
    >>> digits = data.digits()
    >>> roles = [data.split_roles(digits.y, seed=seed) for seed in range(2)]
    >>> components = {f"{k} components": k for k in (1, 4, 16)}
    >>> study = probing.label_efficiency(components, digits.X, digits.y, roles=roles, labels=[20], num_subsets=2)
    >>> losses = {"1 components": [3.0, 3.1], "4 components": [2.0, 1.9], "16 components": [1.0, 1.1]}
    >>> round(rank_agreement(study, losses).tau().interval.estimate, 3)
    1.0

    Reference: Kendall, *A new measure of rank correlation*, 1938.
    """
    study = checks.instance(
        study, "study", LabelEfficiency, wanted="the result of label_efficiency()"
    )
    losses = checks.mapping(losses, "losses")
    variants = (
        dict.fromkeys(losses, "all") if variants is None else checks.mapping(variants, "variants")
    )
    seeds = study.accuracy.shape[1]
    rows = {name: _losses_of(name, values, seeds) for name, values in losses.items()}
    missing = [name for name in losses if name not in study.names or name not in variants]
    if missing or len(losses) < 3:
        raise InputError(
            "an order needs three configurations or more, each in the study and of a variant",
            got=f"{len(losses)} configurations"
            + (f"; {missing[0]!r} is not known" if missing else ""),
            cure=f"the study holds {', '.join(study.names)}",
        )
    variants = {name: checks.text(variants[name], f"variants[{name!r}]") for name in losses}
    places = [study.names.index(name) for name in losses]
    labels = int(study.budgets[0]) if labels is None else checks.whole_number(labels, "labels")
    return RankAgreement(
        protocol=replace(study.protocol, settings={**study.protocol.settings, "labels": labels}),
        names=tuple(losses),
        variants=tuple(variants[name] for name in losses),
        labels=labels,
        loss=np.array([rows[name] for name in losses]),
        rank_me=study.rank_me[places],
        accuracy=np.stack([study.at(name, labels).mean(axis=1) for name in losses]),
        measure=study.measure,
        majority=study.majority,
    )


def _losses_of(name: str, values: Sequence[float], seeds: int) -> np.ndarray:
    """One finite loss for each seed, or a refusal."""
    row = checks.array(values, f"losses[{name!r}]")
    is_numbers = row.dtype.kind in "iuf" and row.shape == (seeds,)
    if not is_numbers or not np.isfinite(row.astype(np.float64)).all():
        raise InputError(
            "each configuration has one finite validation loss for each seed of the study",
            got=f"losses[{name!r}] = {checks.shown(values)} for {seeds} seeds",
            cause="a run that diverged, or losses of every epoch",
            cure="[one.clean_error[one.best_epoch] for one in pretrained]",
        )
    return row.astype(np.float64)


def _ends(intervals: Sequence[Interval]) -> np.ndarray:
    """Return estimates, low ends and high ends in rows; an unknown end equals the estimate."""
    ends = np.array([[found.estimate, found.low, found.high] for found in intervals]).T
    return np.where(np.isnan(ends), ends[0], ends)
