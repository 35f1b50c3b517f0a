"""``leadline represent`` and ``leadline encode``: their files, their output and their errors."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from leadline import cli, data
from leadline.autoencoders import Encoder
from leadline.autoencoders.training._settings import PretrainingSettings
from leadline.representation import RepresentationStudy
from leadline.representation._views import Patches, Whole

GLYPHS = data.glyphs("abc", 120, 12, seed=0)
IMAGES = (GLYPHS.X.reshape(-1, 12, 12) * 255).round().astype(np.uint8)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patches, "number", 600)
    monkeypatch.setattr(Patches, "width", 8)
    settings = property(lambda self: PretrainingSettings(5e-3, epochs=3, batch_size=50))
    monkeypatch.setattr(Whole, "settings", settings)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.run([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def partly_labelled(path: Path) -> Path:
    y = np.where(np.arange(120) < 45, GLYPHS.labels, np.nan)
    np.savez(path, X=IMAGES, kind=y)
    return path


def test_represent_writes_a_page_an_encoder_and_a_snippet(tmp_path: Path, capsys):
    path, out = partly_labelled(tmp_path / "glyphs.npz"), tmp_path / "out"
    code, output, progress = run(
        capsys, "represent", path, "--labels", "kind", "--seeds", 2, "--out", out
    )
    assert code == cli.DONE, progress
    assert progress.split() == ["pretraining", "…", "probing", "…"]
    study = RepresentationStudy.load(out / "study")
    lines = output.splitlines()
    verdict = str(study.verdict)
    assert lines[0] == f"{verdict[0].upper()}{verdict[1:]}."
    assert lines[-2:] == [f"encoder: {out / 'encoder.safetensors'}", f"page: {out / 'index.html'}"]
    assert study.protocol.settings["rows"] == {"pretrained on": 75, "labelled": 45}
    assert study.class_names == ("0", "1", "2")
    page = (out / "index.html").read_text()
    assert page.count('data-figure="') == 3
    assert "LogisticRegression(C=" in page
    assert not (out / "unfinished").exists()
    encoder = Encoder.load(out / "encoder.safetensors")
    used = runpy.run_path(str(out / "use.py"))
    assert (
        len(
            [
                line
                for line in (out / "use.py").read_text().splitlines()
                if "import" not in line and line
            ]
        )
        == 5
    )
    np.testing.assert_array_equal(used["codes"], encoder.encode(data.read(path)[0].X))
    assert used["predictions"].shape == (120,)
    assert (used["predictions"][:45] == GLYPHS.labels[:45]).mean() > 0.8
    summary = json.loads((out / "representation.json").read_text())
    assert summary["verdict"] == verdict
    assert summary["chosen"] == study.chosen
    assert study.row_counts is not None
    assert summary["rows"]["training"] == study.row_counts.training[0]
    assert f"{study.row_counts}." in lines

    code, output, _ = run(
        capsys, "encode", out / "encoder.safetensors", path, "--out", out / "codes.npy"
    )
    assert (code, output) == (cli.DONE, f"120 rows, codes of 74 numbers: {out / 'codes.npy'}\n")
    np.testing.assert_array_equal(np.load(out / "codes.npy"), used["codes"])


def test_divided_pixels_are_noted_and_saved(tmp_path: Path, capsys):
    pixels = (255 * np.asarray(IMAGES)).round().astype(np.uint8)
    np.save(tmp_path / "bytes.npy", pixels)
    np.save(tmp_path / "floats.npy", (pixels / 255).astype(np.float32))
    output = {}
    for name in ("bytes", "floats"):
        arguments = ("represent", tmp_path / f"{name}.npy", "--kinds", "vanilla", "--seeds", 2)
        assert run(capsys, *arguments, "--out", tmp_path / name)[0] == cli.DONE
        output[name] = RepresentationStudy.load(tmp_path / name / "study").findings
    assert output["bytes"] == (*output["floats"], "Note: pixels from 0 to 255 were divided by 255.")
    assert (
        "pixels from 0 to 255 were divided by 255"
        in (tmp_path / "bytes" / "index.html").read_text()
    )


def test_a_table_without_labels_is_not_probed(tmp_path: Path, capsys):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 3)) * [1, 100, 0.01]
    (tmp_path / "table.csv").write_text(
        "a,b,c\n" + "\n".join(",".join(map(str, row)) for row in rows)
    )
    arguments = (
        "represent",
        tmp_path / "table.csv",
        "--kinds",
        "vanilla,masked",
        "--seeds",
        2,
        "--json",
    )
    code, output, _ = run(capsys, *arguments, "--out", tmp_path / "out")
    assert code == cli.DONE
    summary = json.loads(output)
    assert summary["verdict"].startswith("nothing was probed")
    assert [row["kind"] for row in summary["table"]] == ["vanilla", "masked"]
    assert runpy.run_path(str(tmp_path / "out" / "use.py"))["codes"].shape == (40, 32)


def test_unlabelled_rows_may_come_from_another_file(tmp_path: Path, capsys):
    np.savez(tmp_path / "few.npz", X=IMAGES[:45], y=GLYPHS.labels[:45])
    np.save(tmp_path / "many.npy", IMAGES[45:])
    arguments = (
        "represent",
        tmp_path / "few.npz",
        "--unlabelled",
        tmp_path / "many.npy",
        "--kinds",
        "vanilla",
    )
    code, _, _ = run(capsys, *arguments, "--seeds", 2, "--out", tmp_path / "out")
    assert code == cli.DONE
    study = RepresentationStudy.load(tmp_path / "out" / "study")
    assert study.protocol.settings["rows"] == {"pretrained on": 75, "labelled": 45}
    assert study.protocol.settings["image_size"] == (12, 12)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    architecture = Patches.of(GLYPHS.X, (12, 12), 1).architecture
    module = architecture.encoder(torch.Generator().manual_seed(0))
    weights = {
        name: np.zeros(tensor.shape, np.float32) + 0.1
        for name, tensor in module.state_dict().items()
    }
    Encoder(architecture, weights, np.zeros(0, np.uint64)).save(tmp_path / "encoder.safetensors")
    return tmp_path / "encoder.safetensors"


@pytest.mark.parametrize("form", ["bytes", "floats", "flat", "csv"])
def test_encoding_in_blocks_equals_the_encoder(
    form: str, encoder: Path, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setattr("leadline.cli._encode.BLOCK_BYTES", 7 * IMAGES[0].nbytes)
    # The first blocks are all zeros, and must be read as bytes, too.
    blank_first = np.concatenate([np.zeros_like(IMAGES[:20]), IMAGES])
    rows = blank_first.astype(np.float32) / 255
    path = tmp_path / ("rows.csv" if form == "csv" else "rows.npy")
    if form == "csv":
        pd.DataFrame(rows.reshape(len(rows), -1)).add_prefix("p").assign(kind="a").to_csv(
            path, index=False
        )
    else:
        np.save(
            path, {"bytes": blank_first, "floats": rows, "flat": rows.reshape(len(rows), -1)}[form]
        )
    labels = ("--labels", "kind") if form == "csv" else ()
    code, _, err = run(
        capsys, "encode", encoder, path, *labels, "--out", tmp_path / "deep" / "codes.npy"
    )
    assert code == cli.DONE, err
    expected = Encoder.load(encoder).encode(rows.reshape(len(rows), -1))
    np.testing.assert_allclose(np.load(tmp_path / "deep" / "codes.npy"), expected, atol=1e-6)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["codes.npy"]


def test_a_failed_encoding_keeps_the_earlier_file(
    encoder: Path, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setattr("leadline.cli._encode.BLOCK_BYTES", 4 * 144 * 10)
    rows = GLYPHS.X.copy()
    rows[77, 5] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "codes.npy").write_bytes(b"earlier")
    command = ("encode", encoder, tmp_path / "rows.npy", "--out", tmp_path / "codes.npy")
    files = sorted(tmp_path.iterdir())
    code, _, err = run(capsys, *command)
    assert code == cli.BAD_USAGE
    assert "add --overwrite" in err
    code, _, err = run(capsys, *command, "--overwrite")
    assert code == cli.BAD_USAGE
    assert "X[77, 5] = nan" in err
    assert (tmp_path / "codes.npy").read_bytes() == b"earlier"
    assert sorted(tmp_path.iterdir()) == files
    np.save(tmp_path / "rows.npy", GLYPHS.X)
    assert run(capsys, *command, "--overwrite")[0] == cli.DONE
    assert len(np.load(tmp_path / "codes.npy")) == len(GLYPHS.X)


def test_a_file_that_appears_during_an_encoding_is_kept(
    encoder: Path, tmp_path: Path, capsys, monkeypatch
):
    np.save(
        tmp_path / "rows.npy",
        np.zeros((3, Encoder.load(encoder).architecture.input_size), np.float32),
    )
    encode = Encoder.encode

    def meanwhile(self, rows):
        (tmp_path / "codes.npy").write_text("mine")
        return encode(self, rows)

    monkeypatch.setattr(Encoder, "encode", meanwhile)
    code, _, err = run(
        capsys, "encode", encoder, tmp_path / "rows.npy", "--out", tmp_path / "codes.npy"
    )
    assert code == cli.BAD_USAGE
    assert "add --overwrite" in err
    assert (tmp_path / "codes.npy").read_text() == "mine"


@pytest.mark.parametrize("name", ["rows.npy", "rows.npz", "rows.csv", "encoder"])
def test_a_pipe_as_input_never_blocks(name: str, encoder: Path, tmp_path: Path, capsys):
    pipe = tmp_path / "pipes" / name
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    inputs = (pipe, tmp_path / "rows.npy") if name == "encoder" else (encoder, pipe)
    code, _, err = run(capsys, "encode", *inputs, "--out", tmp_path / "codes.npy")
    assert code == cli.BAD_USAGE
    assert "which is a pipe or a device" in err


@pytest.mark.parametrize("out", [".", "/", "", "x"])
def test_codes_need_a_file_name_that_ends_in_npy(out: str, encoder: Path, capsys):
    code, _, err = run(capsys, "encode", encoder, "rows.npy", "--out", out)
    assert code == cli.BAD_USAGE
    assert "--out must name a .npy file" in err


def test_invalid_arguments_are_refused_before_any_work(encoder: Path, tmp_path: Path, capsys):
    path = partly_labelled(tmp_path / "glyphs.npz")
    np.save(tmp_path / "wide.npy", np.zeros((30, 10)))
    (tmp_path / "encoder.txt").write_text("no encoder")
    cases = [
        (("represent", tmp_path / "none.npz"), "no file or folder", cli.BAD_USAGE),
        (
            ("represent", path, "--labels", "kinds"),
            "--labels 'kinds', which is not there",
            cli.BAD_USAGE,
        ),
        (
            ("represent", path, "--kinds", "denoisy"),
            "leadline: --kinds must be 'denoising', 'vanilla' or 'masked'",
            cli.BAD_USAGE,
        ),
        (
            ("represent", path, "--seeds", 1),
            "leadline: --seeds must be a whole number from 2 to 1000",
            cli.BAD_USAGE,
        ),
        (
            ("represent", path, "--image-size", "28*28"),
            "--image-size must be height x width, auto or none",
            cli.BAD_USAGE,
        ),
        (
            ("represent", path, "--unlabelled", tmp_path / "wide.npy"),
            "images of 1 x 12 x 12",
            cli.BAD_USAGE,
        ),
        (("represent", path, "--out", path), "must be a folder that can be written", cli.BAD_USAGE),
        (
            ("encode", encoder, tmp_path / "wide.npy"),
            "X has 10 features, the model takes",
            cli.BAD_USAGE,
        ),
        (("encode", encoder, path, "--out", "codes.csv"), "--out codes.npy", cli.BAD_USAGE),
        (("encode", encoder, tmp_path / "none.npy"), "no file or folder", cli.BAD_USAGE),
        (("encode", tmp_path / "encoder.txt", path), "holds no readable encoder", cli.FAILED),
        (
            ("encode", tmp_path / "none.safetensors", path),
            "ENCODER must be an existing file or folder",
            cli.BAD_USAGE,
        ),
    ]
    for arguments, output, expected in cases:
        out = (
            ()
            if "--out" in arguments
            else ("--out", tmp_path / ("c.npy" if arguments[0] == "encode" else "out"))
        )
        code, _, err = run(capsys, *arguments, *out)
        assert output in err, (arguments, err)
        assert code == expected
        assert "Traceback" not in err


@pytest.mark.parametrize("command", ["represent", "encode"])
def test_help_does_not_load_heavy_packages(command: str):
    heavy = "{'torch', 'plotly', 'pandas', 'sklearn'}"
    code = f"import sys; from leadline.cli import run; assert run(['{command}', '--help']) == 0; "
    code += f"print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
