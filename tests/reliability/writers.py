"""All operations of Leadline that write files, in a form that tests can interrupt and repeat."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from leadline import Protocol, cli, decoding, gradients, report, storage
from leadline.autoencoders import Autoencoder, Encoder, pretrain
from leadline.errors import LeadlineError
from leadline.gradients._metrics import append_metrics, read_metrics
from leadline.sounding import Sounding
from leadline.worksheet import Result, Setting
from tests.worksheet import example

TEXT = "the cat sat on the mat .\n\nthe dog sat on the log .\n\na cat and a dog sat .\n\n" * 6


@dataclass(frozen=True)
class Materials:
    """Inputs that the writers share. Their files are outside the folder that is written."""

    folder: Path
    encoders: tuple[Encoder, Encoder]
    models: tuple[decoding.RecurrentLM, decoding.RecurrentLM]


@dataclass(frozen=True)
class Writer:
    """An operation that writes into a folder.

    Args:
        prepare: writes an earlier result into the folder.
        write: the operation. It can be called again after it was killed.
        read: returns the result in a form that can be compared, or raises an error if it cannot be
            read.
    """

    prepare: Callable[[Path], object]
    write: Callable[[Path], object]
    read: Callable[[Path], Any]


def make_materials(folder: Path) -> Materials:
    """Train the models that the writers save. This takes one or two seconds."""
    rows = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    np.save(folder / "rows.npy", rows)
    for number in (0, 1):
        draw = np.random.default_rng(number)
        y = np.arange(60) % 2
        np.savez(folder / f"table-{number}.npz", X=draw.standard_normal((60, 4)) + y[:, None], y=y)
    encoders = tuple(
        pretrain(Autoencoder(4, (3,), seed=s), rows, seed=s, epochs=1).encoder for s in (0, 1)
    )
    encoders[0].save(folder / "encoder.safetensors")
    models = tuple(
        decoding.RecurrentLM(
            vocabulary_size=14, hidden_size=4, epochs=1, batch_size=4, seed=seed
        ).fit(TEXT)
        for seed in (0, 1)
    )
    models[0].save(folder / "model")
    lines = [
        f'{{"id": {i}, "prompt": "the {word}"}}\n'
        for i, word in enumerate(["cat", "dog", "mat", "log"])
    ]
    (folder / "prompts.jsonl").write_text("".join(lines))
    assert len(encoders) == 2
    assert len(models) == 2
    return Materials(folder, encoders, models)


def command(*arguments: object) -> None:
    """Run a command of the command line, and raise a LeadlineError if it failed."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = cli.run([str(argument) for argument in arguments])
    if code in (cli.FAILED, cli.BAD_USAGE):
        raise LeadlineError(errors.getvalue())
    assert code == cli.DONE, errors.getvalue()


def writers(materials: Materials) -> dict[str, Writer]:
    """Return all writers by name."""
    inputs = materials.folder
    decode = (
        "decode",
        "--model",
        inputs / "model",
        "--input",
        inputs / "prompts.jsonl",
        "--width",
        2,
    )
    decode = (*decode, "--max-length", 3, "--batch", 2)
    encode = ("encode", inputs / "encoder.safetensors", inputs / "rows.npy", "--overwrite")
    return {
        "sounding": Writer(
            lambda folder: storage.save(Protocol({"a": np.zeros(3)}), folder),
            lambda folder: storage.save(Protocol({"a": np.ones(3)}), folder),
            lambda folder: storage.load(folder, Protocol).settings["a"].tolist(),
        ),
        "language model": Writer(
            materials.models[0].save,
            materials.models[1].save,
            lambda folder: _weights(decoding.RecurrentLM.load(folder)),
        ),
        "encoder": Writer(
            lambda folder: materials.encoders[0].save(folder / "encoder.safetensors"),
            lambda folder: materials.encoders[1].save(folder / "encoder.safetensors"),
            lambda folder: (
                Encoder.load(folder / "encoder.safetensors").weights["0.weight"].tolist()
            ),
        ),
        "training": Writer(
            lambda folder: None,
            partial(_train, inputs / "rows.npy"),
            tree,
        ),
        "metrics": Writer(
            lambda folder: append_metrics(folder / "metrics.jsonl", 0, {"slope": -1.0}),
            lambda folder: append_metrics(folder / "metrics.jsonl", 1, {"slope": -2.0}),
            lambda folder: read_metrics(folder / "metrics.jsonl")["slope"].to_dict(),
        ),
        "decode": Writer(
            lambda folder: None,
            lambda folder: command(*decode, "--output", folder / "answers.jsonl"),
            lambda folder: (folder / "answers.jsonl").read_text(),
        ),
        "encode": Writer(
            lambda folder: np.save(folder / "codes.npy", np.zeros((2, 3), np.float32)),
            lambda folder: command(*encode, "--out", folder / "codes.npy"),
            lambda folder: np.load(folder / "codes.npy").tolist(),
        ),
        "gradients": Writer(
            partial(_gradients, "factory"),
            partial(_gradients, "terms"),
            lambda folder: str(gradients.GradientFlow.load(folder / "flow").verdict),
        ),
        "worksheet": Writer(
            lambda folder: _worksheet(folder, 1.0),
            lambda folder: _worksheet(folder, 5.0),
            lambda folder: str(Sounding.load(folder / "answers" / "quick" / "ae.f").verdict),
        ),
        "represent": Writer(
            partial(_represent, inputs, 0),
            partial(_represent, inputs, 1),
            lambda folder: str(Sounding.load(folder / "study").verdict),
        ),
    }


NAMES = (
    "sounding",
    "language model",
    "encoder",
    "training",
    "metrics",
    "decode",
    "encode",
    "gradients",
    "worksheet",
    "represent",
)

_STORAGE = "src/leadline/storage/*.py"
_ENCODER = ("src/leadline/autoencoders/_encoder.py", "src/leadline/autoencoders/_sealed.py")
_TRAINING = (
    "src/leadline/autoencoders/_sealed.py",
    "src/leadline/autoencoders/training/_checkpoint.py",
    "src/leadline/autoencoders/training/_member.py",
    "src/leadline/autoencoders/training/_pretrain.py",
    "src/leadline/autoencoders/training/_run.py",
)
_SOUNDING = "src/leadline/sounding.py"
_PAGE = "src/leadline/report/_soundings.py"

SOURCES: dict[str, tuple[str, ...]] = {
    "sounding": (_STORAGE, _SOUNDING),
    "language model": (_STORAGE, "src/leadline/decoding/models/_language_model.py"),
    "encoder": (_STORAGE, *_ENCODER),
    "training": (_STORAGE, *_TRAINING),
    "metrics": (_STORAGE, "src/leadline/gradients/_metrics.py"),
    "decode": (_STORAGE, "src/leadline/cli/_decode.py", "src/leadline/cli/_lines.py"),
    "encode": (_STORAGE, "src/leadline/cli/_encode.py"),
    "gradients": (_STORAGE, "src/leadline/cli/_gradients.py", _SOUNDING, _PAGE),
    "worksheet": (
        _STORAGE,
        "src/leadline/worksheet/_runner.py",
        "src/leadline/report/_worksheet.py",
        _SOUNDING,
    ),
    "represent": (
        _STORAGE,
        "src/leadline/cli/_represent.py",
        "src/leadline/representation/_kept.py",
        *_TRAINING,
        _SOUNDING,
        _PAGE,
    ),
}
"""Source files that decide when a writer touches its files, by the writer's name."""


def proof_name(name: str) -> str:
    """Return the name of the proof that a writer can be killed at any point."""
    return f"crash points of {name}"


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of all files in and below a folder, and the targets of links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = b"-> " + str(path.readlink()).encode()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def _train(rows: Path, folder: Path) -> None:
    model = Autoencoder(4, (3,), seed=0)
    pretrain(model, np.load(rows), seed=0, epochs=2, batch_size=15, checkpoint=folder)


def _gradients(factory: str, folder: Path) -> None:
    command("gradients", f"tests.cli.factories:{factory}", "--out", folder)


def _worksheet(folder: Path, gain: float) -> None:
    answer = example.answer("ae.f", gain)
    answer.save(folder / "answers" / "quick" / "ae.f")
    statement = example.statement("ae.f", "works")
    report.write([Result(statement, answer)], Setting("quick"), folder)


def _represent(inputs: Path, number: int, folder: Path) -> None:
    """Run the command on a table of a few rows, and train for one epoch."""
    from leadline.autoencoders.training._settings import PretrainingSettings
    from leadline.representation._views import Whole

    with pytest.MonkeyPatch.context() as patch:
        settings = property(lambda self: PretrainingSettings(5e-3, epochs=1, batch_size=50))
        patch.setattr(Whole, "settings", settings)
        command(
            "represent",
            inputs / f"table-{number}.npz",
            "--kinds",
            "vanilla",
            "--seeds",
            2,
            "--out",
            folder,
        )


def _weights(model: decoding.RecurrentLM) -> list[float]:
    scores, _ = model.problem(["the cat"]).step(torch.tensor([1]), model.problem(["the cat"]).state)
    return scores.flatten().tolist()
