"""Measurement of ``ae.c``: the influence of the decoder on downstream predictions."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int

from leadline import data
from leadline.autoencoders import Autoencoder, GaussianNoise, Pretrained
from leadline.data import Dataset, Roles, label_subsets
from leadline.figures import ACCENT, NEUTRAL, Drawing, extended, markers, panels
from leadline.probing import Scaling, linear_probe
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.storage import record
from leadline.worksheet._answer import Answer
from leadline.worksheet._criterion import Fact
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders.pretraining import (
    epochs_at_most,
    layers,
    pretrained_on_own_rows,
    spread,
)

if TYPE_CHECKING:
    import pandas as pd

HIDDEN_SIZES = (96, 64)

LABELS_PER_CLASS = 10


@record("worksheet.ThrownAway")
@dataclass(frozen=True, eq=False)
class ThrownAway(Sounding):
    """Probes on an autoencoder's codes with the decoder trained, randomised and deleted."""

    accuracy: Float[np.ndarray, " seeds"]
    """Accuracy in [0, 1] of the probe on codes of the whole autoencoder."""
    differing: Int[np.ndarray, "seeds 3"]
    """Number of changed predictions: decoder randomised, decoder deleted, exported encoder."""
    rows: int
    """Number of compared predictions for each seed."""
    error: Float[np.ndarray, "seeds 2"]
    """Reconstruction error on the test rows, with the trained and the randomised decoder.

    The error is the squared error summed over features.
    """
    parameters: Int[np.ndarray, " 2"]
    """Number of parameters of the encoder and of the decoder."""
    foreign: tuple[str, ...]
    """Tensors in the exported files that do not belong to the encoder."""

    @property
    def compared(self) -> int:
        """Number of predictions compared with the whole autoencoder's, over seeds and variants."""
        return self.rows * self.differing.size

    @property
    def changed(self) -> int:
        """Number of compared predictions that differ."""
        return int(self.differing.sum())

    @property
    def saved(self) -> float:
        """Share of the parameters that is thrown away."""
        return float(self.parameters[1] / self.parameters.sum())

    @property
    def verdict(self) -> Verdict:
        """The number of changed predictions."""
        return Verdict(
            f"of {self.compared} predictions with the decoder randomised, deleted or not exported, "
            f"{self.changed} change; without the decoder {100 * self.saved:z.0f} % of the "
            "parameters are saved"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per seed: probe accuracy (percent), changed predictions, both errors."""
        import pandas as pd

        columns = {"accuracy": 100 * self.accuracy}
        columns |= dict(zip(("randomised", "deleted", "exported"), self.differing.T, strict=True))
        columns |= dict(zip(("error as trained", "error randomised"), self.error.T, strict=True))
        return pd.DataFrame({"seed": self.protocol.seeds, **columns})

    def drawing(self) -> Drawing:
        """Return the effect of a random decoder on the reconstruction and on the predictions."""
        drawing = panels(
            "A random decoder, by reconstruction and by the probe's predictions",
            [
                ("reconstruction", "decoder", "squared error per row"),
                ("the probe's predictions", "decoder", "predictions that change"),
            ],
            xaxis={
                "tickvals": [0, 1],
                "ticktext": ["as trained", "randomised"],
                "range": [-0.5, 1.5],
            },
            yaxis={"rangemode": "tozero"},
            xaxis2={
                "tickvals": [0, 1, 2],
                "ticktext": ["randomised", "deleted", "exported"],
                "range": [-0.5, 2.5],
            },
            yaxis2={"range": [-self.rows / 20, self.rows]},
        )
        jitter = np.linspace(-0.12, 0.12, len(self.error))
        points = {"size": 7, "showlegend": False}
        trained, randomised = self.error.T
        traces = [
            markers(jitter, trained, colour=ACCENT, **points),
            markers(1 + jitter, randomised, colour=NEUTRAL, **points),
        ]
        traces += [
            markers(x + jitter, changed, colour=ACCENT, panel=2, **points)
            for x, changed in enumerate(self.differing.T)
        ]
        return extended(drawing, traces)


def decoder_is_thrown_away(setting: Setting) -> Answer:
    """``ae.c``: predictions with the decoder trained, randomised, deleted and not exported."""
    dataset = setting.data or data.digits()
    roles = [data.split_roles(dataset.labels, seed=seed) for seed in setting.seeds]
    kinds = {"denoising": GaussianNoise(0.5 * spread(dataset))}
    pretrained = pretrained_on_own_rows(kinds, dataset, roles, setting, HIDDEN_SIZES)["denoising"]
    measured = [_one(*each, dataset) for each in zip(pretrained, roles, setting.seeds, strict=True)]
    accuracy, differing, error = (np.array(column) for column in zip(*measured, strict=True))
    first = pretrained[0].model
    parameters = [
        sum(p.numel() for p in part.parameters()) for part in (first.encoder, first.decoder)
    ]
    foreign = tuple(sorted({name for result in pretrained for name in _exported_names(result)}))
    protocol = Protocol(
        {
            "data": dataset.name,
            "encoder": layers(dataset, HIDDEN_SIZES),
            "noise": kinds["denoising"].std,
            "epochs": epochs_at_most(setting),
            "labels per class, at most": LABELS_PER_CLASS,
        },
        seeds=setting.seeds,
    )
    thrown = ThrownAway(
        protocol, accuracy, differing, len(roles[0].test), error, np.array(parameters), foreign
    )
    return Answer(
        protocol=protocol,
        statement_id="ae.c",
        sentence=thrown.verdict.sentence + ".",
        soundings={"thrown": thrown},
        facts=_facts(thrown),
        findings=(
            f"The probe is right on {100 * accuracy.mean():z.1f} % of the test rows, with any "
            "decoder or none.",
            "Reconstruction does need it: a random decoder's error is "
            f"{np.median(error[:, 1] / error[:, 0]):z.0f} times that of the trained one.",
        ),
    )


def _facts(thrown: ThrownAway) -> dict[str, Fact]:
    return {
        "no_decoder_tensor": Fact(
            "tensors in the exported file that are not the encoder's",
            not thrown.foreign,
            ", ".join(thrown.foreign) or "none",
            "none",
        ),
        "predictions_identical": Fact(
            "predicted probabilities with the decoder randomised, deleted, and not exported, "
            "bit for bit",
            thrown.changed == 0,
            f"{thrown.changed} of {thrown.compared} differ",
            "none differs",
        ),
        "parameters_saved": Fact(
            "share of the parameters that belong to the decoder and are not exported",
            thrown.saved > 0,
            f"{100 * thrown.saved:z.0f} %",
            "more than none",
        ),
    }


def _one(
    pretrained: Pretrained, role: Roles, seed: int, dataset: Dataset
) -> tuple[float, tuple[int, int, int], tuple[float, float]]:
    """Return accuracy, changed predictions and reconstruction errors of one seed."""
    labels = min(LABELS_PER_CLASS * dataset.num_classes, len(role.probe_pool))
    rows = label_subsets(dataset.labels, role.probe_pool, [labels], num=1, seed=seed).order[
        0, :labels
    ]
    model = pretrained.model.eval()
    test = torch.from_numpy(dataset.X[role.test])

    def probabilities(encode: Callable[[torch.Tensor], torch.Tensor]) -> tuple[float, np.ndarray]:
        with torch.inference_mode():
            pretraining, Z, Z_test = (
                encode(torch.from_numpy(dataset.X[part])).numpy()
                for part in (role.pretrain_train, rows, role.test)
            )
        scaling = Scaling.fit(pretraining)
        probe = linear_probe(
            Z, dataset.labels[rows], Z_test, dataset.labels[role.test], scaling=scaling
        )
        return probe.accuracy, probe.probabilities(Z_test)

    def error() -> float:
        with torch.inference_mode():
            return float((model(test) - test).square().sum(1).mean())

    accuracy, expected = probabilities(model.encode)
    as_trained = error()
    untrained = Autoencoder(dataset.X.shape[1], HIDDEN_SIZES, seed=seed)
    model.decoder.load_state_dict(untrained.decoder.state_dict())
    found = [probabilities(model.encode)[1]]
    randomised = error()
    del model.decoder
    found += [probabilities(model.encode)[1], probabilities(pretrained.encoder.module)[1]]
    differing = [int((p != expected).any(1).sum()) for p in found]
    return accuracy, (differing[0], differing[1], differing[2]), (as_trained, randomised)


def _exported_names(pretrained: Pretrained) -> list[str]:
    """Return tensors of the exported file other than the encoder's and the row fingerprints."""
    from safetensors import safe_open

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "encoder.safetensors")
        pretrained.encoder.save(path)
        with safe_open(path, "numpy") as file:
            names = set(file.keys())
    return sorted(
        names - {"rows_seen"} - {f"encoder.{name}" for name in pretrained.encoder.weights}
    )
