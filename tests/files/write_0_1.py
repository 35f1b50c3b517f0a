"""One saved file of every kind, written by Leadline 0.1.0, with the numbers that it must give.

The folder ``tests/files/0.1`` was written by Leadline 0.1.0 (commit 12d23f8), with torch 2.13.0 on
x86-64, from a checkout of that commit:

    git worktree add --detach ../zero-one 12d23f8
    cd ../zero-one
    PYTHONPATH=src:. python ../leadline/tests/files/write_0_1.py ../leadline/tests/files/0.1

Tests read it with the current code; see ``test_files_of_0_1.py``. This script is kept as a record
and does not run on later releases.
"""

# pyright: basic, reportAttributeAccessIssue=false, reportMissingImports=false, reportCallIssue=false, reportOptionalMemberAccess=false

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import leadline
from leadline import autoencoders, data, decoding, probing, recurrent, storage

TEXT = "the cat sat on the mat .\n\nthe dog sat on the log .\n\na cat and a dog sat .\n\n" * 6


def rows(num: int = 30, features: int = 16) -> np.ndarray:
    """Draw rows in float32."""
    draw = np.random.default_rng(0)
    return (draw.standard_normal((num, 3)) @ draw.standard_normal((3, features))).astype(np.float32)


def table(num: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of three classes."""
    draw = np.random.default_rng(0)
    y = np.arange(num) % 3
    centres = 1.2 * draw.standard_normal((3, features))
    return (draw.standard_normal((num, features)) + centres[y]).astype(np.float32), y


def of_autoencoders() -> dict[str, Any]:
    """Soundings of pretraining."""
    corruption = autoencoders.PixelMask(0.25)
    model = autoencoders.Autoencoder(16, (6, 3), corruption=corruption, seed=0)
    dense = autoencoders.pretrain(model, rows(), epochs=2, seed=0)
    patches = autoencoders.MaskedPatchTransformer(
        4, 2, width=8, depth=1, heads=2, decoder_width=8, decoder_heads=2, seed=0
    )
    transformer = autoencoders.pretrain(patches, rows(), epochs=2, seed=0)
    own = nn.Sequential(nn.Linear(16, 3), nn.Linear(3, 16))
    custom = autoencoders.pretrain(own, rows(), epochs=1, lr=1e-3, seed=0)
    return {
        "Pretrained": dense,
        "Pretrained-transformer": transformer,
        "Pretrained-custom": custom,
        "Examples": autoencoders.examples(rows(3), corruption, dense, seed=0, image_size=4),
        "TrainingCurves": autoencoders.finished_curves([dense]),
    }


def of_gradients() -> dict[str, Any]:
    """Soundings of gradients, which were in ``leadline.recurrent``."""
    model = recurrent.Regression(recurrent.LSTM(1, 3, seed=0), seed=0)
    x, y = recurrent.running_average(2, 6, seed=0)
    with recurrent.trace(model) as tape:
        terms = recurrent.mse(model(x)[0], y, per_step=True)
        flow = tape.gradient_flow(terms.sum())
        influence = tape.influence(terms)
        weight_terms = tape.weight_terms(terms)
    remedies = recurrent.remedies(
        model, lambda model: recurrent.mse(model(x)[0], y, last_only=True), window=3
    )
    return {
        "GradientFlow": flow,
        "Influence": influence,
        "WeightTerms": weight_terms,
        "Stability": recurrent.stability(model.network, x),
        "Remedies": remedies,
        "Training": recurrent.train([model], seeds=[0], time=4, steps=4, evaluate_every=2),
    }


def of_decoding() -> dict[str, Any]:
    """Soundings of searches."""
    draw = np.random.default_rng(0)
    scores = torch.from_numpy(2 * draw.normal(size=(6, 6))).log_softmax(1)

    def step(tokens: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return scores[tokens], state

    problem = decoding.Problem(step, torch.zeros(2, 1), torch.tensor([1, 2]))
    length: dict[str, Any] = {"max_length": 4, "eos": 0}
    beam = decoding.beam_search(*problem, width=2, num_return=2, trace=True, **length)
    greedy = decoding.greedy(*problem, **length)
    audit = decoding.audit(*problem, greedy)
    alone = decoding.Problem(step, torch.zeros(1, 1), torch.tensor([1]))
    walked = decoding.audit(*alone, decoding.greedy(*alone, **length))
    return {
        "Decoded": beam,
        "Decoded-exact": decoding.exact_search(*problem, **length),
        "SearchAudit": audit,
        "Walk": walked.at(1),
        "Comparison": decoding.compare(greedy, beam),
        "SearchErrors": decoding.search_errors(*problem, widths=(1, 2), **length),
        "Complexity": decoding.complexity((2, 3), (1, 2), (8, 12)),
    }


def of_probing() -> dict[str, Any]:
    """Soundings of studies of labels."""
    X, y = table(150, 8)
    fractions = (0.4, 0.1, 0.2, 0.1, 0.2)
    roles = [data.split_roles(150, seed=seed, fractions=fractions) for seed in range(3)]
    encoders: dict[str, Any] = {"denoising": [], "other": [], "third": []}
    for seed, role in enumerate(roles):
        model = autoencoders.Autoencoder(
            8, (6, 3), corruption=autoencoders.GaussianNoise(0.4), seed=seed
        )
        one = autoencoders.pretrain(model, X[role.pretrain_train], epochs=2, seed=seed)
        encoders["denoising"].append(one.encoder)
        encoders["other"].append(one.encoder.untrained(seed))
        encoders["third"].append(one.encoder.untrained(seed + 9))
    study = probing.label_efficiency(encoders, X, y, roles=roles, labels=[6, "all"], num_subsets=2)
    losses = {"denoising": [3.0, 2.0, 1.0], "other": [4.0, 1.0, 2.0], "third": [2.0, 2.5, 3.0]}
    target = data.Dataset(X, y, "rows")
    transfer = probing.transfer_matrix(
        {"own": encoders["denoising"]}, {"rows": target}, roles={"rows": roles}, num_subsets=2
    )
    X, y = table(90, 6)
    labels = np.where(np.arange(90) < 60, y, -1)
    represented = leadline.represent(
        X, labels, kinds=["vanilla", "denoising"], seeds=2, labels=[12], num_subsets=1
    )
    alone = leadline.represent(X, kinds=["denoising"], seeds=2)
    return {
        "LabelEfficiency": study,
        "RankAgreement": probing.rank_agreement(study, losses),
        "TransferMatrix": transfer,
        "RepresentationStudy": represented,
        "RepresentationStudy-without-labels": alone,
    }


def encoders() -> dict[str, tuple[Any, np.ndarray]]:
    """One encoder of each architecture, with rows to encode."""
    dense = autoencoders.Autoencoder(16, (6, 3), activation="tanh", seed=0)
    double = autoencoders.Autoencoder(16, (3,), seed=0).double()
    patches = autoencoders.MaskedPatchTransformer(
        4, 2, width=8, depth=1, heads=2, decoder_width=8, decoder_heads=2, pooling="class", seed=0
    )
    local = autoencoders.LocalArchitecture(4, 2, width=3, stride=1, cells=2, components=4)
    draw = np.random.default_rng(1)
    weights = {
        name: draw.standard_normal(shape).astype(np.float32)
        for name, shape in local.encoder_shapes()
    }
    pixels = draw.integers(0, 256, (20, 16)).astype(np.uint8)
    masked = autoencoders.PatchMask(0.5, 2, 4, drop=True)
    dropping = autoencoders.Autoencoder(16, (6, 3), corruption=masked, seed=0)
    return {
        "dense": (autoencoders.pretrain(dense, rows(), epochs=1).encoder, rows()),
        "double": (autoencoders.pretrain(double, rows(), epochs=1, lr=1e-3).encoder, rows()),
        "patches": (autoencoders.pretrain(patches, rows(), epochs=1).encoder, rows()),
        "local": (autoencoders.Encoder(local, weights, np.array([], np.uint64)), rows()),
        "dropping": (autoencoders.pretrain(dropping, rows(), epochs=1).encoder, rows()),
        "linear": (autoencoders.linear_optimum(rows(), 2).encoder, rows()),
        "pixels": (
            autoencoders.pretrain(
                autoencoders.Autoencoder(16, (3,), seed=0), pixels, epochs=1
            ).encoder,
            pixels,
        ),
    }


def write_checkpoint(folder: Path) -> list[list[float]]:
    """Interrupt a training after two of four epochs; return the errors of an uninterrupted one."""

    def stop(epoch: autoencoders.Epoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    def train(**more: Any) -> Any:
        corruption = autoencoders.GaussianNoise(0.3)
        model = autoencoders.Autoencoder(16, (6, 3), corruption=corruption, seed=0)
        return autoencoders.pretrain(model, rows(), epochs=4, batch_size=9, seed=0, **more)

    with contextlib.suppress(KeyboardInterrupt):
        train(checkpoint=folder, progress=stop)
    whole = train()
    return [whole.training_error.tolist(), whole.own_error.tolist()]


def write_metrics(path: Path) -> None:
    """Watch three steps of a model."""
    model = recurrent.Regression(recurrent.RNN(1, 3, seed=0), seed=0)
    x, y = recurrent.running_average(2, 5, seed=0)
    monitor = recurrent.GradientMonitor(model, every=1, write=path)
    for _ in range(3):
        model.zero_grad()
        with monitor.step():
            recurrent.mse(model(x)[0], y).backward()


def answers() -> dict[str, Any]:
    """Answers to all statements, in sizes that are too small to conclude anything."""
    from leadline.worksheet import STATEMENTS
    from tests.worksheet.small import result_of

    return {f"answer-{name}": result_of(name).answer for name in STATEMENTS}


def numbers(sounding: Any) -> dict[str, Any]:
    """What a loaded sounding must give."""
    columns = sounding.table().select_dtypes("number").to_numpy(np.float64).T
    found = [
        [value if np.isfinite(value) else repr(float(value)) for value in column]
        for column in columns
    ]
    kind = type(sounding)
    return {
        "class": kind.__name__,
        "package": kind.__module__.split(".")[1],
        "module": kind.__module__,
        "verdict": str(sounding.verdict),
        "outcome": sounding.verdict.outcome,
        "table": found,
    }


def main(folder: Path) -> None:
    """Write everything."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    document: dict[str, Any] = {"version": leadline.__version__, "soundings": {}, "encoders": {}}
    soundings = {
        **of_autoencoders(),
        **of_gradients(),
        **of_decoding(),
        **of_probing(),
        **answers(),
    }
    for name, sounding in soundings.items():
        sounding.save(folder / "soundings" / name)
        document["soundings"][name] = numbers(sounding)
    for name, (encoder, material) in encoders().items():
        encoder.save(folder / "encoders" / f"{name}.safetensors")
        document["encoders"][name] = {
            "rows": material[:4].tolist(),
            "codes": encoder.encode(material[:4]).tolist(),
        }
    document["checkpoint"] = write_checkpoint(folder / "checkpoint")
    for cell in ("gru", "lstm"):
        model = decoding.RecurrentLM(
            types=14, hidden=4, epochs=1, streams=4, cell=cell, seed=1
        ).fit(TEXT)
        model.save(folder / "language_models" / cell)
        answer = decoding.beam_search(
            *model.problem(["the cat"]), width=2, max_length=4, eos=model.end
        )
        document[f"language model {cell}"] = {
            "tokens": answer.tokens.tolist(),
            "log_prob": answer.log_prob.tolist(),
            "perplexity": model.perplexity.model,
        }
    write_metrics(folder / "metrics.jsonl")
    metrics = recurrent.read_metrics(folder / "metrics.jsonl")
    document["metrics"] = {name: metrics[name].tolist() for name in metrics}
    storage.write(folder / "numbers.json", json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(Path(sys.argv[1]).absolute())
