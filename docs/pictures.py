"""Draws the pictures of README and of the home page from real soundings.

Run ``python docs/pictures.py``; it takes a minute. Each picture is written for light and for dark
pages. The verdicts are printed; copy their numbers to README and to the home page.
"""

from pathlib import Path

import torch

from leadline import autoencoders, data, decoding, figures, gradients, probing, recurrent
from leadline.sounding import Sounding

FOLDER = Path(__file__).parent / "pictures"
WIDTH = 560


def representation() -> Sounding:
    """Compare a denoising autoencoder with raw inputs on digits, with few labels and with many."""
    digits = data.digits()
    seeds = range(6)
    roles = [data.split_roles(digits.y, seed=seed) for seed in seeds]
    models = [
        autoencoders.Autoencoder(
            64, (96, 96, 64), corruption=autoencoders.GaussianNoise(0.5), seed=seed
        )
        for seed in seeds
    ]
    rows = [digits.X[role.pretrain_train] for role in roles]
    pretrained = autoencoders.pretrain_many(models, rows, seeds=seeds, epochs=60)
    return probing.label_efficiency(
        {"denoising": [one.encoder for one in pretrained]},
        digits.X,
        digits.y,
        roles=roles,
        labels=(10, 20, 50, 100),
        num_subsets=5,
    )


def gradient() -> Sounding:
    """Trace the gradient of the course's recurrent network over 100 timesteps."""
    model = recurrent.Regression(recurrent.RNN(1, 16, seed=0), seed=1)
    x, y = recurrent.running_average(8, 100, seed=2)
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y, last_only=True)
    return tape.gradient_flow(loss)


def search() -> Sounding:
    """Audit a beam of width 2 on the course's example."""
    table = decoding.Table(
        {
            (): {"neural": -0.65, "network": -0.73},
            ("neural",): {"neural": -0.80, "network": -0.60},
            ("network",): {"neural": -0.60, "network": -0.80},
            ("neural", "neural"): {"neural": -0.01, "network": -4.61},
            ("neural", "network"): {"neural": -0.80, "network": -0.60},
            ("network", "neural"): {"neural": -0.80, "network": -0.60},
            ("network", "network"): {"neural": -0.60, "network": -0.80},
        }
    )
    decoded = decoding.beam_search(*table.problem(), width=2, max_length=3)
    return decoding.audit(*table.problem(), decoded)


def main() -> None:
    """Measure, print the verdicts, and write the pictures."""
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for measure in (representation, gradient, search):
        sounding = measure()
        print(sounding)
        for style in ("light", "dark"):
            path = FOLDER / f"{measure.__name__}-{style}.svg"
            figures.export(sounding.drawing(), path, style=style, width=WIDTH)


if __name__ == "__main__":
    main()
