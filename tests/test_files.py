"""Files are replaced in one step and locked while they are written. Foreign files are kept."""

import errno
import json
import multiprocessing
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from leadline import InputError, Protocol, SaveError, storage
from leadline.storage import lock_file, lock_folder, output_folder, writing
from leadline.storage._locks import short_digest


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path):
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
def test_names_of_every_allowed_length_can_be_written(tmp_path: Path, length):
    storage.write(tmp_path / ("n" * length), "x")
    assert content_of(tmp_path) == {"n" * length: b"x"}


def test_the_next_writer_removes_files_of_a_killed_writer(tmp_path: Path):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # The child dies while it writes.
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


def test_a_second_process_gets_an_error_that_names_the_writing_process(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, done))
    other.start()
    try:
        assert ready.wait(60)
        for lock in (lock_folder(tmp_path), lock_file(tmp_path / "x")):
            with (
                pytest.raises(SaveError, match=rf"is being written by process {other.pid}\b"),
                lock,
            ):
                pass
    finally:
        done.set()
        other.join()
    with lock_folder(tmp_path), lock_file(tmp_path / "x"):
        pass
    assert content_of(tmp_path) == {}, "released locks leave nothing"


def test_a_second_lock_in_the_same_process_raises_a_readable_error(tmp_path: Path):
    with (
        lock_folder(tmp_path),
        pytest.raises(SaveError, match="this process"),
        lock_folder(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    "name", ["arrays-backup.safetensors", "arrays-0123456789abcdef.safetensors", "notes.txt"]
)
def test_saving_a_sounding_keeps_foreign_files(tmp_path: Path, name):
    (tmp_path / name).write_bytes(b"mine")
    for value in (0.0, 1.0):
        storage.save(Protocol({"a": np.full(3, value)}), tmp_path)
    assert (tmp_path / name).read_bytes() == b"mine"
    assert len(content_of(tmp_path)) == 3


@pytest.mark.parametrize(
    "content", [b"mine", b'{"mine": 1}', b'{"schema": "mine", "record": {"a": 1}}', b"[]", b""]
)
def test_a_sounding_does_not_replace_a_foreign_document(tmp_path: Path, content):
    (tmp_path / "sounding.json").write_bytes(content)
    with pytest.raises(SaveError, match="was not written by Leadline"):
        storage.save(Protocol({"a": np.zeros(3)}), tmp_path)
    assert content_of(tmp_path) == {"sounding.json": content}


def test_a_reader_during_a_write_reads_the_old_or_the_new_pair(tmp_path: Path, monkeypatch):
    old, new = (Protocol({"a": np.full(3, value)}) for value in (0.0, 1.0))
    storage.save(old, tmp_path)
    read = storage.read
    was_replaced = []

    def meanwhile(path: Path) -> bytes:
        content = read(path)
        if path.name == "sounding.json" and not was_replaced:
            was_replaced.append(True)
            monkeypatch.undo()
            # This removes the arrays of the old document.
            storage.save(new, tmp_path)
            monkeypatch.setattr("leadline.storage._documents.read", meanwhile)
        return content

    monkeypatch.setattr("leadline.storage._documents.read", meanwhile)
    assert storage.load(tmp_path, Protocol).settings["a"].tolist() == [1, 1, 1]
    assert was_replaced


def _save_often(folder: str, value: float) -> None:
    for i in range(20):
        storage.save(Protocol({"a": np.full(3, value + i)}), folder)


def test_a_reader_never_sees_a_mixture_of_two_writers(tmp_path: Path):
    storage.save(Protocol({"a": np.zeros(3)}), tmp_path)
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_save_often, args=(str(tmp_path), start)) for start in (100.0, 200.0)
    ]
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
def test_an_output_folder_does_not_replace_foreign_files(tmp_path: Path, damage):
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


@pytest.mark.parametrize(
    "content", ["{}", "mine", '{"program": "other", "files": {}}', '{"files": []}']
)
def test_a_foreign_manifest_raises_an_error_and_is_kept(tmp_path: Path, content):
    (tmp_path / ".leadline.json").write_text(content)
    with pytest.raises(SaveError, match="was not written by Leadline"), output_folder(tmp_path):
        pass
    assert (tmp_path / ".leadline.json").read_text() == content


def test_invalid_entries_of_a_manifest_are_ignored(tmp_path: Path):
    (tmp_path / "x").write_text("mine")
    manifest = {"schema": 1, "program": "leadline", "files": {"x": "text", "y": [3], "z": None}}
    (tmp_path / ".leadline.json").write_text(json.dumps(manifest))
    with (
        pytest.raises(InputError, match="only the files that it wrote itself"),
        output_folder(tmp_path, files=["x"]),
    ):
        pass


def _lock_with(folder: Path, kind: str) -> None:
    lock = folder / ".leadline.lock"
    (folder / "thesis").write_text("mine")
    if kind == "file":
        lock.write_text("mine")
    elif kind == "hard link":
        os.link(folder / "thesis", lock)
    elif kind == "symbolic link":
        lock.symlink_to("thesis")
    elif kind == "folder":
        lock.mkdir()
    else:
        os.mkfifo(lock)


@pytest.mark.parametrize("kind", ["file", "hard link", "symbolic link", "folder", "pipe"])
def test_a_foreign_file_with_the_name_of_a_lock_raises_an_error_and_is_kept(tmp_path: Path, kind):
    _lock_with(tmp_path, kind)
    before = content_of(tmp_path)
    mode = (tmp_path / ".leadline.lock").lstat().st_mode
    with pytest.raises(SaveError, match="could not write"), lock_folder(tmp_path):
        pass
    assert content_of(tmp_path) == before
    assert (tmp_path / ".leadline.lock").lstat().st_mode == mode


@pytest.mark.parametrize("content", [b"", b' {"pi', b' {"pid": 1, "host"'])
def test_a_half_written_lock_of_a_killed_process_is_taken_over(tmp_path: Path, content):
    (tmp_path / ".leadline.lock").write_bytes(content)
    with lock_folder(tmp_path):
        pass
    assert content_of(tmp_path) == {}


def _inherited(tmp_path: Path, enter) -> None:
    """Fork a child inside a block. The child leaves the block by an exception or at its end."""
    for leave in (SystemExit, None):
        parent = os.getpid()
        try:
            with enter() as file:
                if file is not None:
                    file.write(b"half ")
                child = os.fork()
                if child == 0 and leave is not None:
                    raise leave
                if child:
                    os.waitpid(child, 0)
                    assert any(path.suffix == ".lock" for path in tmp_path.iterdir())
                    if file is not None:
                        file.write(b"whole")
        finally:
            if os.getpid() != parent:
                os._exit(0)


def test_a_forked_child_that_leaves_the_block_keeps_its_parents_lock(tmp_path: Path):
    _inherited(tmp_path, lambda: lock_folder(tmp_path))
    assert content_of(tmp_path) == {}


def test_a_forked_child_that_leaves_the_block_keeps_its_parents_file(tmp_path: Path):
    _inherited(tmp_path, lambda: writing(tmp_path / "x"))
    assert content_of(tmp_path) == {"x": b"half whole"}


def test_a_link_and_its_file_have_the_same_lock(tmp_path: Path):
    (tmp_path / "link").symlink_to("x")
    with (
        lock_file(tmp_path / "x"),
        pytest.raises(SaveError, match="this process"),
        lock_file(tmp_path / "link"),
    ):
        pass


def test_pipes_devices_and_folders_are_not_replaced(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to(os.devnull)
    for name in ("pipe", "folder", "device", ".", "..", "folder/..", "/"):
        mode = (tmp_path / name).stat().st_mode
        with pytest.raises(SaveError, match=r"it is a (pipe or a device|folder)"):
            storage.write(tmp_path / name, "new")
        assert (tmp_path / name).stat().st_mode == mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "folder", "pipe"]


@pytest.mark.parametrize("name", ["loop", "n" * 256, "a\0b", "file/x", "n/" * 3000])
def test_paths_that_cannot_be_written_raise_a_readable_error(tmp_path: Path, name):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SaveError, match="could not write"):
        storage.write(tmp_path / name, "new")
    with pytest.raises(SaveError, match="could not write"):
        storage.save(Protocol({}), tmp_path / name)
    assert content_of(tmp_path) == {"file": b"mine"}


def test_a_relative_path_in_a_deleted_folder_raises_a_readable_error(tmp_path: Path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SaveError, match="could not write"):
        storage.write("x", "new")
    with pytest.raises(SaveError, match="could not write"):
        storage.save(Protocol({}), "x")


@pytest.mark.parametrize("name", ["a b", "a\nb", "~", "é", "\udcff", "-", "*[?]", "'\"", "..."])
def test_unusual_file_names_can_be_written(tmp_path: Path, name):
    storage.write(tmp_path / name / name, "x")
    storage.save(Protocol({"path": name}), tmp_path / name / "sounding")
    storage.load(tmp_path / name / "sounding", Protocol)
    for _ in range(2):
        with output_folder(tmp_path / name, files=["page"]) as out:
            out.write("page", name)
            out.write(f"{name}-page", "x")


@pytest.mark.parametrize("name", ["sounding.json", "arrays", ".leadline.json"])
def test_a_pipe_in_place_of_a_file_never_blocks(tmp_path: Path, name):
    storage.save(Protocol({"a": np.zeros(3)}), tmp_path)
    path = next(tmp_path.glob("arrays-*")) if name == "arrays" else tmp_path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    if name == ".leadline.json":
        with pytest.raises(SaveError, match="a pipe or a device"), output_folder(tmp_path):
            pass
    else:
        with pytest.raises(SaveError, match="a pipe or a device"):
            storage.load(tmp_path, Protocol)
    assert path.is_fifo()


def test_a_document_that_links_into_another_folder_raises_an_error(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    storage.save(Protocol({"a": np.zeros(3)}), first)
    with output_folder(first, files=["page"]) as out:
        out.write("page", "x")
    second.mkdir()
    for name in ("sounding.json", ".leadline.json"):
        (second / name).symlink_to(first / name)
    before = content_of(tmp_path)
    with pytest.raises(SaveError, match="was not written by Leadline"):
        storage.save(Protocol({"a": np.ones(3)}), second)
    with pytest.raises(SaveError, match="was not written by Leadline"), output_folder(second):
        pass
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("link", ["symbolic", "hard"])
@pytest.mark.parametrize("end", ["draft", "partial", "arrays"])
def test_a_link_at_a_hidden_name_keeps_its_foreign_target(tmp_path: Path, link, end):
    (tmp_path / "thesis").write_text("mine")

    def write(folder: Path) -> None:
        with output_folder(folder, files=["page"]) as out:
            out.write("page", "new")
            out.produce("made", lambda path: path.write_text("new"))
        storage.save(Protocol({"a": np.zeros(3)}), folder)

    hidden = {
        f".leadline-{short_digest(name)}.{end}" for name in ("page", "made", "arrays.safetensors")
    }
    storage.save(Protocol({"a": np.zeros(3)}), tmp_path / "other")
    names = (
        hidden if end != "arrays" else {path.name for path in (tmp_path / "other").glob("arrays-*")}
    )
    (tmp_path / "out").mkdir()
    for name in names:
        if link == "symbolic":
            (tmp_path / "out" / name).symlink_to("../thesis")
        else:
            os.link(tmp_path / "thesis", tmp_path / "out" / name)
    write(tmp_path / "out")
    assert (tmp_path / "thesis").read_text() == "mine"
    assert (tmp_path / "out" / "page").read_text() == "new"
    assert storage.load(tmp_path / "out", Protocol).settings["a"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "entry", ['"\\ud800": ["x"]', '"p": ["\\ud800"]', '"p": [1e999, [[[]]], {}]', '"../p": ["x"]']
)
def test_damaged_entries_of_a_manifest_do_no_harm(tmp_path: Path, entry):
    (tmp_path / ".leadline.json").write_text(f'{{"program": "leadline", "files": {{{entry}}}}}')
    with output_folder(tmp_path, files=["page"]) as out:
        out.write("page", "new")
    assert sorted(content_of(tmp_path)) == [".leadline.json", "page"]


def test_without_file_system_locks_the_existence_of_a_file_is_the_lock(tmp_path: Path, monkeypatch):
    import fcntl

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    with (
        lock_folder(tmp_path),
        pytest.raises(SaveError, match="is being written"),
        lock_folder(tmp_path),
    ):
        pass
    storage.write(tmp_path / "x", "new")
    assert content_of(tmp_path) == {"x": b"new"}
