"""Benchmarks of importing Leadline, of ``--help``, and of the first worksheet statements."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAVY = ("torch", "plotly", "pandas", "sklearn")


def measure() -> list[dict]:
    return [*_start_up(), *_worksheet()]


def _seconds(command: list[str], runs: int = 9) -> float:
    """Return the median wall time of a process, after a first run that fills the disk cache."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _start_up() -> list[dict]:
    python = [sys.executable, "-c"]
    loaded = f"import sys, leadline; print([name for name in {HEAVY} if name in sys.modules])"
    heavy = subprocess.run(
        [*python, loaded], check=True, capture_output=True, text=True
    ).stdout.strip()
    bare, leadline = _seconds([*python, "pass"]), _seconds([*python, "import leadline"])
    help_time = _seconds([sys.executable, "-m", "leadline", "--help"])
    return [
        {
            "work": "`import leadline`",
            "measured": f"{leadline - bare:.3f} s, loads {heavy}",
            "bar": "under 0.15 s, none of torch, plotly, pandas, sklearn",
            "met": leadline - bare < 0.15 and heavy == "[]",
        },
        {
            "work": "`leadline --help`",
            "measured": f"{help_time:.2f} s, interpreter included",
            "bar": "under 0.5 s",
            "met": help_time < 0.5,
        },
    ]


def _worksheet() -> list[dict]:
    six = "beam.a,beam.b,beam.c,beam.d,rnn.a,ae.f"
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "leadline", "worksheet", "--only", six, "--out", folder]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        size = (Path(folder) / "index.html").stat().st_size / 1e6
        statements = json.loads((Path(folder) / "worksheet.json").read_text())["statements"]
    effects = next(s for s in statements if s["id"] == "ae.f")["effects"]
    few, many = effects["gain_at_fewest"], effects["gain_at_most"]
    return [
        {
            "work": f"the six first statements (`leadline worksheet --only {six}`)",
            "measured": f"{seconds:.0f} s",
            "bar": "under 60 s on 2 cores",
            "met": seconds < 60,
        },
        {"work": "the page", "measured": f"{size:.1f} MB", "bar": "under 6 MB", "met": size < 6},
        {
            "work": "`ae.f`: denoising minus raw, 10 labels",
            "measured": f"{few['interval']['estimate']:+.1f} points, simultaneous interval from "
            f"{few['simultaneous']['low']:+.1f}",
            "bar": "at least +8 points, interval above 0",
            "met": few["interval"]["estimate"] >= 8 and few["simultaneous"]["low"] > 0,
        },
        {
            "work": "`ae.f`: denoising minus raw, 300 labels",
            "measured": f"{many['interval']['estimate']:+.1f} points",
            "bar": "within 2 points",
            "met": abs(many["interval"]["estimate"]) <= 2,
        },
    ]
