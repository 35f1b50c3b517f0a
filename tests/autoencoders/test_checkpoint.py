import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leadline.autoencoders import (
    Autoencoder,
    GaussianNoise,
    MaskedPatchTransformer,
    PixelMask,
    pretrain,
    pretrain_many,
)
from leadline.autoencoders.training._checkpoint import discard
from leadline.errors import InputError, LeadlineError, SaveError

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(70, 3)) @ RNG.normal(size=(3, 8)) + 0.3 * RNG.normal(size=(70, 8))).astype(
    np.float32
)


class KilledError(Exception):
    """Simulates the interruption of a run."""


def dense(seed=0):
    return Autoencoder(8, (6, 3), "tanh", GaussianNoise(0.3), seed=seed)


class Own(nn.Module):
    """A user's module with dropout and batch normalisation."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.first, self.norm, self.drop = nn.Linear(8, 5), nn.BatchNorm1d(5), nn.Dropout(0.2)
        self.second = nn.Linear(5, 8)
        self.corruption = PixelMask(0.3, loss="masked")
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=0.3, generator=draw)

    def encode(self, x):
        return self.norm(self.first(x))

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.encode(x))))


def own_module():
    with torch.random.fork_rng(devices=[]):
        return Own()


def transformer():
    return MaskedPatchTransformer(
        (4, 2), 2, width=8, depth=1, heads=2, decoder_width=4, decoder_heads=1, seed=0
    )


MODELS = {"dense": dense, "own": own_module, "transformer": transformer}


def equal(a, b):
    same_weights = all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)
    curves = ("training_error", "clean_error", "own_error", "rows_seen")
    same_curves = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in curves)
    return (
        same_weights
        and same_curves
        and (a.best_epoch, a.ending, a.protocol) == (b.best_epoch, b.ending, b.protocol)
    )


def kill_at(epoch, model=0):
    def progress(report):
        if (report.model, report.epoch) == (model, epoch):
            raise KilledError

    return progress


def folder_bytes(folder: Path):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("validation", [0.2, None])
def test_an_interrupted_run_resumes_with_the_same_bits(tmp_path: Path, kind, validation):
    options = {"epochs": 9, "batch_size": 16, "validation": validation, "seed": 5}
    straight = pretrain(MODELS[kind](), X, checkpoint=tmp_path / "straight", **options)
    assert equal(straight, pretrain(MODELS[kind](), X, **options))
    for epoch in (0, 4, 7):
        with pytest.raises(KilledError):
            pretrain(
                MODELS[kind](),
                X,
                checkpoint=tmp_path / "killed",
                progress=kill_at(epoch),
                **options,
            )
    reports = []
    resumed = pretrain(
        MODELS[kind](), X, checkpoint=tmp_path / "killed", progress=reports.append, **options
    )
    assert [epoch.epoch for epoch in reports] == [8, 9]
    assert equal(resumed, straight)
    assert folder_bytes(tmp_path / "killed") == folder_bytes(tmp_path / "straight")


@settings(max_examples=8)
@given(st.integers(0, 2), st.integers(0, 6))
def test_a_population_resumes_from_different_epochs(model, epoch):
    """The run is interrupted between two members of a stack."""
    import tempfile

    options = {
        "seeds": range(3),
        "epochs": [6, 7, 6],
        "patience": [2, 9, 9],
        "learning_rate": [5e-2, 1e-3, 1e-2],
    }
    straight = pretrain_many([dense(s) for s in range(3)], X, **options)
    with tempfile.TemporaryDirectory() as folder:
        try:
            many = [dense(s) for s in range(3)]
            pretrain_many(many, X, checkpoint=folder, progress=kill_at(epoch, model), **options)
        except KilledError:
            pass
        resumed = pretrain_many([dense(s) for s in range(3)], X, checkpoint=folder, **options)
        assert all(equal(a, b) for a, b in zip(straight, resumed, strict=True))
        assert sorted(path.name for path in Path(folder).iterdir()) == ["0", "1", "2"]


SCRIPT = """
    import os, signal, sys
    import numpy as np, torch
    from leadline.autoencoders import Autoencoder, GaussianNoise, pretrain

    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    def progress(report):
        if report.epoch == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    model = Autoencoder(8, (6, 3), corruption=GaussianNoise(0.3), seed=0)
    pretrain(model, X, epochs=8, checkpoint=sys.argv[1], progress=progress)
"""


def test_a_killed_process_resumes(tmp_path: Path):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, script, tmp_path / "run", "5"], env=os.environ, check=False
    )
    assert done.returncode == -signal.SIGKILL
    rows = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)

    def make():
        return Autoencoder(8, (6, 3), corruption=GaussianNoise(0.3), seed=0)

    reports = []
    resumed = pretrain(make(), rows, epochs=8, checkpoint=tmp_path / "run", progress=reports.append)
    assert [epoch.epoch for epoch in reports] == [6, 7, 8]
    assert equal(resumed, pretrain(make(), rows, epochs=8))


def test_a_finished_run_is_read_back(tmp_path: Path):
    done = pretrain(dense(), X, epochs=3, checkpoint=tmp_path)
    model, reports = dense(), []
    assert equal(pretrain(model, X, epochs=3, checkpoint=tmp_path, progress=reports.append), done)
    assert reports == []
    for name, tensor in model.state_dict().items():
        assert np.array_equal(tensor.numpy(), done.weights[name])


def test_the_journal_has_a_line_per_epoch(tmp_path: Path):
    done = pretrain(dense(), X, epochs=3, checkpoint=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    assert [line["training"] for line in lines] == [None, *done.training_error]
    assert [line["validation_clean"] for line in lines] == done.clean_error.tolist()
    assert [line["validation_corrupted"] for line in lines] == done.own_error.tolist()


def test_a_diverged_run_writes_valid_json(tmp_path: Path):
    model = Autoencoder(8, (6, 3), seed=0)
    done = pretrain(
        model, X, learning_rate=1e30, schedule="constant", epochs=9, checkpoint=tmp_path
    )
    assert done.ending == "diverged"
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert last["validation_corrupted"] in ("nan", "inf") or last["validation_corrupted"] > 1e6


@pytest.mark.parametrize("has_checkpoint", [False, True])
@pytest.mark.parametrize("content", ["mine", '{"accuracy": 0.9}', "mine\n", "[[[[\n"])
def test_metrics_of_other_programs_are_never_replaced(tmp_path: Path, has_checkpoint, content):
    if has_checkpoint:
        pretrain(dense(), X, epochs=2, checkpoint=tmp_path)
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"metrics.jsonl of another program"):
        pretrain(dense(), X, epochs=2, checkpoint=tmp_path)
    discard(tmp_path.parent)
    assert (tmp_path / "metrics.jsonl").read_text() == content


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "metrics.jsonl"])
def test_a_pipe_in_a_checkpoint_never_blocks(tmp_path: Path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(LeadlineError, match=name):
        pretrain(dense(), X, epochs=2, checkpoint=tmp_path)
    assert (tmp_path / name).is_fifo()


def test_only_checkpoints_of_a_population_are_discarded(tmp_path: Path):
    pretrain_many([dense(), dense()], X, seeds=[0, 1], epochs=1, checkpoint=tmp_path)
    pretrain(dense(), X, epochs=1, checkpoint=tmp_path / "mine")
    pretrain(dense(), X, epochs=1, checkpoint=tmp_path / "0" / "mine")
    (tmp_path / "1" / "thesis").write_text("mine")
    discard(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    kept = ["checkpoint.safetensors", "metrics.jsonl"]
    assert left == [
        *(f"0/mine/{name}" for name in kept),
        "1/thesis",
        *(f"mine/{name}" for name in kept),
    ]


def changed(**changes):
    arguments = {"model": dense(), "X": X, "epochs": 3, **changes}
    return lambda folder: pretrain(
        arguments.pop("model"), arguments.pop("X"), checkpoint=folder, **arguments
    )


@pytest.mark.parametrize(
    ("again", "text"),
    [
        (changed(epochs=4), r"epochs = 4; .*checkpoint.safetensors has 3"),
        (changed(learning_rate=1e-3), "learning_rate = 0.001; .* has 0.005"),
        (changed(seed=1), "seed = 1; .* has 0|fingerprint of the rows"),
        (changed(X=X + 1), "fingerprint of the rows = "),
        (changed(model=dense(1)), "fingerprint of the starting weights = "),
        (
            changed(model=Autoencoder(8, (6, 3), "tanh", GaussianNoise(0.4), seed=0)),
            r"corruption = .*0\.4",
        ),
        (changed(model=Autoencoder(8, (3,), seed=0)), "architecture = "),
        (changed(model=dense().double()), "fingerprint of the starting weights|number type"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, again, text):
    pretrain(dense(), X, epochs=3, checkpoint=tmp_path)
    before = folder_bytes(tmp_path)
    with pytest.raises(InputError, match=text) as caught:
        again(tmp_path)
    assert "checkpoint can only resume the run that wrote it" in str(caught.value)
    assert folder_bytes(tmp_path) == before


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda content: content[:-9], "no readable checkpoint"),
        (lambda content: content[:20], "no readable checkpoint"),
        (lambda content: b"", "no readable checkpoint"),
        (
            lambda content: content.replace(b'\\"schema\\": 2', b'\\"schema\\": 7'),
            "checkpoint schema 7; .* schema 2",
        ),
        (
            lambda content: content.replace(b'\\"schema\\": 2', b'\\"schema\\": 1'),
            r"earlier release of Leadline \(checkpoint schema 1",
        ),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage, text):
    pretrain(dense(), X, epochs=2, checkpoint=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SaveError, match=text):
        pretrain(dense(), X, epochs=2, checkpoint=tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaveError, match="could not"):
        pretrain(dense(), X, epochs=2, checkpoint=tmp_path / "file")
