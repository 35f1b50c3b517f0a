"""The gallery: soundings that are measured during the build, each with its verdict and its picture."""

from pathlib import Path


def write(folder: Path) -> None:
    """Write the page and its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.rst").write_text("Gallery\n=======\n", "utf-8")
