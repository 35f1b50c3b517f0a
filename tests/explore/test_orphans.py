"""Every process of the explorer ends when the explorer ends."""

import signal
import subprocess
import sys

import pytest

from tests.explore.processes import Ends, descendants

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the ends of processes are watched by Linux's means"
)

MODEL = """
import sys
from leadline.explore.rooms import _manual_model as manual_model
from leadline.explore.page._room import PendingError
manual_model.RECIPE = {"types": 60, "hidden": 8, "epochs": 10**6, "seed": 0}  # trains for hours
try:
    manual_model.model()
except PendingError:
    print("training", flush=True)
sys.stdin.read()
"""

JOB = """
import sys
from leadline.explore.server._jobs import Jobs
jobs = Jobs()
jobs.start("tests.explore.work:never_ends", {})
print("running", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("script", [MODEL, JOB], ids=["language model", "job"])
def test_a_worker_ends_when_its_parent_ends(script, sent, tmp_path, monkeypatch):
    for name in ("XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    # Under nohup, the test itself ignores SIGHUP, and its children would inherit that.
    as_in_the_foreground = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    command = [sys.executable, "-c", as_in_the_foreground + script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() != ""
        ends = Ends(descendants(parent.pid))
        parent.send_signal(sent)
    ends.wait()
    assert parent.returncode == -sent
