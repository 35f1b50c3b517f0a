"""Temporary folders: foreign folders stay unchanged, folders of killed processes are removed."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

from leadline.errors import SaveError
from leadline.explore.server import _folders as folders
from leadline.explore.server._folders import LOCK, MARK, remove, temporary

NAME = "leadline-explorer-jobs"

HOLD = f"""
import sys
from leadline.explore.server._folders import temporary
folder = temporary("{NAME}")
(folder / "run").mkdir()
(folder / "run" / "metrics.jsonl").write_text("{{}}")
print(folder, flush=True)
sys.stdin.read()
"""

HALF_MADE = f"""
import os, sys
from leadline.explore.server._folders import temporary
steps = 0

def die(event, arguments):
    global steps
    if event in ("open", "os.mkdir", "os.remove", "os.rmdir") and "{NAME}" in str(arguments[0]):
        steps += 1
        if steps > {{last}}:
            os.kill(os.getpid(), 9)

sys.addaudithook(die)
temporary("{NAME}")
print(steps)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A temporary folder for this test and for the processes that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def snapshot(folder: Path) -> dict[str, tuple]:
    """Return the mode, the time of change, the number of links and the content of every file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = (
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
        found[str(path.relative_to(folder))] = (
            status.st_mode,
            status.st_mtime_ns,
            status.st_nlink,
            content,
        )
    return found


def killed(script: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def left_by_a_killed_process() -> Path:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        process.kill()
    assert (folder / "run" / "metrics.jsonl").exists()
    return folder


def test_the_next_start_removes_folders_of_killed_processes_but_keeps_folders_in_use(home):
    left = left_by_a_killed_process()
    own = temporary(NAME)
    assert not left.exists()
    other = temporary(NAME)
    assert own.exists()
    assert {path for path in home.iterdir() if path.name.startswith(NAME)} == {own, other}
    for folder in (own, other):
        remove(folder)
        remove(folder)
    assert list(home.iterdir()) == []


def strangers(home: Path, left: Path) -> None:
    """Create folders, files and links with names like Leadline's."""
    (home / f"{NAME}-mine").mkdir()
    (home / f"{NAME}-mine" / "thesis.tex").write_text("years of work")
    (home / f"{NAME}-empty").mkdir()
    (home / f"{NAME}-file").write_text("a file")
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "data.csv").write_text("1,2")
    (home / f"{NAME}-link").symlink_to(home / "elsewhere")
    (home / f"{NAME}-broken").symlink_to(home / "nowhere")
    # The copy of a Leadline folder contains the mark.
    copied = home / f"{NAME}-backup"
    shutil.copytree(left, copied)
    # The name has the form of Leadline's names.
    no_mark = home / f"{NAME}-{'0' * 12}-{'0' * 8}"
    no_mark.mkdir()
    (no_mark / "notes.txt").write_text("keep")
    other_mark = home / f"{NAME}-marked"
    other_mark.mkdir()
    (other_mark / MARK).write_text("Leadline made this.")
    (other_mark / LOCK).write_text("")
    # A valid name alone does not make it a Leadline folder.
    named = home / folders._new_name(NAME)
    named.mkdir()
    (named / "notes.txt").write_text("keep")
    pipe = home / folders._new_name(NAME)
    pipe.mkdir()
    os.mkfifo(pipe / MARK)
    edited = home / folders._new_name(NAME)
    edited.mkdir()
    (edited / MARK).write_bytes(folders._mark(edited) + b"and I added a line")
    renamed = home / folders._new_name("leadline-explorer-uploads")
    renamed.mkdir()
    (renamed / MARK).write_bytes(folders._mark(home / "another"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_foreign_folders_with_similar_names_stay_unchanged(home):
    left = left_by_a_killed_process()
    strangers(home, left)
    shutil.rmtree(left)
    # Leadline would remove the target of this link.
    link_to_ours = home / folders._new_name(NAME)
    target = home / "target"
    target.mkdir()
    (target / MARK).write_bytes(folders._mark(link_to_ours))
    link_to_ours.symlink_to(target)
    before = snapshot(home)
    for name in (NAME, "leadline-explorer-uploads", "leadline-explorer-models"):
        remove(temporary(name))
    assert snapshot(home) == before


def test_a_folder_of_another_user_is_kept(home, monkeypatch):
    left = left_by_a_killed_process()
    monkeypatch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
    temporary(NAME)
    assert left.exists()


def test_links_in_a_removed_folder_are_not_followed(home):
    left = left_by_a_killed_process()
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "data.csv").write_text("1,2")
    (left / "link").symlink_to(home / "elsewhere")
    temporary(NAME)
    assert not left.exists()
    assert (home / "elsewhere" / "data.csv").read_text() == "1,2"


def test_the_next_start_removes_every_half_made_folder(home):
    steps = int(killed(HALF_MADE.format(last=10**6)).stdout)
    assert steps >= 3, "the folder, its lock and its mark"
    for last in range(steps):
        done = killed(HALF_MADE.format(last=last))
        assert done.returncode == -signal.SIGKILL
        remove(temporary(NAME))
        assert list(home.iterdir()) == [], f"killed before step {last + 1}"


def test_the_next_start_finishes_every_interrupted_removal(home):
    done = 0
    while True:
        left = left_by_a_killed_process()
        if killed(HALF_MADE.format(last=done)).returncode == 0:
            break
        done += 1
        remove(temporary(NAME))
        assert list(home.iterdir()) == [], f"killed before step {done} of: {left}"
    assert done > 5, "the removal of the other folder has steps of its own"


def test_a_forked_child_does_not_remove_the_folder_of_its_parent(home):
    fork = "import os\nif os.fork() == 0: sys.exit()\nos.wait()\nprint(folder.exists())"
    script = HOLD.replace("sys.stdin.read()", fork)
    assert killed(script).stdout.split()[-1] == "True"
    assert list(home.iterdir()) == []


def test_an_unwritable_temporary_folder_is_an_error(home, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(home / "gone"))
    with pytest.raises(SaveError, match="needs a temporary folder that can be written"):
        temporary(NAME)


FULL = """
import os, resource, sys, tempfile
from leadline.errors import SaveError
from leadline.explore.server._jobs import Jobs
from leadline.explore.server._uploads import Uploads
uploads = Uploads()
jobs = Jobs()
before = sorted(os.listdir(tempfile.gettempdir()))
# No file can grow, as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
for attempt in (lambda: uploads.keep({sent!r}), Uploads, Jobs):
    try:
        attempt()
    except SaveError as error:
        sys.stderr.write(str(error) + "\\n")
assert sorted(os.listdir(tempfile.gettempdir())) == before
assert [path.suffix for path in uploads._home.iterdir() if path.suffix == ".npz"] == []
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_is_an_error_and_leaves_no_files(home):
    file = io.BytesIO()
    np.savez(file, X=np.eye(3))
    sent = "data:application/octet-stream;base64," + b64encode(file.getvalue()).decode()
    done = killed(FULL.format(sent=sent))
    assert done.returncode == 0, done.stderr
    kept, *made = done.stderr.splitlines()
    assert kept.startswith("the upload could not be kept: File too large; free some space")
    assert len(made) == 2
    assert all(
        line.startswith("the explorer needs a temporary folder that can be written (File")
        for line in made
    )
    assert list(home.iterdir()) == []
