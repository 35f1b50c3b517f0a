"""How the work of a search grows with length, width and vocabulary: counted exactly, fitted with intervals."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline import checks
from leadline.decoding.models._problem import Problem
from leadline.decoding.search._beam import beam_search
from leadline.decoding.search._settings import LONGEST
from leadline.errors import InputError
from leadline.figures import NEUTRAL, Drawing, extended, line, markers, new_drawing
from leadline.sounding import Interval, Protocol, Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


@record("decoding.Complexity")
@dataclass(frozen=True, eq=False)
class Complexity(Sounding):
    """The work of beam search over a sweep of n cases.

    ``comparisons`` counts one per score that is read, and ``ranked * log2(n)`` for putting an item's candidates in
    order, n being the most that a step ranks, ``k min(k + 1, M)``. The course's bound for sorting all candidates is
    ``T k M log2 M``; the bound of taking each row's best first is ``T (k M + k^2 log2 k)``.
    """

    T: Int[np.ndarray, " n"]
    k: Int[np.ndarray, " n"]
    M: Int[np.ndarray, " n"]
    rows: Int[np.ndarray, " n"]
    """Hypotheses that the model saw."""
    candidates: Int[np.ndarray, " n"]
    """Next tokens that were scored, by the search's own counter."""
    handed_out: Int[np.ndarray, " n"]
    """Scores that the step function gave, by its own tally: what ``candidates`` has to be."""
    comparisons: Float[np.ndarray, " n"]
    seconds: Float[np.ndarray, " n"]
    """Wall time of selection (the model's steps taken off); NaN if it was not asked for."""

    @property
    def sorting(self) -> np.ndarray:
        """The course's bound, ``T k M log2 M``."""
        return self.T * self.k * self.M * np.log2(self.M)

    @property
    def selecting(self) -> np.ndarray:
        """The tighter bound, ``T (k M + k^2 log2 k)``."""
        return self.T * (self.k * self.M + self.k**2 * np.log2(np.maximum(self.k, 2)))

    def exponents(self, of: str = "comparisons", level: float = 0.95) -> Mapping[str, Interval]:
        """Exponents a, b, c of ``of ~ T^a k^b M^c`` with Student's t intervals of the regression of logarithms.

        Args:
            of: ``"rows"``, ``"candidates"``, ``"comparisons"`` or ``"seconds"``.
            level: probability of covering.
        """
        from scipy.special import stdtrit

        of = checks.choice(of, "of", ("rows", "candidates", "comparisons", "seconds"))
        level = checks.number(level, "level", above=0, below=1)
        if of == "seconds" and np.isnan(self.seconds).any():
            raise InputError(
                "exponents of seconds need measured times",
                got="no times",
                cure="complexity(timed=True)",
            )
        X = np.log(
            np.stack([np.full(len(self.T), math.e), self.T, self.k, self.M], axis=1).astype(float)
        )
        y = np.log(np.asarray(getattr(self, of), dtype=float))
        beta, *_ = np.linalg.lstsq(X, y, rcond=None)
        freedom = len(y) - X.shape[1]
        variance = ((y - X @ beta) ** 2).sum() / freedom * np.linalg.inv(X.T @ X).diagonal()
        half = float(stdtrit(freedom, 0.5 + level / 2)) * np.sqrt(variance)
        values = zip("TkM", beta[1:], half[1:], strict=True)
        return {
            name: Interval(float(b), float(b - h), float(b + h), level) for name, b, h in values
        }

    @property
    def verdict(self) -> Verdict:
        """The exponents, and how far below the bounds the work stays."""
        exponents = ", ".join(
            f"{name} {interval:.2f}" for name, interval in self.exponents().items()
        )
        share, of_ours = (
            (self.comparisons / self.sorting).max(),
            (self.comparisons / self.selecting).max(),
        )
        return Verdict(
            f"comparisons grow with exponents {exponents}; at most {share:.2f} of T k M log M, "
            f"and {of_ours:.2f} times T (k M + k² log k)"
        )

    def table(self) -> "pd.DataFrame":
        """One row per case; ``seconds`` of selection alone."""
        import pandas as pd

        names = (
            "T",
            "k",
            "M",
            "rows",
            "candidates",
            "comparisons",
            "sorting",
            "selecting",
            "seconds",
        )
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def drawing(self) -> Drawing:
        """Return the comparisons made against the bounds of sorting and of selecting."""
        bounds = {
            "T k M log M (sorting)": self.sorting,
            "T (k M + k² log k) (selecting)": self.selecting,
        }
        traces = [markers(bound, self.comparisons, name=name) for name, bound in bounds.items()]
        ends = [float(self.comparisons.min()), float(self.sorting.max())]
        traces.append(line(ends, ends, name="equal", colour=NEUTRAL, dash="dash"))
        drawing = new_drawing(
            "What selection costs",
            "comparisons that the bound allows",
            "comparisons made",
            xaxis_type="log",
            yaxis_type="log",
        )
        return extended(drawing, traces)


def complexity(
    lengths: Sequence[int] = (5, 10, 20),
    widths: Sequence[int] = (2, 5, 10),
    vocabularies: Sequence[int] = (1000, 4000, 16_000),
    *,
    timed: bool = False,
    seed: int = 0,
) -> Complexity:
    """Run beam search over a grid and count.

    Args:
        lengths: T, at least two.
        widths: k, at least two.
        vocabularies: M, at least two, at least 2 each.
        timed: also measure the time of selection, which is the only number that is not exact.
        seed: of the random scores that are searched.

    Raises:
        InputError: a factor has fewer than two values.

    >>> grown = complexity((2, 4), (2, 3), (50, 100))
    >>> {name: round(interval.estimate, 2) for name, interval in grown.exponents("candidates").items()}["M"]
    1.0
    """
    lengths = _sizes(lengths, "lengths", least=1)
    widths = _sizes(widths, "widths", least=1)
    vocabularies = _sizes(vocabularies, "vocabularies", least=2)
    timed = checks.flag(timed, "timed")
    seed = checks.seed(seed)
    cases = list(product(lengths, widths, vocabularies))
    rows, candidates, handed_out, comparisons, seconds = [], [], [], [], []
    for T, k, M in cases:
        table = torch.randn(64, M, generator=torch.Generator().manual_seed(seed))
        spent, given = 0.0, 0

        def step(tokens: Tensor, state: Tensor, table: Tensor = table) -> tuple[Tensor, Tensor]:
            nonlocal spent, given
            started = time.perf_counter()
            scores = table[tokens % 64]
            spent += time.perf_counter() - started
            given += scores.numel()
            return scores, state

        started = time.perf_counter()
        problem = Problem(step, torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
        work = beam_search(*problem, width=k, max_length=T).work
        seconds.append(time.perf_counter() - started - spent if timed else math.nan)
        rows.append(work.rows)
        candidates.append(work.candidates)
        handed_out.append(given)
        comparisons.append(work.candidates + work.ranked * math.log2(max(2, k * min(k + 1, M))))
    T, k, M = (np.array(values) for values in zip(*cases, strict=True))
    settings = {"lengths": lengths, "widths": widths, "vocabularies": vocabularies, "timed": timed}
    return Complexity(
        Protocol(settings, seeds=(seed,)),
        T=T,
        k=k,
        M=M,
        rows=np.array(rows),
        candidates=np.array(candidates),
        handed_out=np.array(handed_out),
        comparisons=np.array(comparisons),
        seconds=np.array(seconds),
    )


def _sizes(values: Sequence[int], name: str, least: int) -> tuple[int, ...]:
    listed = checks.whole_numbers(values, name, least=least, most=LONGEST, at_least=0)
    if len(set(listed)) < 2:
        raise InputError(
            f"an exponent needs two values or more of {name}", got=f"{name} = {listed}"
        )
    return listed
