"""Files are replaced whole, locked while they are written, and never those of others."""

import json
import multiprocessing
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from leadline import InputError, Protocol, SaveError, storage
from leadline.storage import lock_file, lock_folder, output_folder, writing


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_symbolic_link_stays_one_and_its_file_is_replaced(tmp_path: Path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    storage.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path):
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o640)
    storage.write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("length", [1, 200, 247, 251, 255])
def test_names_of_every_length_that_the_file_system_allows(tmp_path: Path, length):
    storage.write(tmp_path / ("n" * length), "x")
    assert content_of(tmp_path) == {"n" * length: b"x"}


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # dies in the middle of its write
        with writing(tmp_path / "x") as file:
            file.write(b"half")
            os.write(write, b".")
            os.kill(os.getpid(), 9)
    os.read(read, 1)
    os.waitpid(child, 0)
    assert len(content_of(tmp_path)) == 2, "the lock and the unfinished file are there"
    storage.write(tmp_path / "x", "whole")
    assert content_of(tmp_path) == {"x": b"whole"}


def _hold(folder: str, ready, done) -> None:
    with lock_folder(folder), lock_file(Path(folder) / "x"):
        ready.set()
        done.wait(60)


def test_a_second_process_is_refused_and_told_which_process_writes(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, done))
    other.start()
    try:
        assert ready.wait(60)
        for lock in (lock_folder(tmp_path), lock_file(tmp_path / "x")):
            with pytest.raises(SaveError, match=rf"is being written by process {other.pid}\b"), lock:
                pass
    finally:
        done.set()
        other.join()
    with lock_folder(tmp_path), lock_file(tmp_path / "x"):
        pass
    assert content_of(tmp_path) == {}, "released locks leave nothing"


def test_a_lock_that_this_process_holds_is_refused_in_words(tmp_path: Path):
    with lock_folder(tmp_path), pytest.raises(SaveError, match="this process"), lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("name", ["arrays-backup.safetensors", "arrays-0123456789abcdef.safetensors", "notes.txt"])
def test_a_saved_sounding_leaves_files_of_others_alone(tmp_path: Path, name):
    (tmp_path / name).write_bytes(b"mine")
    for value in (0.0, 1.0):
        storage.save(Protocol({"a": np.full(3, value)}), tmp_path)
    assert (tmp_path / name).read_bytes() == b"mine"
    assert len(content_of(tmp_path)) == 3


@pytest.mark.parametrize("content", [b"mine", b'{"mine": 1}', b"[]", b""])
def test_a_sounding_does_not_replace_a_document_of_others(tmp_path: Path, content):
    (tmp_path / "sounding.json").write_bytes(content)
    with pytest.raises(SaveError, match="was not written by Leadline"):
        storage.save(Protocol({"a": np.zeros(3)}), tmp_path)
    assert content_of(tmp_path) == {"sounding.json": content}


def test_a_reader_that_meets_a_writer_reads_the_old_or_the_new_pair(tmp_path: Path, monkeypatch):
    old, new = (Protocol({"a": np.full(3, value)}) for value in (0.0, 1.0))
    storage.save(old, tmp_path)
    read_bytes = Path.read_bytes
    was_replaced = []

    def meanwhile(path: Path) -> bytes:
        content = read_bytes(path)
        if path.name == "sounding.json" and not was_replaced:
            was_replaced.append(True)
            monkeypatch.undo()
            storage.save(new, tmp_path)  # removes the arrays that the old document names
            monkeypatch.setattr(Path, "read_bytes", meanwhile)
        return content

    monkeypatch.setattr(Path, "read_bytes", meanwhile)
    assert storage.load(tmp_path, Protocol).settings["a"].tolist() == [1, 1, 1]
    assert was_replaced


def _save_often(folder: str, value: float) -> None:
    for i in range(20):
        storage.save(Protocol({"a": np.full(3, value + i)}), folder)


def test_two_savers_and_a_reader_never_meet_a_mixture(tmp_path: Path):
    storage.save(Protocol({"a": np.zeros(3)}), tmp_path)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_save_often, args=(str(tmp_path), start)) for start in (100.0, 200.0)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found = storage.load(tmp_path, Protocol).settings["a"]
        assert (found == found[0]).all()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(content_of(tmp_path)) == 2


def test_an_output_folder_replaces_its_own_files(tmp_path: Path):
    for text in ("first", "second"):
        with output_folder(tmp_path, files=["page.html", "made"]) as out:
            out.write("page.html", text)
            out.produce("made", lambda path, text=text: path.write_text(text))
    assert (tmp_path / "page.html").read_text() == "second"
    assert (tmp_path / "made").read_text() == "second"
    assert sorted(content_of(tmp_path)) == [".leadline.json", "made", "page.html"]


@pytest.mark.parametrize("damage", ["unknown", "changed", "folder", "link"])
def test_an_output_folder_refuses_files_of_others(tmp_path: Path, damage):
    path = tmp_path / "page.html"
    if damage == "changed":
        with output_folder(tmp_path, files=["page.html"]) as out:
            out.write("page.html", "ours")
        path.write_text("edited by hand")
    elif damage == "folder":
        path.mkdir()
    elif damage == "link":
        path.symlink_to("elsewhere")
    else:
        path.write_text("mine")
    before = content_of(tmp_path)
    with (
        pytest.raises(InputError, match="only the files that it wrote itself"),
        output_folder(tmp_path, files=[path.name]),
    ):
        pass
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("content", ["{}", "mine", '{"program": "other", "files": {}}', '{"files": []}'])
def test_a_manifest_of_others_is_refused_and_kept(tmp_path: Path, content):
    (tmp_path / ".leadline.json").write_text(content)
    with pytest.raises(SaveError, match="was not written by Leadline"), output_folder(tmp_path):
        pass
    assert (tmp_path / ".leadline.json").read_text() == content


def test_a_manifest_with_strange_entries_counts_for_nothing(tmp_path: Path):
    (tmp_path / "x").write_text("mine")
    manifest = {"schema": 1, "program": "leadline", "files": {"x": "text", "y": [3], "z": None}}
    (tmp_path / ".leadline.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="only the files that it wrote itself"), output_folder(tmp_path, files=["x"]):
        pass
