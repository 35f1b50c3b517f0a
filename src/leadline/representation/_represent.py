"""A whole study in one call: pretrain, choose by held-out labels, report, and keep the encoder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.autoencoders import (
    Encoder,
    Examples,
    Pretrained,
    TrainingCurves,
    column_spreads,
    corrupt_examples,
)
from leadline.data import (
    Roles,
    fingerprint,
    label_subsets,
    means_and_spreads,
    row_fingerprints,
    split_roles,
)
from leadline.probing import LabelEfficiency, label_efficiency, principal_components, rank_me
from leadline.randomness import numpy_generator
from leadline.representation._choice import choose, held_out_accuracy
from leadline.representation._kept import STRENGTHS, KeptProbe, kept_probe
from leadline.representation._material import ImageSize, Material, gather, retained
from leadline.representation._pretraining import (
    STAGES,
    Progress,
    Report,
    check_progress,
    initial_weights,
    pretrain_kinds,
)
from leadline.representation._settings import RepresentationSettings
from leadline.representation._study import SHARES, RepresentationStudy
from leadline.representation._twins import near_twins
from leadline.representation._views import View, unscaled, view_of
from leadline.sounding import Protocol

LABELS_PER_CLASS = (1, 2, 5, 10, 20, 50)
"""Default label counts per class, in addition to the whole probe pool."""

MOST_PROBED = 2000
"""Largest number of labelled rows that are probed; more rows add little about few labels."""

MOST_KEPT = 10_000
"""Largest number of labelled rows by which the kept probe is chosen."""

FAR = 1000.0
"""Distance of a column's mean from zero, in spreads, above which rows are centred in float64."""

NUM_NEIGHBOURS = 500
"""Number of pretraining rows that determine the scale and the effective rank of codes."""

MOST_COMPONENTS = 64
"""Largest number of principal components of the baseline."""

NUM_SAMPLES = 10
"""Number of examples in the strip."""


def represent(
    X: Any,
    y: Any = None,
    *,
    X_unlabelled: Any = None,
    kinds: Sequence[str] = RepresentationSettings.kinds,
    image_size: ImageSize = RepresentationSettings.image_size,
    labels: Sequence[int | Literal["all"]] | None = RepresentationSettings.labels,
    num_subsets: int = RepresentationSettings.num_subsets,
    seeds: int | Sequence[int] = RepresentationSettings.seeds,
    checkpoint: str | PathLike[str] | None = None,
    progress: Report | None = None,
) -> RepresentationStudy:
    """Pretrain autoencoders on your data and measure their worth with your labels.

    For every seed, an autoencoder of each kind is pretrained on the unlabelled rows. Images of at
    least 12 pixels a side are learned in patches, and the encoder is then applied at every place of
    an image; other rows are learned by a dense autoencoder. The labelled rows, which no autoencoder
    sees, are split for each seed into test rows and the remaining rows. Of the remaining rows a
    quarter is held out, five times, to choose the kind: the kind with the best mean accuracy, or
    denoising if it is less than a standard error behind.

    The reported accuracy is that of this choice: the test rows of a seed do not influence its
    choice. The encoder that you keep is of the kind that all seeds together choose, and has the
    lowest validation error among its seeds. All probes choose C by the accuracy on held-out labels.
    The kept probe chooses it on all labels and is measured by five-fold cross-validation of the
    choice (:attr:`RepresentationStudy.probe`).

    If there are fewer unlabelled than labelled rows, half of the labelled rows lose their labels
    and are used for pretraining; in the end the encoder is pretrained again on all rows. Without
    labels nothing is probed, and the kind with the largest effective rank is chosen.

    Rows may have any scale, and the encoder accepts them in the given scale. Whole numbers in
    arrays with the shape of images are divided by 255, by the study and by the encoder.

    Args:
        X: rows of shape (n, d), or images of shape (n, h, w), (n, h, w, c) or (n, c, h, w) with
            c = 1 or 3: an array, a data frame or a :class:`~leadline.data.Dataset`. The encoder
            keeps the names of columns and the divisor of pixels.
        y: labels of any kind, shape (n,); ``None``, NaN, the empty string or -1 if a row has none.
        X_unlabelled: more rows, without labels.
        kinds: kinds of autoencoders, from ``"vanilla"``, ``"denoising"`` and ``"masked"``.
        image_size: size of images that are given as flat rows: (height, width), or one number for
            both; ``None`` for rows that are not images; ``"auto"`` to detect square images by
            their similar neighbouring numbers, which adds a note.
        labels: label counts to probe, each at least the number of classes; by default 1, 2, 5, 10,
            20 and 50 per class, and the whole pool.
        num_subsets: number of label subsets for each count and seed.
        seeds: number of seeds, at least 2, or a list of seeds. A seed draws weights, patches, roles
            and label subsets. Two seeds give no intervals.
        checkpoint: folder from which an interrupted run resumes; see
            :func:`~leadline.autoencoders.pretrain_many`.
        progress: function that receives a :class:`Progress` from time to time.

    Returns:
        The study, with the chosen encoder.

    Raises:
        InputError: rows are not finite, there is only one class, a class has fewer than three rows,
            shapes do not match, or a setting is out of range. No work starts before.

    >>> from leadline import data
    >>> digits = data.digits()
    >>> study = represent(
    ...     digits.X[:400],
    ...     digits.y[:400],
    ...     kinds=["denoising"],
    ...     labels=[10],
    ...     num_subsets=1,
    ...     seeds=2,
    ... )
    >>> study.chosen, study.encoder.encode(digits.X[:5]).shape
    ('denoising', (5, 96))

    Reference: Nadeau & Bengio, *Inference for the generalization error*, 2003. Intervals over
    repeated splits, which share rows, measure the dependence on weights and splits more than the
    dependence on the rows that were labelled.
    """
    settings = RepresentationSettings(kinds, image_size, labels, num_subsets, seeds)
    folder = None if checkpoint is None else checks.path(checkpoint, "checkpoint")
    report = check_progress(progress)
    material = gather(X, y, X_unlabelled, settings.image_size)
    return _Run(settings, material, folder, report).study()


@dataclass(frozen=True, eq=False)
class _Probed:
    """The results of probing all kinds, and the kind that they choose."""

    chosen: str
    ranks: Float[np.ndarray, "kinds seeds"]
    efficiency: LabelEfficiency | None
    held_out: Float[np.ndarray, "kinds seeds draws"] | None


class _Run:
    """One run of a study, from checked material to the sounding."""

    def __init__(
        self,
        settings: RepresentationSettings,
        material: Material,
        folder: Path | None,
        report: Report,
    ):
        self.kinds: tuple[str, ...] = tuple(settings.kinds)
        seeds: Any = settings.seeds
        self.seeds: tuple[int, ...] = seeds
        self.num_subsets = settings.num_subsets
        self.material = material
        self.folder = folder
        self.report = report
        self.probed_material = _probed_material(material)
        self.roles = _roles(self.probed_material, self.seeds)
        self.counts = _label_counts(settings.labels, self.probed_material, self.roles)
        self.centre, self.scale = _scaling(material)
        self.unlabelled = self._scaled(material.unlabelled)
        self.labelled = self._scaled(self.probed_material.labelled)

    def study(self) -> RepresentationStudy:
        """Pretrain, probe, choose, and return the sounding."""
        view = view_of(self.unlabelled, self.material.image_size, self.material.channels)
        trained = pretrain_kinds(
            view, self.kinds, self.seeds, self._stage(0), self.report, "pretraining"
        )
        self.report(Progress("probing", 0, 1))
        probed = self._probe(view, trained)
        self.report(Progress("probing", 1, 1))
        best = _lowest_own_error(trained[probed.chosen])
        encoder, origin = self._keep(view, trained, probed.chosen, best)
        probe = None
        if probed.efficiency is not None:
            probe = _kept_probe(encoder, self.material)
        twins = _twins_note(self.labelled, self.probed_material.groups)
        best_of_kinds = {kind: trained[kind][best] for kind in self.kinds}
        shown_rows = self.labelled if self.roles else self.unlabelled
        return RepresentationStudy(
            protocol=self._protocol(view),
            kinds=self.kinds,
            chosen=probed.chosen,
            encoder=replace(encoder, form=self.material.form),
            origin=origin,
            probe=probe,
            efficiency=probed.efficiency,
            held_out=probed.held_out,
            curves={kind: TrainingCurves.from_pretrained(trained[kind]) for kind in self.kinds},
            ranks=probed.ranks,
            examples=_examples(view, best_of_kinds, shown_rows),
            class_names=self.material.class_names,
            notes=(*self.probed_material.notes, *twins),
            shares=SHARES,
            view=view.name,
        )

    def _probe(self, view: View, trained: dict[str, list[Pretrained]]) -> _Probed:
        """Probe all kinds and choose one by held-out labels, or by RankMe without labels."""
        encoders = {
            kind: [view.encoder(pretrained.weights) for pretrained in trained[kind]]
            for kind in self.kinds
        }
        rng = numpy_generator(0, "representation.neighbours")
        neighbours = self.unlabelled[rng.permutation(len(self.unlabelled))[:NUM_NEIGHBOURS]]
        if not self.roles:
            ranks = np.array(
                [
                    [rank_me(encoder.encode(neighbours)) for encoder in encoders[kind]]
                    for kind in self.kinds
                ]
            )
            return _Probed(self.kinds[int(ranks.mean(axis=1).argmax())], ranks, None, None)
        rows, d = self.unlabelled.shape
        pca = principal_components(self.unlabelled, max(1, min(MOST_COMPONENTS, d // 2, rows)))
        untrained = [
            view.encoder(initial_weights(view.model(self.kinds[0], seed))) for seed in self.seeds
        ]
        sources = {**encoders, "pca": pca, "raw": "raw", "untrained": untrained}
        y = self.probed_material.y
        efficiency = _efficiency(
            sources,
            neighbours,
            self.labelled,
            y,
            self.roles,
            self.counts,
            self.num_subsets,
            self.seeds,
        )
        num_kinds = len(self.kinds)
        strengths = efficiency.strengths[:num_kinds, :, -1].mean(axis=2)
        held_out = held_out_accuracy(
            encoders,
            self.labelled,
            y,
            neighbours,
            self.roles,
            strengths,
            self.probed_material.groups,
        )
        chosen = choose(self.kinds, held_out.reshape(num_kinds, -1))
        return _Probed(chosen, efficiency.rank_me[:num_kinds], efficiency, held_out)

    def _keep(
        self, view: View, trained: dict[str, list[Pretrained]], chosen: str, best: int
    ) -> tuple[Encoder, str]:
        """Return the encoder of rows in their given units, and its origin in words.

        If rows lost their labels for pretraining, the chosen kind is first pretrained on all rows.
        """
        material = self.material
        if material.set_aside:
            rows = np.concatenate([material.unlabelled, material.labelled])
            view = view_of(self._scaled(rows), material.image_size, material.channels)
            seeds = self.seeds[best : best + 1]
            refitted = pretrain_kinds(
                view, (chosen,), seeds, self._stage(1), self.report, "refitting"
            )
            weights = refitted[chosen][0].weights
            origin = f"after the choice, the encoder was pretrained again on all {len(rows)} rows"
        else:
            rows = material.unlabelled
            weights = trained[chosen][best].weights
            origin = (
                f"the encoder of seed {self.seeds[best]} was pretrained on {len(rows)} rows that "
                "are not probed"
            )
        is_exact = _is_far(material, self.centre, self.scale)
        seen = (rows - self.centre).astype(np.float32) if is_exact else rows
        encoder = unscaled(
            view.encoder(weights), self.centre, self.scale, row_fingerprints(seen), exact=is_exact
        )
        return encoder, origin

    def _protocol(self, view: View) -> Protocol:
        """Return the protocol of the study."""
        material = self.material
        return Protocol(
            settings={
                **view.described,
                **view.settings,
                "rows": {
                    "pretrained on": len(material.unlabelled),
                    "labelled": len(material.labelled),
                },
                "shares": SHARES,
                "image_size": material.image_size,
            },
            seeds=self.seeds,
            fingerprints={
                "unlabelled": fingerprint(material.unlabelled),
                "labelled": fingerprint(material.labelled),
            },
        )

    def _stage(self, index: int) -> Path | None:
        """Return the checkpoint folder of a stage."""
        return None if self.folder is None else self.folder / STAGES[index]

    def _scaled(self, rows: np.ndarray) -> Float[np.ndarray, "n d"]:
        """Return centred rows in units of the spread of the pretraining rows."""
        return ((rows - self.centre) / self.scale).astype(np.float32)


def _lowest_own_error(trained: Sequence[Pretrained]) -> int:
    """Return the index of the autoencoder with the lowest validation error."""
    errors = [pretrained.own_error[pretrained.best_epoch] for pretrained in trained]
    return min(range(len(errors)), key=lambda i: errors[i])


def _probed_material(material: Material) -> Material:
    """Return all labelled rows, or a share of very many rows with each class in proportion."""
    m = len(material.labelled)
    if m <= MOST_PROBED:
        return material
    part = np.flatnonzero(retained(material.y, material.groups, MOST_PROBED / m))
    return replace(
        material,
        labelled=material.labelled[part],
        y=material.y[part],
        groups=material.groups[part],
        notes=(*material.notes, f"{len(part)} of {m} labelled rows were probed"),
    )


def _twins_note(labelled: np.ndarray, groups: np.ndarray) -> tuple[str, ...]:
    """Return a note if many labelled rows nearly repeat, or nothing."""
    twins = near_twins(labelled, groups)
    if not twins:
        return ()
    return (
        f"{twins} of {len(labelled)} labelled rows nearly equal another row; if such rows share a "
        "source (a subject, a recording), splits separate them and accuracies are too high",
    )


def _roles(material: Material, seeds: Sequence[int]) -> list[Roles]:
    """Return the roles of the labelled rows for each seed; equal rows have the same role."""
    if not len(material.labelled):
        return []
    return [
        split_roles(material.y, seed=seed, fractions=SHARES, groups=material.groups)
        for seed in seeds
    ]


def _label_counts(
    labels: Sequence[Any] | None, material: Material, roles: Sequence[Roles]
) -> list[Any]:
    """Return the requested label counts, or the default counts that fit into every pool."""
    if not roles:
        return []
    if labels is not None:
        counts = list(labels)
        for role in roles:
            # This call refuses counts that do not fit, before any work starts.
            label_subsets(material.y, role.probe_pool, counts, num=1, seed=0)
        return counts
    pool = min(len(role.probe_pool) for role in roles)
    num_classes = len(material.class_names)
    defaults = [per_class * num_classes for per_class in LABELS_PER_CLASS]
    return [count for count in defaults if count < 0.8 * pool] + ["all"]


def _scaling(material: Material) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and spread of the columns of the pretraining rows; images have one spread."""
    centre = means_and_spreads(material.unlabelled)[0]
    scale = column_spreads(material.unlabelled, "auto" if material.image_size is None else "common")
    return centre, scale


def _is_far(material: Material, centre: np.ndarray, scale: np.ndarray) -> bool:
    """True if rows need float64, or if an encoder in float32 could not centre them."""
    return material.unlabelled.dtype == np.float64 or bool((np.abs(centre) > FAR * scale).any())


def _efficiency(
    sources: dict[str, Any],
    neighbours: np.ndarray,
    labelled: np.ndarray,
    y: np.ndarray,
    roles: Sequence[Roles],
    labels: Sequence[Any],
    num_subsets: int,
    seeds: Sequence[int],
) -> LabelEfficiency:
    """Probe all representations on the labelled rows; pretraining rows determine their scale."""
    scaling_rows = np.arange(len(labelled), len(labelled) + len(neighbours))
    # The appended rows need some label; no probe reads it.
    appended_labels = np.zeros(len(neighbours), np.int64)
    return label_efficiency(
        sources,
        np.concatenate([labelled, neighbours]),
        np.r_[y, appended_labels],
        roles=[replace(role, pretrain_train=scaling_rows) for role in roles],
        labels=labels,
        num_subsets=num_subsets,
        seeds=seeds,
        strengths=STRENGTHS,
        criterion="accuracy",
    )


def _kept_probe(encoder: Encoder, material: Material) -> KeptProbe:
    """Return the probe on all labelled rows, including rows that lost their labels."""
    first_set_aside = len(material.unlabelled) - material.set_aside
    rows = np.concatenate([material.labelled, material.unlabelled[first_set_aside:]])
    y = np.concatenate([material.y, material.y_set_aside])
    groups = _encoder_fingerprints(encoder, rows)
    if len(rows) > MOST_KEPT:
        part = retained(y, groups, MOST_KEPT / len(rows))
        rows, y, groups = rows[part], y[part], groups[part]
    return kept_probe(encoder.encode(rows), y, groups)


def _encoder_fingerprints(encoder: Encoder, rows: np.ndarray) -> np.ndarray:
    """Return fingerprints of rows in the form that the encoder reads."""
    if encoder.offset is None:
        return row_fingerprints(rows)
    return row_fingerprints((rows - encoder.offset).astype(np.float32))


def _examples(view: View, trained: dict[str, Pretrained], rows: np.ndarray) -> dict[str, Examples]:
    """Return a few rows with the input and the output of each kind, in units of scaled rows."""
    clean = view.shown(0, rows)[:NUM_SAMPLES]
    return {
        kind: view.restored(corrupt_examples(clean, pretrained.corruption, pretrained, seed=0))
        for kind, pretrained in trained.items()
    }
