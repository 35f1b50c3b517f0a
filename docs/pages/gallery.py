"""The gallery: soundings that the build measures, each with its code, verdict and picture."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

from leadline import figures

WIDTH = 680


@dataclass(frozen=True)
class Exhibit:
    """One entry: a title, and code that leaves a sounding in a variable of that name."""

    name: str
    title: str
    code: str


START = """\
import torch

from leadline import autoencoders, data, decoding, gradients, probing, recurrent
"""

EXHIBITS = (
    Exhibit(
        "flow",
        "Gradient flow",
        """\
model = recurrent.Regression(recurrent.LSTM(1, 16, 2, seed=0), seed=0)
x, y = recurrent.running_average(8, 60, seed=0)
with gradients.trace(model) as tape:
    terms = recurrent.mse(model(x)[0], y, per_step=True)
    flow = tape.gradient_flow(terms[-1])
""",
    ),
    Exhibit(
        "influence",
        "Influence of each timestep on each loss term",
        "influence = tape.influence(terms)\n",
    ),
    Exhibit(
        "pretrained",
        "Pretraining",
        """\
digits = data.digits()
corruption = autoencoders.GaussianNoise(0.5)
model = autoencoders.Autoencoder(64, (96, 48), corruption=corruption, seed=0)
pretrained = autoencoders.pretrain(model, digits.X, epochs=20)
""",
    ),
    Exhibit(
        "examples",
        "What a denoising autoencoder sees and reconstructs",
        "examples = autoencoders.corrupt_examples(digits.X[:8], corruption, pretrained, seed=0, "
        "image_size=8)\n",
    ),
    Exhibit(
        "study",
        "Label efficiency",
        """\
roles = [data.split_roles(digits.y, seed=seed) for seed in range(3)]
models = [autoencoders.Autoencoder(64, (96, 48), corruption=corruption, seed=s) for s in range(3)]
rows = [digits.X[role.pretrain_train] for role in roles]
runs = autoencoders.pretrain_many(models, rows, seeds=range(3), epochs=20)
study = probing.label_efficiency(
    {"denoising": [run.encoder for run in runs]},
    digits.X,
    digits.y,
    roles=roles,
    labels=(10, 50, 100),
    num_subsets=3,
)
""",
    ),
    Exhibit(
        "audit",
        "Audit of a beam search",
        """\
scores = 2 * torch.randn(7, 7, generator=torch.Generator().manual_seed(3))
problem = decoding.Problem(
    lambda tokens, state: (scores[tokens], state), torch.zeros(1, 1), torch.tensor([1])
)
found = decoding.beam_search(*problem, width=2, max_length=4, eos=0)
audit = decoding.audit(*problem, found)
""",
    ),
    Exhibit(
        "errors",
        "Search errors by beam width",
        """\
many = decoding.Problem(problem.step, torch.zeros(6, 1), torch.arange(1, 7))
errors = decoding.measure_search_errors(*many, widths=(1, 2, 3, 5), max_length=6, eos=0)
""",
    ),
)

INTRODUCTION = """\
Gallery
=======

The build of this site ran this code from top to bottom. Below each sounding stand its verdict and
its picture, which ``figures.export(sounding.drawing(), "picture.svg")`` writes.

"""


def write(folder: Path) -> None:
    """Measure all soundings, and write the page and its pictures."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    namespace: dict[str, Any] = {}
    exec(START, namespace)
    lines = [*_code(START)]
    for exhibit in EXHIBITS:
        exec(exhibit.code, namespace)
        sounding = namespace[exhibit.name]
        lines += [exhibit.title, "-" * len(exhibit.title), "", *_code(exhibit.code)]
        lines += [f"**Verdict:** {_plain(str(sounding))}", ""]
        for style in ("light", "dark"):
            name = f"{exhibit.name}-{style}.svg"
            figures.export(sounding.drawing(), folder / name, style=style, width=WIDTH)
            lines += [
                f".. image:: {name}",
                f"   :class: picture-{style}",
                f"   :alt: {exhibit.title}",
                "",
            ]
    (folder / "index.rst").write_text(INTRODUCTION + "\n".join(lines) + "\n", "utf-8")


def _code(code: str) -> list[str]:
    return [".. code-block:: python", "", indent(code, "   "), ""]


def _plain(text: str) -> str:
    """Return a text that reStructuredText shows as it is."""
    for sign in ("\\", "*", "`", "|", "_"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
