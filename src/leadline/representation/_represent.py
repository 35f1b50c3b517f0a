"""A whole study in one call: pretrain, choose by held-out labels, report, and keep the encoder."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal

from leadline import checks
from leadline.representation._image_size import ImageSize
from leadline.representation._material import gather
from leadline.representation._pretraining import Report, check_progress
from leadline.representation._run import Run
from leadline.representation._settings import RepresentationSettings
from leadline.representation._study import RepresentationStudy


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
    return Run(settings, material, folder, report).study()
