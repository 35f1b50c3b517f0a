"""One run of a study: pretraining, probing, the choice of a kind, and the kept encoder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from leadline.autoencoders import (
    Encoder,
    Examples,
    Pretrained,
    TrainingCurves,
    corrupt_examples,
)
from leadline.data import Roles, fingerprint, row_fingerprints
from leadline.probing import LabelEfficiency, label_efficiency, principal_components, rank_me
from leadline.randomness import numpy_generator
from leadline.representation._choice import choose, held_out_accuracy
from leadline.representation._kept import STRENGTHS, KeptProbe, kept_probe
from leadline.representation._material import Material, retained
from leadline.representation._plan import (
    assign_roles,
    limit_probed_rows,
    measure_scaling,
    needs_exact_centre,
    plan_label_counts,
)
from leadline.representation._pretraining import (
    STAGES,
    Progress,
    Report,
    initial_weights,
    pretrain_kinds,
)
from leadline.representation._row_counts import RowCounts
from leadline.representation._settings import RepresentationSettings
from leadline.representation._study import SHARES, RepresentationStudy
from leadline.representation._twins import near_twins
from leadline.representation._views import View, unscaled, view_of
from leadline.sounding import Protocol

MOST_KEPT = 10_000
"""Largest number of labelled rows by which the kept probe is chosen."""

NUM_NEIGHBOURS = 500
"""Number of pretraining rows that determine the scale and the effective rank of codes."""

MOST_COMPONENTS = 64
"""Largest number of principal components of the baseline."""

NUM_SAMPLES = 10
"""Number of examples in the strip."""


@dataclass(frozen=True, eq=False)
class _Probed:
    """The results of probing all kinds, and the kind that they choose."""

    chosen: str
    ranks: Float[np.ndarray, "kinds seeds"]
    efficiency: LabelEfficiency | None
    held_out: Float[np.ndarray, "kinds seeds draws"] | None


class Run:
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
        self.probed_material = limit_probed_rows(material)
        self.roles = assign_roles(self.probed_material, self.seeds)
        num_labelled = len(material.labelled) + material.set_aside
        self.counts = plan_label_counts(
            settings.labels, self.probed_material, self.roles, num_labelled
        )
        self.centre, self.scale = measure_scaling(material)
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
            row_counts=RowCounts.from_roles(self.material, self.roles),
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
        is_exact = needs_exact_centre(material, self.centre, self.scale)
        seen = (rows - self.centre).astype(np.float32) if is_exact else rows
        encoder = unscaled(
            view.encoder(weights), self.centre, self.scale, row_fingerprints(seen), exact=is_exact
        )
        return encoder, origin

    def _protocol(self, view: View) -> Protocol:
        """Return the protocol of the study."""
        material = self.material
        training = view.settings
        return Protocol(
            settings={
                **view.described,
                "epochs": training.epochs,
                "batch_size": training.batch_size,
                "learning_rate": training.learning_rate,
                "patience": training.patience,
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


def _twins_note(labelled: np.ndarray, groups: np.ndarray) -> tuple[str, ...]:
    """Return a note if many labelled rows nearly repeat, or nothing."""
    twins = near_twins(labelled, groups)
    if not twins:
        return ()
    return (
        f"{twins} of {len(labelled)} labelled rows nearly equal another row; if such rows share a "
        "source (a subject, a recording), splits separate them and accuracies are too high",
    )


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
        rows = rows[part]
        y = y[part]
        groups = groups[part]
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
