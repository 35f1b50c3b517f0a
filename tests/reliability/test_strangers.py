"""Commands neither delete nor overwrite files of other programs."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from leadline.cli import app
from leadline.errors import LeadlineError
from leadline.storage._locks import short_digest
from tests.reliability.writers import command, tree, writers

STRANGERS = (
    "notes.txt",
    "codes.bak.npy",
    "arrays-backup.safetensors",
    "arrays-0123456789abcdef.safetensors",
    "weights-0123456789abcdef.safetensors",
    ".codes.npy.0123abcd.partial",
    ".leadline.partial",
    "unfinished/thesis.tex",
    "unfinished/population/0/thesis.tex",
    "unfinished/refit/0/checkpoint.safetensors.bak",
    "study/arrays-backup.safetensors",
    "study/thesis.tex",
    "flow/arrays-0123456789abcdef.safetensors",
    "influence/thesis.tex",
    "answers/quick/ae.f/arrays-backup.safetensors",
    "answers/full/ae.f/sounding.json",
    "leadline-jobs-thesis/thesis.tex",
    "leadline-uploads-thesis/thesis.tex",
    "leadline-jobs-empty/.leadline",
)
"""Files that are in the folder before a command runs."""


def commands(materials) -> dict[str, Callable[[Path], object]]:
    """Return a function for each command that runs it with a folder for its output.

    ``explore`` uses the folder as its temporary folder.
    """
    known = writers(materials)
    inputs = materials.folder
    trace = ("--prompt", "the cat", "--width", "2", "--max-length", "3")

    def decode(folder: Path) -> None:
        known["decode"].write(folder)
        command("decode", "--model", inputs / "model", *trace, "--trace", folder / "tree.html")

    def encode(folder: Path) -> None:
        command(
            "encode",
            inputs / "encoder.safetensors",
            inputs / "rows.npy",
            "--out",
            folder / "codes.npy",
        )

    return {
        "represent": known["represent"].write,
        "gradients": known["gradients"].write,
        "worksheet": _worksheet,
        "decode": decode,
        "encode": encode,
        "explore": _explore,
    }


NAMES = ("represent", "gradients", "worksheet", "decode", "encode", "explore")


def test_every_command_is_tested(materials):
    names = {name for name in app if not name.startswith("-")}
    assert set(commands(materials)) == set(NAMES) == names


@pytest.mark.parametrize("name", NAMES)
def test_commands_leave_foreign_files_unchanged(name, materials, tmp_path):
    folder = tmp_path / "shared"
    for i, stranger in enumerate(STRANGERS):
        path = folder / stranger
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"stranger {i}".encode())
    (folder / "link").symlink_to("notes.txt")
    before = tree(folder)
    commands(materials)[name](folder)
    after = tree(folder)
    assert {path: after.get(path) for path in before} == before
    if name != "explore":
        assert len(after) > len(before), "the command has written nothing"
    if name != "encode":  # encode replaces no file without --overwrite.
        # A second run replaces the command's own files only.
        commands(materials)[name](folder)
        assert {path: tree(folder).get(path) for path in before} == before


@pytest.mark.parametrize("name", [name for name in NAMES if name != "explore"])
def test_a_foreign_file_of_the_same_name_raises_an_error_and_is_kept(name, materials, tmp_path):
    clean = tmp_path / "clean"
    clean.mkdir()
    commands(materials)[name](clean)
    # The name of a file of arrays contains its digest, so no other program has such a file.
    for number, path in enumerate(path for path in tree(clean) if "arrays-" not in path):
        folder = tmp_path / str(number)
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(b"mine")
        with pytest.raises(LeadlineError):
            commands(materials)[name](folder)
        assert tree(folder)[path] == b"mine", path


@pytest.mark.parametrize("name", [name for name in NAMES if name != "explore"])
def test_links_at_the_names_of_a_command_keep_their_foreign_targets(name, materials, tmp_path):
    """Each name that the command writes, even if hidden, is a link to a file of another program."""
    clean = tmp_path / "clean"
    clean.mkdir()
    commands(materials)[name](clean)
    names = [[path] for path in tree(clean) if "arrays-" not in path]
    hidden = [f".leadline-{short_digest(Path(path).name)}" for path in tree(clean)]
    names += [[f"{path}.{end}" for path in hidden] for end in ("lock", "partial", "draft")]
    thesis = tmp_path / "thesis"
    thesis.write_bytes(b"mine")
    for number, paths in enumerate(names):
        folder = tmp_path / str(number)
        for path in set(paths):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(thesis)
        with suppress(LeadlineError):
            commands(materials)[name](folder)
        assert thesis.read_bytes() == b"mine", paths


@pytest.mark.parametrize("name", ["represent", "gradients", "worksheet"])
def test_an_edited_file_raises_an_error_and_is_kept(name, materials, tmp_path):
    commands(materials)[name](tmp_path)
    for path in tmp_path.iterdir():
        if path.is_file() and path.name != ".leadline.json":
            content = path.read_bytes()
            path.write_bytes(content + b"mine")
            with pytest.raises(LeadlineError, match="has changed since Leadline wrote it"):
                commands(materials)[name](tmp_path)
            assert path.read_bytes() == content + b"mine"
            path.write_bytes(content)


def _worksheet(folder: Path) -> None:
    command("worksheet", "--only", "beam.a", "--jobs", 1, "--out", folder)


def _explore(folder: Path) -> None:
    """Start the explorer, wait for its address, and stop it."""
    environment = {**os.environ, "TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    start = [sys.executable, "-m", "leadline", "explore", "--no-browser", "--port", "0"]
    with subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        for room in ("gradients", "search", "representation"):
            assert urllib.request.urlopen(f"{url}{room}", timeout=60).status == 200
        server.send_signal(signal.SIGTERM)
