"""Run the benchmarks, compare them with their bars, and write RESULTS.md.

No other program should run on the machine: ``make bench``, or ``... run.py decoding``. Each
benchmark has a function ``measure() -> list[dict]``, which returns a row per bar with ``work``,
``measured``, ``bar`` and ``met``. A bar limits a count, or a ratio of times that are measured in
pairs within one run. Absolute times are reported with the machine on which they were measured.
"""

import importlib
import platform
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOMS = sorted(
    path.stem for path in HERE.glob("*.py") if path.stem not in {"run", "__init__", "pairs"}
)


def main(names: list[str]) -> int:
    unknown = set(names) - set(ROOMS)
    if unknown:
        print(
            f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}",
            file=sys.stderr,
        )
        return 2
    sections = {}
    for name in names or ROOMS:
        print(f"{name} …", file=sys.stderr, flush=True)
        sections[name] = importlib.import_module(f"benchmarks.{name}").measure()
        print(_table(sections[name]), flush=True)
    if not names:
        _write(sections)
    return 0


def _write(sections: dict[str, list[dict]]) -> None:
    import torch

    machine = f"Python {platform.python_version()}, torch {torch.__version__}, {_processor()}"
    parts = [f"# Measured bars\n\n`make bench` wrote this file on {machine}."]
    parts += [f"## {name.capitalize()}\n\n{_table(rows)}" for name, rows in sections.items()]
    (HERE / "RESULTS.md").write_text("\n\n".join(parts) + "\n")


def _table(rows: list[dict]) -> str:
    lines = ["| work | measured | bar | met |", "|---|---|---|---|"]
    met = {True: "yes", False: "**no**", None: "–"}  # None means that there is no bar.
    lines += [f"| {r['work']} | {r['measured']} | {r['bar']} | {met[r['met']]} |" for r in rows]
    return "\n".join(lines)


def _processor() -> str:
    import os

    info = Path("/proc/cpuinfo")
    names = {
        line.split(":")[1].strip()
        for line in info.read_text().splitlines()
        if line.startswith("model name")
    }
    return f"{os.cpu_count()} cores of {', '.join(sorted(names)) or platform.processor()}"


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    sys.exit(main(sys.argv[1:]))
