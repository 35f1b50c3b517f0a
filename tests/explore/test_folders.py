"""Temporary folders: those of strangers stay as they are, those of killed processes go."""

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
    """A temporary folder of this test's own, which the processes that it starts use, too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def snapshot(folder: Path) -> dict[str, tuple]:
    """Every name below a folder with its kind, mode, time of change and content."""
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


def test_what_a_killed_process_left_goes_at_the_next_start_and_what_is_in_use_stays(home):
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
    """Folders, files and links that look like Leadline's, and are not."""
    (home / f"{NAME}-mine").mkdir()
    (home / f"{NAME}-mine" / "thesis.tex").write_text("years of work")
    (home / f"{NAME}-empty").mkdir()
    (home / f"{NAME}-file").write_text("a file")
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "data.csv").write_text("1,2")
    (home / f"{NAME}-link").symlink_to(home / "elsewhere")
    (home / f"{NAME}-broken").symlink_to(home / "nowhere")
    copied = home / f"{NAME}-backup"  # of one of Leadline's own folders, mark included
    shutil.copytree(left, copied)
    no_mark = home / f"{NAME}-{'0' * 12}-{'0' * 8}"  # the form of Leadline's names
    no_mark.mkdir()
    (no_mark / "notes.txt").write_text("keep")
    other_mark = home / f"{NAME}-marked"
    other_mark.mkdir()
    (other_mark / MARK).write_text("Leadline made this.")
    (other_mark / LOCK).write_text("")
    named = home / folders._new_name(
        NAME
    )  # even a name that Leadline could have given is not enough
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
def test_folders_of_strangers_with_the_same_names_stay_bit_equal(home):
    left = left_by_a_killed_process()
    strangers(home, left)
    shutil.rmtree(left)
    link_to_ours = home / folders._new_name(NAME)  # a link to a folder that Leadline would remove
    target = home / "target"
    target.mkdir()
    (target / MARK).write_bytes(folders._mark(link_to_ours))
    link_to_ours.symlink_to(target)
    before = snapshot(home)
    for name in (NAME, "leadline-explorer-uploads", "leadline-explorer-models"):
        remove(temporary(name))
    assert snapshot(home) == before


def test_a_folder_of_another_user_stays(home, monkeypatch):
    left = left_by_a_killed_process()
    monkeypatch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
    temporary(NAME)
    assert left.exists()


def test_a_link_in_a_folder_that_goes_is_not_followed(home):
    left = left_by_a_killed_process()
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "data.csv").write_text("1,2")
    (left / "link").symlink_to(home / "elsewhere")
    temporary(NAME)
    assert not left.exists()
    assert (home / "elsewhere" / "data.csv").read_text() == "1,2"


def test_a_process_that_is_killed_at_any_step_leaves_nothing_after_the_next_start(home):
    steps = int(killed(HALF_MADE.format(last=10**6)).stdout)
    assert steps >= 3, "the folder, its lock and its mark"
    for last in range(steps):
        done = killed(HALF_MADE.format(last=last))
        assert done.returncode == -signal.SIGKILL
        remove(temporary(NAME))
        assert list(home.iterdir()) == [], f"killed before step {last + 1}"


def test_a_removal_that_is_killed_at_any_step_is_finished_at_the_next_start(home):
    done = 0
    while True:
        left = left_by_a_killed_process()
        if killed(HALF_MADE.format(last=done)).returncode == 0:
            break
        done += 1
        remove(temporary(NAME))
        assert list(home.iterdir()) == [], f"killed before step {done} of: {left}"
    assert done > 5, "the removal of the other folder has steps of its own"


def test_a_forked_child_leaves_the_folder_to_its_parent(home):
    fork = "import os\nif os.fork() == 0: sys.exit()\nos.wait()\nprint(folder.exists())"
    script = HOLD.replace("sys.stdin.read()", fork)
    assert killed(script).stdout.split()[-1] == "True"
    assert list(home.iterdir()) == []


def test_a_temporary_folder_that_cannot_be_written_is_an_error_with_a_cure(home, monkeypatch):
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
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # no file can grow, as on a full disk
for attempt in (lambda: uploads.keep({sent!r}), Uploads, Jobs):
    try:
        attempt()
    except SaveError as error:
        sys.stderr.write(str(error) + "\\n")
assert sorted(os.listdir(tempfile.gettempdir())) == before
assert [path.suffix for path in uploads._home.iterdir() if path.suffix == ".npz"] == []
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_is_told_and_leaves_nothing(home):
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
