"""The table of proofs in ``docs/evidence.md``: proofs write their rows, and stale rows are found.

A row is stale if a source file of its proof has changed since. The row holds a digest of the files'
content, so that a squashed or rebased commit does not matter. The command
``python -m tests.reliability.proofs`` lists the stale rows and fails if there are any.
"""

import datetime
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "evidence.md"

IS_PROVING = "LEADLINE_PROVE" in os.environ
"""True in ``make prove``, which runs proofs in full and records them."""

COLUMNS = ("proof", "result", "date", "processor", "commit", "source files", "digest")
HEAD = "| " + " | ".join(COLUMNS) + " |"
RULE = "|---" * len(COLUMNS) + "|"


@dataclass(frozen=True)
class Proof:
    """One row of the table; all fields are text, as on the page."""

    name: str
    result: str
    date: str
    processor: str
    commit: str
    sources: str
    """Names or patterns of the source files that the proof depends on, separated by spaces."""
    digest: str
    """Digest of the source files at the time of the proof."""

    def is_stale(self, root: Path = ROOT) -> bool:
        """True if a source file was changed, added, renamed or deleted since the proof."""
        return digest_of(self.sources.split(), root) != self.digest

    def __str__(self) -> str:
        cells = astuple(replace(self, sources=f"`{self.sources}`"))
        assert not any("|" in cell or "\n" in cell for cell in cells), cells
        return "| " + " | ".join(cells) + " |"


def record(name: str, result: str, sources: Sequence[str], digest: str, page: Path = PAGE) -> None:
    """Write the row of a proof that has just succeeded; replace its earlier row.

    Args:
        name: name of the proof.
        result: the proved figure, in words.
        sources: names or patterns of the source files, from the root of the repository.
        digest: digest of these files before the proof began; see :func:`digest_of`.
        page: the page with the table.
    """
    proof = Proof(
        name,
        result,
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        processor(),
        commit(),
        " ".join(sources),
        digest,
    )
    write_row(proof, page)


def read_rows(page: Path = PAGE) -> dict[str, Proof]:
    """Return the proofs of the table by name, in its order."""
    rows = [line for line in _table(page.read_text("utf-8")).splitlines() if line.startswith("|")]
    proofs = [Proof(*(cell.strip(" `") for cell in row.strip("|").split("|"))) for row in rows[2:]]
    return {proof.name: proof for proof in proofs}


def write_row(proof: Proof, page: Path = PAGE) -> None:
    """Replace the row with this proof's name, or add it below the other rows."""
    rows = {**read_rows(page), proof.name: proof}
    text = page.read_text("utf-8")
    table = "\n".join([HEAD, RULE, *map(str, rows.values())])
    page.write_text(text.replace(_table(text), table), "utf-8")


def stale_proofs(page: Path = PAGE, root: Path = ROOT) -> list[str]:
    """Return the names of the proofs whose source files have changed since."""
    return [proof.name for proof in read_rows(page).values() if proof.is_stale(root)]


def digest_of(sources: Sequence[str], root: Path = ROOT) -> str:
    """Return a digest of the names and the content of the files that match the patterns."""
    paths = sorted({path for pattern in sources for path in root.glob(pattern)})
    digest = hashlib.sha256()
    for path in paths:
        # The length separates the content from the next name.
        content = path.read_bytes()
        head = f"{path.relative_to(root).as_posix()}\0{len(content)}\0"
        digest.update(head.encode() + content)
    return digest.hexdigest()[:16]


def processor() -> str:
    """Return the name of the processor, and nothing else about the machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(names)) or platform.processor() or platform.machine()


def commit() -> str:
    """Return the commit of the working tree, followed by "with changes" if files differ from it."""
    try:
        number = _git("rev-parse", "--short", "HEAD")
        is_changed = bool(_git("status", "--porcelain", "--untracked-files=no", "--", "src"))
    except (OSError, subprocess.CalledProcessError):
        return "not in a repository"
    return f"{number} with changes" if is_changed else number


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def _table(text: str) -> str:
    """Return the lines of the table, from its head to its last row."""
    start = text.index(HEAD)
    end = text.find("\n\n", start)
    return text[start:].rstrip("\n") if end < 0 else text[start:end]


if __name__ == "__main__":
    stale = stale_proofs()
    for stale_name in stale:
        print(f"source files have changed since the proof of {stale_name}")
    sys.exit(1 if stale else 0)
