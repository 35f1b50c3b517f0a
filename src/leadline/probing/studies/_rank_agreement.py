"""Agreement of validation loss and RankMe with probe scores, as Kendall's tau."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from leadline import checks
from leadline.errors import InputError
from leadline.figures import Cloud, Drawing, extended, panels, scatter
from leadline.probing.studies._label_efficiency import (
    SCORES,
    LabelEfficiency,
    Measure,
    largest_class_line,
)
from leadline.sounding import Interval, Sounding, Verdict
from leadline.statistics import (
    UNBOUNDED,
    Bounds,
    Effect,
    effect,
    interval_columns,
    kendall_tau,
    over_seeds,
    paired_interval,
)
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

Criterion = Literal["loss", "RankMe"]
"""Criterion that ranks configurations without labels: a low validation loss, or a high RankMe."""

Pairs = Literal["all", "within", "across"]
"""Pairs of configurations: all pairs, pairs of one variant, or pairs of two different variants."""

_SCOPES = {"all": "over all", "within": "within a variant", "across": "across variants"}


@record("probing.RankAgreement")
@dataclass(frozen=True, eq=False)
class RankAgreement(Sounding):
    """Validation losses, effective ranks and probe scores of configurations, for each seed."""

    names: tuple[str, ...]
    """The configurations."""
    variants: tuple[str, ...]
    """The variant of each configuration: the kind of training that its loss belongs to."""
    labels: int
    """Label count of the probes."""
    loss: Float[np.ndarray, "configurations seeds"]
    """Validation loss."""
    rank_me: Float[np.ndarray, "configurations seeds"]
    """Effective rank of the codes."""
    accuracy: Float[np.ndarray, "configurations seeds"]
    """Score on the test rows, at most 1, averaged over label subsets."""
    measure: Measure = "accuracy"
    """The kind of score."""
    majority: Float[np.ndarray, " seeds"] | None = None
    """Share of the most frequent class in each test role, the accuracy of always predicting it;
    ``None`` for R²."""

    def tau(self, criterion: Criterion = "loss", pairs: Pairs = "all") -> Effect:
        """Return how far a criterion ranks the configurations in the order of the probes.

        The result is 1 for the same order, 0 for no relation, and -1 for the reverse order.

        Formula: Kendall's tau-b of (minus the loss, or RankMe) and the score over the pairs of
        configurations, for each seed. A seed in which one side is equal in every pair counts as 0.

        Args:
            criterion: ``"loss"`` or ``"RankMe"``.
            pairs: ``"all"`` pairs, pairs ``"within"`` a variant, or pairs ``"across"`` variants.

        Raises:
            InputError: there are no such pairs, or an argument is not one of its options.
        """
        checks.choice(criterion, "criterion", get_args(Criterion))
        checks.choice(pairs, "pairs", get_args(Pairs))
        if pairs not in self._scopes:
            raise InputError(
                "tau() needs two configurations to compare",
                got=f"no pairs {_SCOPES[pairs]} among {self.variants}",
                cure="give several configurations of several variants, and their variants=",
            )
        quality = -self.loss if criterion == "loss" else self.rank_me
        tau = kendall_tau(quality.T, self.accuracy.T, among=self._among(pairs))
        label = (
            f"Kendall's tau of {criterion} and {self.measure}, {_SCOPES[pairs]}, "
            f"{self.labels} labels"
        )
        return effect(np.nan_to_num(tau), label, bounds=(-1.0, 1.0))

    @property
    def verdict(self) -> Verdict:
        """The agreement of both criteria with the probes, within a variant if there are such pairs.

        Losses of different variants measure different things, so pairs within a variant come first.
        """
        scope = self._verdict_scope
        loss = self.tau("loss", scope).interval
        rank = self.tau("RankMe", scope).interval
        return Verdict(
            f"{_SCOPES[scope]}, lower loss agrees with the probes at tau {loss:.2f} and higher "
            f"RankMe at {rank:.2f}, {over_seeds(self.loss.shape[1])}"
        )

    def agreements(self) -> "pd.DataFrame":
        """Return a table with one row per criterion and kind of pairs.

        Columns: ``criterion``, ``pairs``, and ``tau`` with its 95 % interval, as returned by
        :meth:`tau`.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for criterion in get_args(Criterion):
            for pairs in self._scopes:
                tau = self.tau(criterion, pairs).interval
                rows.append(
                    {"criterion": criterion, "pairs": pairs, **interval_columns("tau", tau)}
                )
        return pd.DataFrame(rows)

    def table(self) -> "pd.DataFrame":
        """Return a table with one row per configuration.

        Columns: ``variant``; ``loss`` (squared error per row), ``RankMe`` (directions) and
        ``accuracy`` (percent), each the mean over seeds with its 95 % interval; ``largest class``,
        the share of the largest class of the test rows (percent); and ``loss tau`` and ``RankMe
        tau``, the agreements in the verdict with their 95 % intervals, equal in all rows.
        """
        import pandas as pd

        bounds = {
            "loss": UNBOUNDED,
            "RankMe": (0.0, float("inf")),
            "accuracy": SCORES[self.measure],
        }
        scope = self._verdict_scope
        agreement = {
            **interval_columns("loss tau", self.tau("loss", scope).interval),
            **interval_columns("RankMe tau", self.tau("RankMe", scope).interval),
        }
        rows = []
        for i, name in enumerate(self.names):
            row: dict[str, Any] = {"configuration": name, "variant": self.variants[i]}
            values = {
                "loss": self.loss[i],
                "RankMe": self.rank_me[i],
                "accuracy": 100 * self.accuracy[i],
            }
            for column, numbers in values.items():
                row |= interval_columns(column, paired_interval(numbers, bounds=bounds[column]))
            if self.majority is not None:
                row["largest class"] = 100 * self.majority.mean()
            rows.append(row | agreement)
        return pd.DataFrame(rows)

    def drawing(self) -> Drawing:
        """Return accuracy against validation loss and against RankMe.

        Each configuration is a point with 95 % intervals over seeds.
        """
        measured = "test accuracy, %" if self.measure == "accuracy" else "variance explained, %"
        axes = [
            ("ranked by validation loss", "validation loss", measured),
            ("ranked by RankMe", "RankMe: effective rank", measured),
        ]
        title = f"Loss and RankMe against probes with {self.labels} labels"
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
        """The kinds of pairs that exist: ``"all"``, then at least one of the others."""
        kinds: tuple[Pairs, ...] = get_args(Pairs)
        return tuple(pairs for pairs in kinds if np.triu(self._among(pairs), 1).any())

    @property
    def _verdict_scope(self) -> Pairs:
        """The pairs of the verdict: within a variant if there are such pairs, otherwise across."""
        return self._scopes[1]

    def _among(self, pairs: Pairs) -> Bool[np.ndarray, "configurations configurations"]:
        """Return a symmetric mask of the pairs."""
        variants = np.array(self.variants)
        is_same = variants[:, None] == variants
        masks = {"all": np.ones_like(is_same), "within": is_same, "across": ~is_same}
        return masks[pairs]


def rank_agreement(
    study: LabelEfficiency,
    losses: Mapping[str, Sequence[float]],
    *,
    variants: Mapping[str, str] | None = None,
    labels: int | None = None,
) -> RankAgreement:
    """Compare the order of configurations by validation loss and by RankMe with that by probes.

    Losses of different variants (vanilla, denoising, masked) measure different things. The result
    therefore separates pairs within a variant from pairs across variants.

    Args:
        study: probes of the configurations, from :func:`~leadline.probing.label_efficiency`.
        losses: name in the study -> validation loss of each seed, in the order of the study's
            seeds, such as ``[run.clean_error[run.best_epoch] for run in pretrained]``. Lower is
            better.
        variants: name -> variant; by default all configurations have the same variant.
        labels: label count of the probes; by default the smallest.

    Returns:
        The losses, ranks and scores, with their agreement.

    Raises:
        InputError: there are fewer than three configurations, a name is not in the study, or the
            losses are not one finite number for each seed.

    >>> from leadline import data, probing
    >>> digits = data.digits()
    >>> roles = [data.split_roles(digits.y, seed=seed) for seed in range(2)]
    >>> components = {f"{k} components": k for k in (1, 4, 16)}
    >>> study = probing.label_efficiency(
    ...     components, digits.X, digits.y, roles=roles, labels=[20], num_subsets=2
    ... )
    >>> losses = {
    ...     "1 components": [3.0, 3.1],
    ...     "4 components": [2.0, 1.9],
    ...     "16 components": [1.0, 1.1],
    ... }
    >>> round(rank_agreement(study, losses).tau().interval.estimate, 3)
    1.0

    Reference: Kendall, *A new measure of rank correlation*, 1938.
    """
    study = checks.instance(
        study, "study", LabelEfficiency, wanted="the result of label_efficiency()"
    )
    losses = checks.mapping(losses, "losses")
    if variants is None:
        variants = dict.fromkeys(losses, "all")
    else:
        variants = checks.mapping(variants, "variants")
    num_seeds = study.accuracy.shape[1]
    rows = {name: _check_losses(name, values, num_seeds) for name, values in losses.items()}
    unknown = [name for name in losses if name not in study.names or name not in variants]
    if unknown or len(losses) < 3:
        is_unknown = f"; {unknown[0]!r} is not known" if unknown else ""
        raise InputError(
            "losses must hold at least three names that are in both the study and variants",
            got=f"{len(losses)} names{is_unknown}",
            cure=f"use names of the study: {', '.join(study.names)}",
        )
    variants = {name: checks.text(variants[name], f"variants[{name!r}]") for name in losses}
    places = [study.names.index(name) for name in losses]
    labels = int(study.budgets[0]) if labels is None else checks.whole_number(labels, "labels")
    return RankAgreement(
        protocol=replace(study.protocol, settings={**study.protocol.settings, "labels": labels}),
        names=tuple(losses),
        variants=tuple(variants.values()),
        labels=labels,
        loss=np.array(list(rows.values())),
        rank_me=study.rank_me[places],
        accuracy=np.stack([study.at(name, labels).mean(axis=1) for name in losses]),
        measure=study.measure,
        majority=study.majority,
    )


def _check_losses(
    name: str, losses: Sequence[float], num_seeds: int
) -> Float[np.ndarray, " seeds"]:
    """Return one finite loss for each seed."""
    row = checks.array(losses, f"losses[{name!r}]")
    is_numbers = row.dtype.kind in "iuf" and row.shape == (num_seeds,)
    if not is_numbers or not np.isfinite(row.astype(np.float64)).all():
        raise InputError(
            "losses must hold one finite validation loss for each seed of the study",
            got=f"losses[{name!r}] = {checks.shown(losses)} for {num_seeds} seeds",
            cause="a run that diverged, or the losses of every epoch",
            cure="[run.clean_error[run.best_epoch] for run in pretrained]",
        )
    return row.astype(np.float64)


def _ends(intervals: Sequence[Interval]) -> np.ndarray:
    """Return estimates, low ends and high ends in rows; an unknown end equals the estimate."""
    ends = np.array([[interval.estimate, interval.low, interval.high] for interval in intervals]).T
    return np.where(np.isnan(ends), ends[0], ends)
