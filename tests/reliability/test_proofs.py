"""The page of evidence has a row for each proof; stale rows are reported."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reliability import proofs
from tests.reliability.proofs import HEAD, RULE, Proof, digest_of, read_rows, record, write_row
from tests.reliability.writers import NAMES, SOURCES, proof_name

ROW = Proof("waves", "3 of 3", "2026-01-02", "a processor", "abc1234", "src/*.py", "0" * 16)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "evidence.md"
    path.write_text(f"# Evidence\n\nText above.\n\n{HEAD}\n{RULE}\n{ROW}\n\nText below.\n", "utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a small repository with one source file."""
    folder = tmp_path / "repository"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("a = 1\n", "utf-8")
    return folder


@pytest.mark.filterwarnings("default")
def test_source_files_have_not_changed_since_their_proofs():
    """Changes are a warning, because proofs take many minutes; ``make prove`` fails."""
    stale = proofs.stale_proofs()
    text = f"source files have changed since the proofs of {', '.join(stale)}; run make prove"
    if proofs.IS_PROVING:
        assert not stale, text
    elif stale:
        warnings.warn(text, stacklevel=1)


def test_each_writer_has_a_row_and_source_files_that_exist():
    assert {proof_name(name) for name in NAMES} <= set(read_rows())
    patterns = {pattern for sources in SOURCES.values() for pattern in sources}
    assert set(SOURCES) == set(NAMES)
    assert [pattern for pattern in patterns if not list(proofs.ROOT.glob(pattern))] == []


def test_a_row_is_replaced_in_place_and_a_new_row_is_added_below(page):
    write_row(replace(ROW, name="tides"), page)
    write_row(replace(ROW, result="4 of 4"), page)
    rows = read_rows(page)
    assert list(rows) == ["waves", "tides"]
    assert rows["waves"] == replace(ROW, result="4 of 4")
    text = page.read_text("utf-8")
    assert text.startswith("# Evidence\n\nText above.\n\n| proof |")
    assert text.endswith(" |\n\nText below.\n")


def test_a_table_at_the_end_of_the_page_is_read_and_written(page):
    page.write_text(page.read_text("utf-8").removesuffix("\nText below.\n"), "utf-8")
    write_row(replace(ROW, result="4 of 4"), page)
    assert list(read_rows(page)) == ["waves"]
    assert page.read_text("utf-8").endswith(" |\n")


def test_record_writes_date_processor_commit_and_digest(page):
    sources = ("tests/reliability/proofs.py",)
    record("waves", "5 of 5", sources, digest_of(sources), page)
    proof = read_rows(page)["waves"]
    assert proof.result == "5 of 5"
    assert proof.processor == proofs.processor() != ""
    assert proof.commit == proofs.commit()
    assert proof.digest == digest_of(sources)
    assert not proof.is_stale()


@pytest.mark.parametrize("change", ["edited", "added", "renamed", "deleted"])
def test_a_changed_source_file_makes_a_proof_stale(change, page, root):
    write_row(replace(ROW, digest=digest_of(["src/*.py"], root)), page)
    assert proofs.stale_proofs(page, root) == []
    path = root / "src" / "a.py"
    if change == "edited":
        path.write_text("a = 2\n", "utf-8")
    elif change == "added":
        path.with_name("b.py").touch()
    elif change == "renamed":
        path.rename(path.with_name("c.py"))
    else:
        path.unlink()
    assert proofs.stale_proofs(page, root) == ["waves"]


def test_another_file_does_not_make_a_proof_stale(page, root):
    write_row(replace(ROW, digest=digest_of(["src/*.py"], root)), page)
    (root / "src" / "notes.txt").touch()
    (root / "b.py").touch()
    assert proofs.stale_proofs(page, root) == []


def test_the_command_lists_stale_proofs_and_fails_if_there_are_any():
    command = [sys.executable, "-m", "tests.reliability.proofs"]
    ended = subprocess.run(command, cwd=proofs.ROOT, capture_output=True, text=True)
    stale = proofs.stale_proofs()
    assert ended.returncode == (1 if stale else 0)
    assert len(ended.stdout.splitlines()) == len(stale)
