"""Measurement of ``ae.a``: problems that held-out error shows and training error hides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from leadline import data
from leadline.autoencoders import Autoencoder, Pretrained, pretrain_many
from leadline.data import Dataset, Roles
from leadline.figures import ACCENT, COLOURS, NEUTRAL, Drawing, extended, line, panels
from leadline.probing import label_efficiency
from leadline.randomness import numpy_generator
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.statistics import Effect
from leadline.storage import record
from leadline.worksheet._answer import Answer, effects_of
from leadline.worksheet._criterion import Fact
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders import overfitting
from leadline.worksheet.measurements.autoencoders.pretraining import label_count, layers

if TYPE_CHECKING:
    import pandas as pd

RUNS = ("healthy", "broken")
LOSSES = ("training", "validation")


@record("worksheet.Watched")
@dataclass(frozen=True, eq=False)
class Watched(Sounding):
    """Loss curves of healthy runs and of broken runs with shuffled targets.

    All errors are squared errors per row, summed over features.
    """

    curves: Float[np.ndarray, "runs losses seeds epochs"]
    """Errors after each epoch; runs: healthy, broken; losses: training, validation.

    The training loss uses the training objective; the validation loss uses clean rows.
    """
    trivial: Float[np.ndarray, "losses seeds"]
    """Error of predicting the mean training row, on training rows and on validation rows."""

    @property
    def means(self) -> Float[np.ndarray, "runs losses epochs"]:
        """Geometric means of the curves over seeds, as shown in the figure."""
        with np.errstate(divide="ignore"):
            return np.exp(np.log(self.curves).mean(2))

    @property
    def passes(self) -> np.ndarray:
        """True if the last epoch beats predicting the mean; shape (runs, losses, seeds)."""
        return self.curves[..., -1] < self.trivial

    @property
    def verdict(self) -> Verdict:
        """The number of broken runs that each loss exposes."""
        seeds = self.trivial.shape[1]
        found_out = seeds - self.passes.sum(2)
        return Verdict(
            f"training loss finds out {found_out[1, 0]} of {seeds} broken runs, validation loss "
            f"{found_out[1, 1]}; of the healthy ones {found_out[0, 0]} and {found_out[0, 1]}"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per seed: errors after the last epoch, and of predicting the mean row."""
        import pandas as pd

        columns = {
            f"{run}, {loss}": self.curves[i, j, :, -1]
            for i, run in enumerate(RUNS)
            for j, loss in enumerate(LOSSES)
        }
        columns |= {f"mean row, {loss}": self.trivial[j] for j, loss in enumerate(LOSSES)}
        return pd.DataFrame({"seed": self.protocol.seeds, **columns})

    def drawing(self) -> Drawing:
        """Return both losses by epoch, and the error of predicting the mean row.

        The losses are geometric means over seeds.
        """
        means = self.means
        low, high = np.log10([max(means.min(), 1e-12), means.max()])
        axis = {
            "type": "log",
            "range": [low - 0.2, high + 0.2],
            "dtick": 1,
            "exponentformat": "power",
        }
        drawing = panels(
            "Losses of healthy runs, and of runs whose targets were shuffled",
            [
                ("healthy", "epoch", "squared error per row"),
                ("targets shuffled", "epoch", "squared error per row"),
            ],
            yaxis=axis,
            yaxis2=axis,
        )
        epochs = np.arange(1, self.curves.shape[3] + 1)
        traces = []
        for panel in (1, 2):
            common = {"showlegend": panel == 1, "panel": panel}
            for loss, colour in enumerate((NEUTRAL, ACCENT)):
                name = f"{LOSSES[loss]} loss"
                curve = means[panel - 1, loss]
                traces.append(line(epochs, curve, name=name, colour=colour, width=2, **common))
            mean_row = line(
                epochs[[0, -1]],
                [self.trivial[1].mean()] * 2,
                name="predicting the mean row",
                colour=COLOURS[1],
                dash="dash",
                width=1,
                **common,
            )
            traces.append(mean_row)
        return extended(drawing, traces)


def held_out_error_is_watched(setting: Setting) -> Answer:
    """``ae.a``: the test error that early stopping saves, and the losses of a broken run."""
    dataset = setting.data or data.digits()
    roles = [data.split_roles(dataset.labels, seed=seed) for seed in setting.seeds]
    kept, last, broken = _runs(dataset, roles, setting)
    watched = _watched(dataset, roles, setting, kept, broken)
    labels = label_count(dataset, roles, per_class=10)
    accuracy = _accuracy(dataset, roles, setting, labels, kept, last)
    effects = _effects(_test_errors(dataset, roles, kept, last), accuracy, labels)
    num_runs = len(roles)
    passed_training, passed_validation = watched.passes[1].sum(axis=-1)
    stopped = np.array([run.best_epoch for run in kept])
    return Answer(
        protocol=watched.protocol,
        statement_id="ae.a",
        sentence="training on to the last epoch costs "
        f"{effects['test_error_last_minus_best'].interval} of test error "
        f"({effects['test_error_increase'].interval:.1f} %), and of {num_runs} broken runs "
        f"training loss finds out {num_runs - passed_training}, validation loss "
        f"{num_runs - passed_validation}.",
        soundings={"watched": watched},
        effects=effects,
        facts=_facts(watched),
        findings=(
            _losses_at_the_end(watched),
            f"The validation minimum came at epoch {np.median(stopped):z.0f} of "
            f"{overfitting.epochs(setting)} (median).",
            f"With {labels} labels a probe on early-stopped encoders reaches "
            f"{accuracy['early-stopped'].mean():z.1f} %, on those of the last epoch "
            f"{accuracy['last epoch'].mean():z.1f} %: "
            f"{effects['accuracy_early_minus_last'].interval} points.",
        ),
    )


def _test_errors(
    dataset: Dataset, roles: Sequence[Roles], *runs: Sequence[Pretrained]
) -> Float[np.ndarray, "seeds runs"]:
    """Return the reconstruction error on test rows by seed and kind of run."""
    return np.array(
        [
            [overfitting.reconstruction_error(result, dataset.X[role.test]) for result in results]
            for results, role in zip(zip(*runs, strict=True), roles, strict=True)
        ]
    )


def _accuracy(
    dataset: Dataset,
    roles: Sequence[Roles],
    setting: Setting,
    labels: int,
    kept: Sequence[Pretrained],
    last: Sequence[Pretrained],
) -> dict[str, Float[np.ndarray, "seeds subsets"]]:
    """Return the accuracy of probes on the encoders, in percent, by name."""
    study = label_efficiency(
        {
            "early-stopped": [run.encoder for run in kept],
            "last epoch": [run.encoder for run in last],
        },
        dataset.X,
        dataset.labels,
        roles=roles,
        labels=[labels],
        num_subsets=setting.pick(quick=3, full=10),
        seeds=setting.seeds,
        baselines=("raw",),
    )
    return dict(zip(study.names, 100 * study.accuracy[:, :, 0], strict=True))


def _effects(
    errors: Float[np.ndarray, "seeds 2"], accuracy: Mapping[str, np.ndarray], labels: int
) -> dict[str, Effect]:
    """Return the effects of stopping early.

    Args:
        errors: test errors of early-stopped runs and of runs to the last epoch.
        accuracy: accuracy of probes in percent, by name.
        labels: number of labels of the probes.
    """
    return effects_of(
        "ae.a",
        test_error_last_minus_best=(
            errors[:, 1] - errors[:, 0],
            "test error at the last epoch minus at the validation minimum",
            "squared error per row",
        ),
        test_error_increase=(
            100 * (errors[:, 1] / errors[:, 0] - 1),
            "the same, as a share of the test error at the validation minimum",
            "%",
            (-100.0, np.inf),
        ),
        accuracy_early_minus_last=(
            accuracy["early-stopped"] - accuracy["last epoch"],
            f"probe accuracy, early-stopped minus last epoch, {labels} labels",
            "points",
        ),
    )


def _facts(watched: Watched) -> dict[str, Fact]:
    """Return the runs that each loss takes for healthy ones."""
    num_runs = watched.passes.shape[-1]
    passed_training, passed_validation = watched.passes[1].sum(axis=-1)
    is_told = watched.passes[0].all() and not watched.passes[1, 1].any()
    return {
        "training_loss_is_blind": Fact(
            "by training loss, broken runs as well as healthy ones beat predicting the mean row",
            bool(watched.passes[:, 0].all()),
            f"{passed_training} of {num_runs} broken runs do, and training loss finds out "
            f"{num_runs - passed_training}",
            "all",
        ),
        "validation_loss_tells": Fact(
            "by validation loss, healthy runs beat predicting the mean row and broken ones do not",
            bool(is_told),
            f"{int(watched.passes[0, 1].sum())} healthy and {passed_validation} broken runs do, "
            f"and validation loss finds out {num_runs - passed_validation} broken ones",
            f"{num_runs} healthy and no broken",
        ),
    }


def _losses_at_the_end(watched: Watched) -> str:
    healthy, broken = watched.means[..., -1]
    return (
        "At the last epoch, broken against healthy (geometric means): training loss "
        f"{broken[0]:z.2g} against {healthy[0]:z.2g}, validation loss {broken[1]:z.2g} "
        f"against {healthy[1]:z.2g}; predicting the mean row costs "
        f"{watched.trivial[0].mean():z.2g} and {watched.trivial[1].mean():z.2g}."
    )


def _runs(dataset: Dataset, roles: Sequence[Roles], setting: Setting) -> list[list[Pretrained]]:
    """Train three runs per seed: best weights kept, last weights kept, and shuffled targets."""
    width = dataset.X.shape[1]
    epochs = overfitting.epochs(setting)
    rows = [
        overfitting.scarce_rows(dataset, role, seed)
        for role, seed in zip(roles, setting.seeds, strict=True)
    ]
    held_out = [dataset.X[role.pretrain_validation] for role in roles]
    seeds = list(setting.seeds)
    count = len(roles)
    shuffled = [shuffled_between_samples(X, seed) for X, seed in zip(rows, seeds, strict=True)]
    results = pretrain_many(
        [Autoencoder(width, overfitting.HIDDEN_SIZES, seed=seed) for seed in 3 * seeds],
        3 * rows,
        targets=[*[None] * (2 * count), *shuffled],
        validation=[*held_out, *[None] * count, *held_out],
        seeds=3 * seeds,
        epochs=epochs,
        patience=epochs,
        batch_size=overfitting.BATCH_SIZE,
    )
    return [results[i : i + count] for i in range(0, 3 * count, count)]


def shuffled_between_samples(X: Float[np.ndarray, "n d"], seed: int) -> Float[np.ndarray, "n d"]:
    """Return the rows in an order in which no row keeps its place.

    This simulates a bug that pairs every input with a wrong target.
    """
    order = numpy_generator(seed, "worksheet.ae.a").permutation(len(X))
    shuffled = np.empty_like(X)
    shuffled[order] = X[np.roll(order, 1)]
    return shuffled


def _watched(
    dataset: Dataset,
    roles: Sequence[Roles],
    setting: Setting,
    healthy: Sequence[Pretrained],
    broken: Sequence[Pretrained],
) -> Watched:
    trivial = []
    for role, seed in zip(roles, setting.seeds, strict=True):
        rows = overfitting.scarce_rows(dataset, role, seed)
        parts = (rows, dataset.X[role.pretrain_validation])
        trivial.append([((part - rows.mean(0)) ** 2).sum(1).mean() for part in parts])
    protocol = Protocol(
        {
            "data": dataset.name,
            "encoder": layers(dataset, overfitting.HIDDEN_SIZES),
            "rows": len(overfitting.scarce_rows(dataset, roles[0], setting.seeds[0])),
            "epochs": overfitting.epochs(setting),
            "batch size": overfitting.BATCH_SIZE,
        },
        seeds=setting.seeds,
    )
    curves = [
        [[run.training_error for run in runs], [run.clean_error[1:] for run in runs]]
        for runs in (healthy, broken)
    ]
    return Watched(protocol, np.array(curves), np.array(trivial).T)
