"""On a full disk, writers raise a readable error, and keep earlier files only."""

import shutil

from tests.reliability.processes import DONE, REFUSED, run, with_small_files
from tests.reliability.writers import tree

SIZES = (0, 1, 100, 1000)
"""Limits on the size of a file in bytes. Nine tenths of the writer's largest file is a limit, too.
"""


def test_a_full_disk_raises_a_readable_error_and_keeps_earlier_files(name, writer, tmp_path):
    earlier, clean, folder = tmp_path / "earlier", tmp_path / "clean", tmp_path / "full"
    for path in (earlier, tmp_path / "warm"):
        path.mkdir()
    # The first run imports the modules that the children need.
    writer.write(tmp_path / "warm")
    assert run(lambda: writer.prepare(earlier))[0] == DONE
    shutil.copytree(earlier, clean)
    assert run(lambda: writer.write(clean))[0] == DONE
    old, new = writer.read(earlier) if tree(earlier) else None, writer.read(clean)
    largest = max(len(content) for content in tree(clean).values())
    for size in sorted({size for size in SIZES if size < largest} | {9 * largest // 10}):
        shutil.copytree(earlier, folder)
        code, output = run(lambda: writer.write(folder), with_small_files(size))
        assert code == REFUSED, f"at most {size} bytes in a file: exit code {code}\n{output}"
        assert "could not write" in output, output
        assert "Traceback" not in output, output
        assert not tree(earlier) or writer.read(folder) in (old, new)
        hidden = [
            path
            for path in tree(folder)
            if path.rpartition("/")[2].startswith(".") and path not in tree(clean)
        ]
        assert not hidden, f"at most {size} bytes in a file: {hidden} are left"
        code, output = run(lambda: writer.write(folder))
        assert code == DONE, output
        assert sorted(tree(folder)) == sorted(tree(clean))
        assert writer.read(folder) == new
        shutil.rmtree(folder)
