"""Benchmark of pretraining dense autoencoders against a usual training loop.

The loop uses a shuffling DataLoader, Adam and ``loss.item()``. Both train on the same rows for the
same number of steps, without validation. Each uses its best number of threads, which is found by
trials before the measurement.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.pairs import Row, paired, row
from leadline import data
from leadline.autoencoders import Autoencoder, pretrain, pretrain_many

HIDDEN, EPOCHS, BATCH, MEMBERS = (128, 32), 20, 100, 8


def measure(rounds: int = 7) -> list[Row]:
    """Return two rows: the model with eight seeds at once, and with one seed."""
    X = data.digits().X
    many, one, peer = (
        at_its_best(work)
        for work in (lambda: ours(X, range(MEMBERS)), lambda: ours(X, [0]), lambda: loop(X, 0))
    )
    all_of_many, alone, theirs = paired(many, one, peer, rounds=rounds)
    each = [seconds / MEMBERS for seconds in all_of_many]
    work = f"64-{'-'.join(map(str, HIDDEN))}-128-64 on the digits, {EPOCHS} epochs of batch {BATCH}"
    return [
        row(
            f"{work}: {MEMBERS} seeds at once, time per model", each, theirs, 5, peer_over_ours=True
        ),
        row(f"{work}: one model", alone, theirs, 1.5, peer_over_ours=True),
    ]


def ours(X: np.ndarray, seeds: Sequence[int]) -> None:
    options = {"validation": None, "epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 1e-3}
    models = [Autoencoder(64, HIDDEN, seed=seed) for seed in seeds]
    if len(seeds) > 1:
        pretrain_many(models, X, seeds=seeds, **options)
    else:
        pretrain(models[0], X, seed=seeds[0], **options)


def loop(X: np.ndarray, seed: int) -> float:
    """Train with a usual loop that computes the mean loss of each epoch; return the last."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            *(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32)),
            *(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 64)),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loader = DataLoader(TensorDataset(torch.as_tensor(X)), batch_size=BATCH, shuffle=True)
        mean = 0.0
        for _ in range(EPOCHS):
            total = 0.0
            for (x,) in loader:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(x), x)
                loss.backward()
                optimizer.step()
                total += loss.item()
            mean = total / len(loader)
        return mean


def at_its_best(work: Callable[[], object]) -> Callable[[], float]:
    """Return the work as a function that runs with its fastest number of threads."""

    def with_threads(threads: int) -> float:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        started = time.perf_counter()
        work()
        spent = time.perf_counter() - started
        torch.set_num_threads(before)
        return spent

    counts = range(1, (os.cpu_count() or 1) + 1)
    best = min(counts, key=lambda threads: min(with_threads(threads) for _ in range(3)))
    return partial(with_threads, best)
