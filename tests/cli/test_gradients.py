"""``leadline gradients``: its page for valid factories, and its errors for invalid factories."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from leadline import cli, gradients
from tests.cli import factories

HERE = "tests.cli.factories"


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.run(["gradients", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_scalar_loss_gives_the_flow(tmp_path: Path, capsys):
    code, out, _ = run(capsys, f"{HERE}:factory", "--out", str(tmp_path))
    assert code == cli.DONE
    model, batch, loss = factories.factory()
    with gradients.trace(model) as tape:
        expected = tape.gradient_flow(loss(model, batch))
    lines = out.splitlines()
    assert lines[:-1] == list(expected.notes)
    assert {line.split(":")[0] for line in lines} == {"lstm[0]", "lstm[1]", "page"}
    assert lines[-1] == f"page: {tmp_path / 'index.html'}"
    flow = gradients.GradientFlow.load(tmp_path / "flow")
    for one, right in zip(flow.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(one.log_total, right.log_total)
    assert not (tmp_path / "influence").exists()
    page = (tmp_path / "index.html").read_text()
    assert "lstm[1]: the gradient" in page
    assert page.count('data-figure="') == 1
    assert "http:" not in page.split('id="plotly"')[0], "the page asks for nothing"
    assert "https:" not in page.split('id="plotly"')[0]


@pytest.mark.parametrize(
    ("name", "layers"), [("terms", ["lstm[0]", "lstm[1]"]), ("course", ["network[0]"])]
)
def test_loss_terms_also_give_the_influence(name, layers, tmp_path: Path, capsys):
    code, out, _ = run(capsys, f"{HERE}:{name}", "--out", str(tmp_path), "--json")
    assert code == cli.DONE
    summary = json.loads(out)
    assert json.loads((tmp_path / "gradients.json").read_text()) == summary
    assert [layer["layer"] for layer in summary["layers"]] == layers
    influence = gradients.Influence.load(tmp_path / "influence")
    assert [layer.title for layer in influence.layers] == layers
    assert [layer["reach"] for layer in summary["layers"]] == list(influence.notes)
    assert (tmp_path / "index.html").read_text().count('data-figure="') == 1 + len(layers)
    flow = gradients.GradientFlow.load(tmp_path / "flow")
    for row, layer in zip(summary["layers"], flow.layers, strict=True):
        assert row["slope"] == pytest.approx(np.median(layer.slope()))
        assert row["non_finite"] == 0


def test_a_loop_of_cells_is_traced(tmp_path: Path, capsys):
    code, out, _ = run(capsys, f"{HERE}:loop", "--out", str(tmp_path))
    assert code == cli.DONE
    assert out.startswith("cell[0]: the gradient ")


def test_the_factory_receives_the_data(tmp_path: Path, capsys):
    x, y = (part.numpy() for part in factories.batch_of(time=5))
    np.savez(tmp_path / "batch.npz", x=x, y=y)
    data = str(tmp_path / "batch.npz")
    code, out, _ = run(
        capsys, f"{HERE}:from_data", "--data", data, "--out", str(tmp_path / "out"), "--json"
    )
    assert code == cli.DONE
    assert json.loads(out)["data"] == data
    assert gradients.GradientFlow.load(tmp_path / "out" / "flow").layers[0].total.shape == (3, 5)


def test_the_module_is_found_in_the_working_directory(tmp_path: Path):
    """The console script puts its own folder first on the path, not the working directory."""
    (tmp_path / "mine.py").write_text((Path(__file__).parent / "factories.py").read_text())
    script = Path(sys.executable).parent / "leadline"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [script, "gradients", "mine:factory"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == cli.DONE, done.stderr
    assert done.stdout.splitlines()[-1] == f"page: {Path('gradients', 'index.html')}"
    assert (tmp_path / "gradients" / "index.html").exists()


def test_the_import_path_is_restored(tmp_path: Path, capsys):
    before = list(sys.path)
    run(capsys, f"{HERE}:factory", "--out", str(tmp_path))
    run(capsys, f"{HERE}:broken", "--out", str(tmp_path))
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        (
            HERE,
            [
                "FACTORY must have the form module:function",
                f"leadline gradients {HERE}:factory",
            ],
        ),
        (
            "tests/cli/factories.py:factory",
            ["a file path instead of a module name", f"leadline gradients {HERE}:factory"],
        ),
        (
            "no_such_module:factory",
            ["can be imported", "no no_such_module.py in", "from the folder that holds"],
        ),
        (f"{HERE}.more:factory", ["can be imported", "is not a package"]),
        (f"{HERE}:factor", ["has no factor", "use one of factory"]),
        (f"{HERE}:number", ["factories:number is a int"]),
        (f"{HERE}:pair", ["must return a model, a batch, and a loss", "returned (Model, tuple)"]),
        (
            f"{HERE}:computed",
            ["returned (Model, tuple, Tensor)", "the loss is already computed"],
        ),
        (f"{HERE}:no_model", ["returned (str, tuple, function)"]),
        (f"{HERE}:feedforward", ["model with recurrent layers", "Linear"]),
        (
            f"{HERE}:broken",
            ["must run without an error", "KeyError: 'weights'", 'raise KeyError("weights")'],
        ),
        (
            f"{HERE}:broken_loss",
            ["broken_loss: the loss must run without an error", "factories.py, line"],
        ),
        (
            f"{HERE}:from_data",
            ["must accept no arguments, because --data is missing", "a required argument: 'data'"],
        ),
        (f"{HERE}:detached", ["a loss without a graph"]),
        (f"{HERE}:not_a_tensor", ["a scalar, or terms of shape", "float"]),
        (
            f"{HERE}:not_numbers",
            ["lstm, layer 0: NaN from timestep 5 on", "an input or a weight that is NaN"],
        ),
        (
            f"{HERE}:overflowing",
            ["network, layer 0: NaN from timestep", "states that overflow float32: sample 0"],
        ),
        (f"{HERE}:not_a_number_loss", ["a loss whose gradient contains no NaN", "lstm"]),
    ],
)
def test_an_invalid_factory_is_an_error_and_no_file_is_written(name, texts, tmp_path: Path, capsys):
    code, out, err = run(capsys, name, "--out", str(tmp_path / "out"))
    assert code == cli.BAD_USAGE
    assert out == ""
    assert "Traceback" not in err
    for text in texts:
        assert text in err
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("import no_such_package_at_all", ["No module named 'no_such_package_at_all'", "line 1"]),
        ("def f(:", ["SyntaxError", "line 1"]),
        ("x = 1\nraise SystemExit(3)", ["SystemExit: 3", "line 2: raise SystemExit(3)"]),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error(
    source, texts, in_tmp_path: Path, capsys, monkeypatch
):
    (in_tmp_path / "unimportable.py").write_text(source)
    monkeypatch.delitem(sys.modules, "unimportable", raising=False)
    code, _, err = run(capsys, "unimportable:factory")
    assert code == cli.BAD_USAGE
    for text in ("can be imported", *texts):
        assert text in err


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "--data must be an existing file"), (b"hello", "--data must be an .npz file")],
)
def test_unreadable_data_are_an_error(content, text, tmp_path: Path, capsys):
    path = tmp_path / "batch.npz"
    if content is not None:
        path.write_bytes(content)
    code, _, err = run(
        capsys, f"{HERE}:from_data", "--data", str(path), "--out", str(tmp_path / "out")
    )
    assert code == cli.BAD_USAGE
    assert text in err


def test_data_for_a_factory_without_a_data_argument_are_an_error(tmp_path: Path, capsys):
    np.savez(tmp_path / "batch.npz", x=np.zeros(3))
    code, _, err = run(
        capsys,
        f"{HERE}:factory",
        "--data",
        str(tmp_path / "batch.npz"),
        "--out",
        str(tmp_path / "out"),
    )
    assert code == cli.BAD_USAGE
    assert "factory must accept the arrays of --data" in err
    assert "a function of (): too many positional arguments" in err


def test_a_single_array_and_objects_are_refused_as_data(tmp_path: Path, capsys):
    np.save(tmp_path / "x.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    for name, text in (("x.npy", "it is a single array"), ("objects.npz", "allow_pickle=False")):
        code, _, err = run(
            capsys,
            f"{HERE}:from_data",
            "--data",
            str(tmp_path / name),
            "--out",
            str(tmp_path / "out"),
        )
        assert code == cli.BAD_USAGE
        assert text in err


def test_an_unwritable_folder_is_an_error_before_the_factory_runs(tmp_path: Path, capsys):
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, f"{HERE}:broken", "--out", str(tmp_path / "file"))
    assert code == cli.BAD_USAGE
    assert "--out must be a folder that can be written" in err


def test_help_does_not_load_torch():
    check = (
        "import sys; from leadline.cli import run; run(['gradients', '--help']); sys.exit('torch' "
        "in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "module:function" in done.stdout
