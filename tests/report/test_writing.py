"""The page, the JSON, the Markdown and the timings are written together, as UTF-8."""

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leadline import SaveError, report, storage
from leadline.sounding import Protocol
from leadline.worksheet import STATEMENTS, Result, Setting
from tests.worksheet import example

SETTING = Setting("quick")

FILES = {"index.html", "worksheet.json", "worksheet.md", "timings.json"}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("nth", range(1, 7))
def test_files_of_one_run_stay_together_on_a_full_disk(results, tmp_path: Path, monkeypatch, nth):
    """If the disk has no room for one of the files, all earlier files stay."""
    report.write(results, SETTING, tmp_path)
    before = contents(tmp_path)
    flushes = iter(range(1, 100))
    sync = os.fsync

    def full(descriptor):
        if next(flushes) == nth:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    other = [replace(result, seconds=55.0) if result.answer else result for result in results]
    other[0] = replace(other[0], failure="a new failure")
    monkeypatch.setattr(os, "fsync", full)
    with suppress(SaveError):
        report.write(other, Setting("full"), tmp_path)
    monkeypatch.undo()
    after = contents(tmp_path)
    changed = {name for name in FILES if after[name] != before[name]}
    assert changed in (set(), FILES), "files of two runs lie side by side"
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == FILES


def test_an_error_between_two_files_names_the_new_files(results, tmp_path: Path, monkeypatch):
    report.write(results, SETTING, tmp_path)
    rename = Path.replace

    def stuck(self, target):
        if Path(target).name == "timings.json":
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", stuck)
    with pytest.raises(SaveError) as caught:
        report.write(results[:3], SETTING, tmp_path)
    assert "replaced: worksheet.json, worksheet.md; as before: timings.json, index.html" in str(
        caught.value
    )


def test_the_files_are_utf_8_in_any_locale(results, tmp_path: Path):
    """Statements contain Greek letters, and Windows has another default encoding."""
    code = (
        "import pickle, sys; from pathlib import Path; from leadline import report, worksheet;"
        "setting = worksheet.Setting('quick');results = "
        "pickle.loads(Path(sys.argv[1]).read_bytes()); report.write(results, setting, sys.argv[2])"
    )
    (tmp_path / "results").write_bytes(pickle.dumps(results))
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONWARNDEFAULTENCODING": "1",
    }
    command = [
        sys.executable,
        "-W",
        "error::EncodingWarning:leadline",
        "-c",
        code,
        str(tmp_path / "results"),
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for name in FILES:
        text = (tmp_path / "out" / name).read_bytes().decode("utf-8")
        assert name == "timings.json" or "ρ" in text
    assert '<meta charset="utf-8">' in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_json_has_no_negative_zero():
    answer = replace(
        example.answer("ae.f"), protocol=Protocol({"zero": -0.0, "zeros": np.array([-0.0, 1.0])})
    )
    text = storage.canonical_json(
        report.as_json([Result(STATEMENTS["ae.f"], answer=answer)], SETTING)
    )
    assert "-0.0" not in text
