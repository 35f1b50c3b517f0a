"""The whole study in one call: pretrain, choose honestly, report, keep the encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import nn

from leadline import checks
from leadline.autoencoders import (
    Encoder,
    Epoch,
    Examples,
    Pretrained,
    TrainingCurves,
    column_spreads,
    corrupt_examples,
    pretrain_many,
)
from leadline.data import (
    Roles,
    fingerprint,
    label_subsets,
    means_and_spreads,
    row_fingerprints,
    split_roles,
)
from leadline.errors import InputError
from leadline.probing import (
    MOST_SUBSETS,
    LabelEfficiency,
    label_efficiency,
    principal_components,
    rank_me,
)
from leadline.randomness import numpy_generator
from leadline.representation._choice import choose, held_out_accuracy
from leadline.representation._kept import STRENGTHS, KeptProbe, kept_probe
from leadline.representation._material import ImageSize, Material, gather, retained
from leadline.representation._study import RepresentationStudy
from leadline.representation._twins import near_twins
from leadline.representation._views import KINDS, View, unscaled, view_of
from leadline.sounding import Protocol

SEEDS = 12
"""Replicates by default: the fewest over which an interval is reported."""

SHARES = (0.0, 0.0, 0.6, 0.15, 0.25)
"""Of the labelled rows, dealt anew for each seed: probe pool, probe-validation and test."""

LABELS_PER_CLASS = (1, 2, 5, 10, 20, 50)
"""Label counts of a study, beside the whole probe pool."""

MOST_PROBED = 2000
"""Labelled rows that are probed at most; a study of more says nothing new about few labels."""

MOST_KEPT = 10_000
"""Labelled rows that the kept probe is chosen by at most."""

MOST_SEEDS = 1000
"""Seeds of a study at most; more are a slip of the pen."""

FAR = 1000.0
"""Columns whose mean is more than this many spreads from zero are centred in float64 whenever rows are encoded."""

NEIGHBOURS = 500
"""Pretraining rows by which codes are put on one scale, and of which their effective rank is taken."""

COMPONENTS = 64
"""Principal components of the baseline, at most."""

RATE = 2e10
"""Operations in a second of training, about, on one core of 2024; a weight costs six for every row."""

STAGES = ("population", "refit")
"""Folders below ``checkpoint`` for the trainings of all seeds and for the one more of the chosen kind."""

SAMPLES = 10
"""Examples in the strip."""


@dataclass(frozen=True)
class Progress:
    """How far a study has come."""

    stage: Literal["pretraining", "probing", "refitting"]
    done: int
    total: int
    seconds: float | None = None
    """About how long pretraining will take, told before it begins."""


Tell = Callable[[Progress], object]


def represent(
    X: Any,
    y: Any = None,
    *,
    X_unlabelled: Any = None,
    kinds: Sequence[str] = KINDS,
    image_size: ImageSize = "auto",
    labels: Sequence[int | Literal["all"]] | None = None,
    num_subsets: int = 3,
    seeds: int | Sequence[int] = SEEDS,
    checkpoint: str | PathLike[str] | None = None,
    progress: Tell | None = None,
) -> RepresentationStudy:
    """What autoencoders make of your data, and what that is worth with the labels that you have.

    For every seed an autoencoder of each kind is pretrained on the unlabelled rows: of images of at least 12 pixels an
    autoencoder of patches, whose encoder is then laid over the whole image; of other rows a dense one. The labelled
    rows are dealt anew for each seed to rows to report on and others, which probes are fitted on and the kind is chosen
    by: of these a quarter is held out, five times over. No autoencoder sees any of them. The kind with the best mean
    accuracy on what is held out is chosen, or denoising where that is less than a standard error behind. What is
    reported is the accuracy of choosing so: each seed's rows to report on have no say in its choice. The encoder is of
    the kind that all seeds together choose; of its seeds, the one with the lowest validation error. All probes choose
    their C by the accuracy on held-out labels. The probe that is kept chooses it on all labels, and is measured by
    five-fold cross-validation of that choice (:attr:`RepresentationStudy.probe`).

    Where there are fewer unlabelled than labelled rows, half of the labelled rows give up their labels and are
    pretrained on; the encoder is then pretrained once more, on all rows. Without labels nothing is probed, and the kind
    whose codes have the largest effective rank is picked.

    Rows may have any scale: the encoder takes them as they were given. Whole numbers in arrays of the shape of images
    are divided by 255, there as here.

    Args:
        X: rows of shape (n, d), or images of shape (n, h, w), (n, h, w, c) or (n, c, h, w), c being 1 or 3: an array,
            a data frame, or a :class:`~leadline.data.Dataset`. The encoder keeps the names of columns, and the number
            that pixels were divided by.
        y: labels of any kind, shape (n,); ``None``, NaN, the empty string or -1 where a row has none.
        X_unlabelled: more rows, without labels.
        kinds: of ``"vanilla"``, ``"denoising"`` and ``"masked"``.
        image_size: of images that come as flat rows: (height, width), or one number for both; ``None``: plain rows;
            ``"auto"``: square images where neighbouring numbers are alike, which is noted.
        labels: label counts to probe at, at least one per class; by default 1, 2, 5, 10, 20 and 50 per class, and all
            of the pool.
        num_subsets: label subsets of each count and seed.
        seeds: how many, at least 2; or a list. Each draws weights, patches, roles and label subsets. Two seeds give no
            intervals.
        checkpoint: a folder from which a run that was interrupted goes on; see
            :func:`~leadline.autoencoders.pretrain_many`.
        progress: called with a :class:`Progress` now and then.

    Raises:
        InputError: rows that are not finite, labels of one class or of a class with fewer than three rows, forms that
            do not fit, or settings out of range; before any work starts.

    >>> from leadline import data
    >>> digits = data.digits()
    >>> study = represent(digits.X[:400], digits.y[:400], kinds=["denoising"], labels=[10], num_subsets=1, seeds=2)
    >>> study.chosen, study.encoder.encode(digits.X[:5]).shape
    ('denoising', (5, 96))

    Reference: Nadeau & Bengio, *Inference for the generalization error*, 2003 (on intervals over repeated splits, which
    share rows: they tell how far a result depends on weights and split, more than on the rows that were labelled).
    """
    kinds, seeds = _check_kinds(kinds), _check_seeds(seeds)
    num_subsets = checks.whole_number(num_subsets, "num_subsets", least=1, most=MOST_SUBSETS)
    folder = None if checkpoint is None else checks.path(checkpoint, "checkpoint")
    tell = (lambda _: None) if progress is None else checks.function(progress, "progress")
    if isinstance(progress, type):
        raise InputError(
            "progress must be a function, not a class", got=f"progress = {checks.shown(progress)}"
        )
    material = gather(X, y, X_unlabelled, image_size)
    probed = _probed(material)
    roles = _roles(probed, seeds)
    counts = _label_counts(labels, probed, roles)

    centre, scale = _scaling(material)
    unlabelled, labelled = (
        _scaled(rows, centre, scale) for rows in (material.unlabelled, probed.labelled)
    )
    notes = (*probed.notes, *_twins_noted(labelled, probed.groups))
    view = view_of(unlabelled, material.image_size, material.channels)
    trained = _pretrained(view, kinds, seeds, folder and folder / STAGES[0], tell, "pretraining")
    encoders = {kind: [view.encoder(one.weights) for one in trained[kind]] for kind in kinds}
    tell(Progress("probing", 0, 1))
    neighbours = unlabelled[
        numpy_generator(0, "representation.neighbours").permutation(len(unlabelled))[:NEIGHBOURS]
    ]

    efficiency, probe, held_out = None, None, None
    if roles:
        pca = principal_components(
            unlabelled, max(1, min(COMPONENTS, unlabelled.shape[1] // 2, len(unlabelled)))
        )
        untrained = [view.encoder(_as_arrays(view.model(kinds[0], seed))) for seed in seeds]
        sources = {**encoders, "pca": pca, "raw": "raw", "untrained": untrained}
        efficiency = _efficiency(
            sources, neighbours, labelled, probed.y, roles, counts, num_subsets, seeds
        )
        ranks = efficiency.rank_me[: len(kinds)]
        C = efficiency.strengths[: len(kinds), :, -1].mean(axis=2)
        held_out = held_out_accuracy(
            encoders, labelled, probed.y, neighbours, roles, C, probed.groups
        )
        chosen = choose(kinds, held_out.reshape(len(kinds), -1))
    else:
        ranks = np.array(
            [[rank_me(encoder.encode(neighbours)) for encoder in encoders[kind]] for kind in kinds]
        )
        chosen = kinds[int(ranks.mean(axis=1).argmax())]
    tell(Progress("probing", 1, 1))
    kept = min(
        range(len(seeds)), key=lambda i: trained[chosen][i].own_error[trained[chosen][i].best_epoch]
    )
    if material.set_aside:
        everything = np.concatenate([material.unlabelled, material.labelled])
        view = view_of(_scaled(everything, centre, scale), material.image_size, material.channels)
        again = _pretrained(
            view,
            (chosen,),
            seeds[kept : kept + 1],
            folder and folder / STAGES[1],
            tell,
            "refitting",
        )
        inner, seen = view.encoder(again[chosen][0].weights), everything
        origin = f"the encoder was then pretrained once more, on all {len(everything)} rows"
    else:
        inner, seen = encoders[chosen][kept], material.unlabelled
        origin = f"the encoder is that of seed {seeds[kept]}, pretrained on {len(seen)} rows that are not probed"
    exact = _is_far(material, centre, scale)
    seen_marks = row_fingerprints((seen - centre).astype(np.float32) if exact else seen)
    encoder = unscaled(inner, centre, scale, seen_marks, exact=exact)
    if efficiency is not None:
        probe = _kept_probe(encoder, material)
    return RepresentationStudy(
        protocol=Protocol(
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
            seeds=seeds,
            fingerprints={
                "unlabelled": fingerprint(material.unlabelled),
                "labelled": fingerprint(material.labelled),
            },
        ),
        kinds=kinds,
        chosen=chosen,
        encoder=replace(encoder, form=material.form),
        origin=origin,
        probe=probe,
        efficiency=efficiency,
        held_out=held_out,
        curves={kind: TrainingCurves.from_pretrained(trained[kind]) for kind in kinds},
        ranks=ranks,
        examples=_examples(
            view, {kind: trained[kind][kept] for kind in kinds}, labelled if roles else unlabelled
        ),
        class_names=material.class_names,
        notes=notes,
    )


def _check_kinds(kinds: Any) -> tuple[str, ...]:
    listed = (
        (kinds,)
        if isinstance(kinds, str)
        else checks.items(kinds, "kinds", least=1, of="kinds of autoencoders")
    )
    chosen = tuple(checks.choice(kind, f"kinds[{i}]", KINDS) for i, kind in enumerate(listed))
    if len(set(chosen)) < len(chosen):
        raise InputError(
            "kinds must differ from one another",
            got=f"kinds = {list(chosen)}",
            cure=f"{list(KINDS)}",
        )
    return chosen


def _check_seeds(seeds: Any) -> tuple[int, ...]:
    cure = "seeds=12, over which intervals are worth having"
    is_number = not isinstance(seeds, (str, bytes)) and getattr(seeds, "shape", ()) == ()
    if is_number and not isinstance(seeds, (Sequence, set, frozenset, dict, type(None))):
        return tuple(
            range(checks.whole_number(seeds, "seeds", least=2, most=MOST_SEEDS, cure=cure))
        )
    listed = checks.seeds(seeds)
    if not 2 <= len(listed) <= MOST_SEEDS:
        raise InputError(
            f"seeds must be 2 to {MOST_SEEDS} different seeds",
            got=f"seeds = {checks.shown(seeds)}",
            cure=cure,
        )
    return listed


def _probed(material: Material) -> Material:
    """The labelled rows that take part: all, or a part of very many, each class in proportion."""
    m = len(material.labelled)
    if m <= MOST_PROBED:
        return material
    part = np.flatnonzero(retained(material.y, material.groups, MOST_PROBED / m))
    notes = (*material.notes, f"{len(part)} of {m} labelled rows were probed")
    return replace(
        material,
        labelled=material.labelled[part],
        y=material.y[part],
        groups=material.groups[part],
        notes=notes,
    )


def _twins_noted(labelled: np.ndarray, groups: np.ndarray) -> tuple[str, ...]:
    """A note where labelled rows nearly repeat."""
    twins = near_twins(labelled, groups)
    if not twins:
        return ()
    return (
        f"{twins} of {len(labelled)} labelled rows nearly equal another one; if such rows come from one source (a "
        "subject, a recording), they stand on both sides of the splits, and accuracies are too high",
    )


def _roles(material: Material, seeds: Sequence[int]) -> list[Roles]:
    """For each seed who fits, who chooses, who reports; equal rows stay together."""
    if not len(material.labelled):
        return []
    return [
        split_roles(material.y, seed=seed, fractions=SHARES, groups=material.groups)
        for seed in seeds
    ]


def _label_counts(labels: Any, material: Material, roles: Sequence[Roles]) -> list[Any]:
    """The label counts that fit into every pool; those that were asked for, if they do."""
    if not roles:
        return []
    if labels is not None:
        is_single = isinstance(labels, (int, str, np.integer))
        counts: list[Any] = (
            [labels]
            if is_single
            else list(checks.items(labels, "labels", least=1, of="label counts"))
        )
        for role in roles:
            label_subsets(
                material.y, role.probe_pool, counts, num=1, seed=0
            )  # refuses those that do not fit
        return counts
    pool, classes = min(len(role.probe_pool) for role in roles), len(material.class_names)
    return [each * classes for each in LABELS_PER_CLASS if each * classes < 0.8 * pool] + ["all"]


def _scaling(material: Material) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of the columns of the rows that are pretrained on; one spread for all pixels of images."""
    centre = means_and_spreads(material.unlabelled)[0]
    scale = column_spreads(material.unlabelled, "auto" if material.image_size is None else "common")
    return centre, scale


def _is_far(material: Material, centre: np.ndarray, scale: np.ndarray) -> bool:
    """True if float32 cannot hold the rows as they are, or an encoder in float32 could not centre them."""
    return material.unlabelled.dtype == np.float64 or bool((np.abs(centre) > FAR * scale).any())


def _scaled(rows: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> Float[np.ndarray, "n d"]:
    return ((rows - centre) / scale).astype(np.float32)


def _pretrained(
    view: View,
    kinds: Sequence[str],
    seeds: Sequence[int],
    folder: Path | None,
    tell: Tell,
    stage: Any,
) -> dict[str, list[Pretrained]]:
    """All kinds and seeds as one population; kinds share what they are shown."""
    shown = [view.shown(seed) for seed in seeds]
    models = [view.model(kind, seed) for kind in kinds for seed in seeds]
    total, done = view.settings["epochs"] * len(models), {}
    weights = sum(weight.numel() for weight in models[0].parameters())
    tell(Progress(stage, 0, total, 6 * weights * len(shown[0]) * total / RATE))

    def report(epoch: Epoch) -> None:
        done[epoch.model] = epoch.epoch
        tell(Progress(stage, sum(done.values()), total))

    population = pretrain_many(
        models,
        shown * len(kinds),
        seeds=list(seeds) * len(kinds),
        validation=0.1,
        checkpoint=folder,
        progress=report,
        **view.settings,
    )
    tell(Progress(stage, total, total))
    return {kind: population[k * len(seeds) : (k + 1) * len(seeds)] for k, kind in enumerate(kinds)}


def _as_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """The weights of a model that is not trained."""
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


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
    """Probes of all representations on the labelled rows; pretraining rows beside them put codes on one scale."""
    beside = np.arange(len(labelled), len(labelled) + len(neighbours))
    return label_efficiency(
        sources,
        np.concatenate([labelled, neighbours]),
        np.r_[y, np.zeros(len(neighbours), np.int64)],  # no role of a probe holds these
        roles=[replace(role, pretrain_train=beside) for role in roles],
        labels=labels,
        num_subsets=num_subsets,
        seeds=seeds,
        strengths=STRENGTHS,
        criterion="accuracy",
    )


def _kept_probe(encoder: Encoder, material: Material) -> KeptProbe:
    """The probe on the codes of all labelled rows, those included that gave up their labels for pretraining."""
    last = len(material.unlabelled) - material.set_aside
    rows = np.concatenate([material.labelled, material.unlabelled[last:]])
    y = np.concatenate([material.y, material.y_set_aside])
    groups = encoder_marks(encoder, rows)
    if len(rows) > MOST_KEPT:
        part = retained(y, groups, MOST_KEPT / len(rows))
        rows, y, groups = rows[part], y[part], groups[part]
    return kept_probe(encoder.encode(rows), y, groups)


def encoder_marks(encoder: Encoder, rows: np.ndarray) -> np.ndarray:
    """Fingerprints of rows as an encoder takes them."""
    return row_fingerprints(
        rows if encoder.offset is None else (rows - encoder.offset).astype(np.float32)
    )


def _examples(view: View, trained: dict[str, Pretrained], rows: np.ndarray) -> dict[str, Examples]:
    """A few rows as each kind is shown them and reconstructs them, in the units of scaled rows."""
    clean = view.shown(0, rows)[:SAMPLES]
    return {
        kind: view.restored(corrupt_examples(clean, pretrained.corruption, pretrained, seed=0))
        for kind, pretrained in trained.items()
    }
