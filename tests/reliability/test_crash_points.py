"""Writers that are killed before a file operation lose no result and leave no unfinished files.

The writer is killed at each point. A reader must then find the old result or the new result. After
the writer has run again, the folder must be the same as after an undisturbed run.
"""

import shutil

from tests.reliability import proofs
from tests.reliability.processes import DONE, count_operations, killed_before, run
from tests.reliability.writers import SOURCES, proof_name, tree

MOST = {"gradients": 12, "worksheet": 16, "represent": 10}
"""Number of points for slow writers; other writers have 24 points.

If a writer has more operations, the points are spread evenly. With the environment variable
``LEADLINE_PROVE``, which ``make prove`` sets, every operation is a point, and the page of evidence
gets a row for the writer.
"""


def test_a_killed_writer_loses_no_result_and_leaves_no_unfinished_file(name, writer, tmp_path):
    digest = proofs.digest_of(SOURCES[name])
    earlier, clean, folder = tmp_path / "earlier", tmp_path / "clean", tmp_path / "killed"
    for path in (earlier, tmp_path / "warm"):
        path.mkdir()
    # The first run imports the modules that the children need.
    writer.write(tmp_path / "warm")
    assert run(lambda: writer.prepare(earlier))[0] == DONE
    shutil.copytree(earlier, clean)
    number = count_operations(lambda: writer.write(clean), clean)
    old, new = writer.read(earlier) if tree(earlier) else None, writer.read(clean)
    points = _points(number, MOST.get(name, 24))
    for point in points:
        where = f"killed before operation {point} of {number}"
        shutil.copytree(earlier, folder)
        code, output = run(lambda: writer.write(folder), killed_before(point, folder))
        assert code == -9, f"{where}: {code}\n{output}"
        assert not tree(earlier) or writer.read(folder) in (old, new), where
        code, output = run(lambda: writer.write(folder))
        assert code == DONE, f"{where}, then refused\n{output}"
        assert sorted(tree(folder)) == sorted(tree(clean)), where
        assert writer.read(folder) == new, where
        shutil.rmtree(folder)
    print(f"{name}: {len(points)} of {number} points")
    if proofs.IS_PROVING:
        assert len(points) == number
        proofs.record(proof_name(name), f"{number} points", SOURCES[name], digest)


def _points(number: int, most: int) -> list[int]:
    if number <= most or proofs.IS_PROVING:
        return list(range(number))
    return sorted({round(i * (number - 1) / (most - 1)) for i in range(most)})
