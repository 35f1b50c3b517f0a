"""A writer that is killed before any of its file operations loses no result and leaves no litter.

For every point: kill the writer there; a reader then finds the old result or the new one. Run the writer again; the
folder then holds exactly what an undisturbed run leaves.
"""

import shutil

from tests.reliability.processes import DONE, count_operations, killed_before, run
from tests.reliability.writers import tree

MOST = 40
"""Points per writer; of a writer with more operations these are spread evenly over them."""


def test_a_killed_writer_loses_nothing_and_leaves_no_litter(writer, tmp_path):
    log = tmp_path / "log"
    earlier, clean, folder = tmp_path / "earlier", tmp_path / "clean", tmp_path / "killed"
    earlier.mkdir()
    assert run(lambda: writer.prepare(earlier), log) == DONE, log.read_text()
    shutil.copytree(earlier, clean)
    number = count_operations(lambda: writer.write(clean), clean, log)
    old, new = writer.read(earlier) if tree(earlier) else None, writer.read(clean)
    points = range(number) if number <= MOST else sorted({round(i * (number - 1) / (MOST - 1)) for i in range(MOST)})
    for point in points:
        shutil.copytree(earlier, folder)
        code = run(lambda: writer.write(folder), log, killed_before(point, folder))
        assert code == -9, f"before operation {point} of {number}: {code}\n{log.read_text()}"
        assert not tree(earlier) or writer.read(folder) in (old, new), f"killed before operation {point} of {number}"
        again = run(lambda: writer.write(folder), log)
        assert again == DONE, f"killed before operation {point} of {number}, then refused\n{log.read_text()}"
        assert sorted(tree(folder)) == sorted(tree(clean)), f"killed before operation {point} of {number}"
        assert writer.read(folder) == new, f"killed before operation {point} of {number}"
        shutil.rmtree(folder)
    print(f"{len(points)} of {number} points")
