"""Results of ``leadline.autoencoders``: pretraining, codes, closed forms and corruptions."""

from typing import Any

import numpy as np
import torch

from leadline.autoencoders import (
    Autoencoder,
    BlockMask,
    GaussianNoise,
    LocalArchitecture,
    MaskedPatchTransformer,
    Nothing,
    PatchMask,
    PixelMask,
)
from tests.golden.names import call, public
from tests.golden.values import columns

CORRUPTIONS: dict[str, Any] = {
    "vanilla": Nothing(),
    "denoising": GaussianNoise(0.4),
    "pixels": PixelMask(0.25),
    "masked pixels": PixelMask(0.5, loss="masked"),
    "patches": PatchMask(0.5, 2, 6),
    "dropped patches": PatchMask(0.5, 2, 6, drop=True),
    "blocks": BlockMask(0.4, 6),
}


def rows(num: int = 48, features: int = 36) -> np.ndarray:
    """Correlated rows in float32."""
    draw = np.random.default_rng(0)
    return (draw.standard_normal((num, 5)) @ draw.standard_normal((5, features)) / 2).astype(
        np.float32
    )


def pretraining() -> dict[str, Any]:
    """Pretrain one autoencoder of each kind for a few epochs."""
    found: dict[str, Any] = {}
    for name, corruption in CORRUPTIONS.items():
        model = Autoencoder(36, (12, 4), corruption=corruption, seed=1)
        trained = call(
            "autoencoders.pretrain", model, rows(), epochs=3, batch_size=16, lr=3e-3, seed=2
        )
        found[name] = trained
        found[f"{name} codes"] = trained.encoder.encode(rows(6))
        found[f"{name} table"] = columns(trained)
        found[f"{name} has seen"] = trained.encoder.has_seen(rows(6))
    return found


def pretraining_many() -> dict[str, Any]:
    """Pretrain a stack with early stopping, different settings, and float64."""
    models = [
        Autoencoder(36, (8, 3), corruption=GaussianNoise(0.3), seed=seed) for seed in range(3)
    ]
    trained = call(
        "autoencoders.pretrain_many",
        models,
        rows(),
        seeds=[0, 1, 2],
        epochs=[4, 3, 6],
        batch_size=[16, 8, 16],
        lr=[1e-2, 3e-3, 0.2],
        schedule="constant",
        patience=1,
    )
    double = Autoencoder(36, (4,), activation="tanh", seed=0).double()
    plain = call(
        "autoencoders.pretrain",
        double,
        rows().astype(np.float64),
        validation=None,
        epochs=2,
        lr=1e-2,
        seed=0,
    )
    curves = public("autoencoders.finished_curves")(trained)
    return {"stack": trained, "double": plain, "curves": curves, "curves table": columns(curves)}


def transformers() -> dict[str, Any]:
    """Pretrain masked patch transformers, and a module of the user's own."""
    shape: dict[str, Any] = {
        "width": 8,
        "depth": 1,
        "heads": 2,
        "decoder_width": 8,
        "decoder_heads": 2,
    }
    found: dict[str, Any] = {}
    for name, more in {
        "mean": {},
        "class": {"pooling": "class", "normalise": True, "loss": "all"},
    }.items():
        model = MaskedPatchTransformer(6, 2, **shape, **more, seed=0)
        trained = call(
            "autoencoders.pretrain", model, rows(), epochs=2, batch_size=16, lr=1e-3, seed=0
        )
        found[name] = trained
        found[f"{name} codes"] = trained.encoder.encode(rows(5))
    generator = torch.Generator().manual_seed(0)
    own = torch.nn.Sequential(torch.nn.Linear(36, 4), torch.nn.Tanh(), torch.nn.Linear(4, 36))
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    trained = call("autoencoders.pretrain", own, rows(), epochs=2, batch_size=16, lr=1e-3, seed=0)
    return {**found, "own weights": trained.weights, "own error": trained.own_error}


def closed_forms() -> dict[str, Any]:
    """Compute linear optima, and an encoder of averages over patches."""
    found: dict[str, Any] = {}
    for name in ("vanilla", "denoising", "pixels"):
        optimum = call("autoencoders.linear_optimum", rows(), 3, CORRUPTIONS[name])
        found[name] = optimum
        found[f"{name} codes"] = optimum.encoder.encode(rows(4))
    draw = np.random.default_rng(1)
    half = draw.standard_normal((6, 6))
    found["moments"] = call(
        "autoencoders.linear_optimum_of", draw.standard_normal(6), half @ half.T, 2
    )
    local = LocalArchitecture(6, 3, width=4, stride=1, cells=2)
    weights = {
        name: draw.standard_normal(shape).astype(np.float32)
        for name, shape in local.encoder_shapes()
    }
    encoder = call("autoencoders.Encoder", local, weights, np.array([], np.uint64))
    found["local codes"] = encoder.encode(rows(4))
    return found


def corruptions() -> dict[str, Any]:
    """Corrupt rows, and compute losses and gradients of one batch."""
    found: dict[str, Any] = {}
    for name, corruption in CORRUPTIONS.items():
        generator = torch.Generator().manual_seed(3)
        seen, counts = corruption.corrupt(torch.from_numpy(rows(4)), generator)
        found[name] = {"seen": seen, "counts": counts}
        model = Autoencoder(36, (6, 3), corruption=corruption, seed=0)
        loss = model.loss(torch.from_numpy(rows(4)), torch.Generator().manual_seed(3))
        loss.backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        found[f"{name} loss"] = {"loss": loss, "gradients": gradients}
        shown = call("autoencoders.examples", rows(4), corruption, seed=5, image_size=6)
        found[f"{name} examples"] = shown
    return found


CASES = (pretraining, pretraining_many, transformers, closed_forms, corruptions)
