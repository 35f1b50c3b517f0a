"""If two processes write the same files, one waits or raises an error, and the result is whole."""

import shutil

from tests.reliability.processes import DONE, REFUSED, run, start
from tests.reliability.writers import tree


def test_two_simultaneous_writers_leave_the_result_of_one(name, writer, tmp_path):
    earlier, clean = tmp_path / "earlier", tmp_path / "clean"
    for path in (earlier, tmp_path / "warm"):
        path.mkdir()
    # The first run imports the modules that the children need.
    writer.write(tmp_path / "warm")
    assert run(lambda: writer.prepare(earlier))[0] == DONE
    shutil.copytree(earlier, clean)
    assert run(lambda: writer.write(clean))[0] == DONE
    for turn in range(3):
        folder = tmp_path / f"both-{turn}"
        shutil.copytree(earlier, folder)
        children = [start(lambda folder=folder: writer.write(folder)) for _ in range(2)]
        endings = [child.wait() for child in children]
        assert DONE in [code for code, _ in endings], endings
        for code, output in endings:
            assert code == DONE or (code == REFUSED and "is being written by process" in output), (
                endings
            )
        if name == "metrics":  # Both processes have appended a line.
            assert writer.read(folder) == writer.read(clean)
        else:
            assert sorted(tree(folder)) == sorted(tree(clean))
            assert writer.read(folder) == writer.read(clean)
