"""Files of JSON Lines contain only complete lines."""

import errno
import math
import os

import pytest

from leadline import SaveError
from leadline.storage import appending_lines, json_line, split_lines


def test_a_failed_append_leaves_the_earlier_lines(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text("1\n")

    def half_write(descriptor: int, data: memoryview) -> int:
        if len(data) < 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:4])

    write = os.write
    with appending_lines(path) as file:
        monkeypatch.setattr(os, "write", half_write)
        with pytest.raises(SaveError, match="No space left on device; its complete lines are kept"):
            file.append("23456789\n")
    assert path.read_text() == "1\n"


@pytest.mark.parametrize("size", [3, 4096, 10_000])
def test_an_unfinished_line_of_any_length_is_removed(tmp_path, size):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n' + '{"step": '.ljust(size, "1")[:size])
    with appending_lines(path) as file:
        file.remove_unfinished_line(b'{"step": ')
        file.append(json_line({"step": 2}))
    assert split_lines(path.read_bytes()) == ([b'{"step": 0}', b'{"step": 2}'], b"")


def test_numbers_that_are_not_finite_need_allow_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line({"loss": math.inf})
    assert json_line({"loss": math.inf}, allow_nan=True) == '{"loss": Infinity}\n'


def test_a_missing_folder_raises_an_error(tmp_path):
    with (
        pytest.raises(SaveError, match=r"could not write .*No such file or directory"),
        appending_lines(tmp_path / "missing" / "metrics.jsonl"),
    ):
        pass
