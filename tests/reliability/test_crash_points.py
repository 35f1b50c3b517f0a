"""A writer that is killed before any of its file operations loses no result and leaves no litter.

For every point: kill the writer there; a reader then finds the old result or the new one. Run the writer again; the
folder then holds exactly what an undisturbed run leaves.
"""

import os
import shutil

from tests.reliability.processes import DONE, count_operations, killed_before, run
from tests.reliability.writers import tree

MOST = {"gradients": 12, "worksheet": 16, "represent": 10}
"""Points of the slow writers, 24 of the others; where there are more operations they are spread evenly over these. The
environment variable ``LEADLINE_PROVE`` asks for all of them: ``make prove``."""


def test_a_killed_writer_loses_nothing_and_leaves_no_litter(name, writer, tmp_path):
    earlier, clean, folder = tmp_path / "earlier", tmp_path / "clean", tmp_path / "killed"
    for path in (earlier, tmp_path / "warm"):
        path.mkdir()
    writer.write(tmp_path / "warm")  # imports what the children need, once
    assert run(lambda: writer.prepare(earlier))[0] == DONE
    shutil.copytree(earlier, clean)
    number = count_operations(lambda: writer.write(clean), clean)
    old, new = writer.read(earlier) if tree(earlier) else None, writer.read(clean)
    points = _points(number, MOST.get(name, 24))
    for point in points:
        where = f"killed before operation {point} of {number}"
        shutil.copytree(earlier, folder)
        code, told = run(lambda: writer.write(folder), killed_before(point, folder))
        assert code == -9, f"{where}: {code}\n{told}"
        assert not tree(earlier) or writer.read(folder) in (old, new), where
        code, told = run(lambda: writer.write(folder))
        assert code == DONE, f"{where}, then refused\n{told}"
        assert sorted(tree(folder)) == sorted(tree(clean)), where
        assert writer.read(folder) == new, where
        shutil.rmtree(folder)
    print(f"{name}: {len(points)} of {number} points")


def _points(number: int, most: int) -> list[int]:
    if number <= most or "LEADLINE_PROVE" in os.environ:
        return list(range(number))
    return sorted({round(i * (number - 1) / (most - 1)) for i in range(most)})
