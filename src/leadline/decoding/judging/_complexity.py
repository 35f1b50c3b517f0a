"""Growth of the work of beam search with length, width and vocabulary, from exact counts."""

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
from leadline.decoding.problem._arguments import LONGEST
from leadline.decoding.problem._problem import Problem
from leadline.decoding.search.beam._beam import beam_search
from leadline.errors import InputError
from leadline.figures import NEUTRAL, Drawing, extended, line, markers, new_drawing
from leadline.sounding import Interval, Protocol, Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


@record("decoding.Complexity")
@dataclass(frozen=True, eq=False)
class Complexity(Sounding):
    """The work of beam search in n cases of length T, width k and vocabulary size M.

    ``comparisons`` counts one comparison per score that is read, and ``ranked * log2(n)`` for
    sorting the candidates of an item; ``n = k min(k + 1, M)`` is the largest number that a step
    ranks. The course's bound for sorting all candidates is ``T k M log2 M``. The bound for
    selecting each row's best candidates first is ``T (k M + k^2 log2 k)``.
    """

    T: Int[np.ndarray, " n"]
    """Number of new tokens."""
    k: Int[np.ndarray, " n"]
    """Beam width."""
    M: Int[np.ndarray, " n"]
    """Vocabulary size."""
    rows: Int[np.ndarray, " n"]
    """Number of hypotheses that the model scored."""
    candidates: Int[np.ndarray, " n"]
    """Number of next tokens that were scored, as the search counts them."""
    handed_out: Int[np.ndarray, " n"]
    """Number of scores that the step function returned; equals ``candidates``."""
    comparisons: Float[np.ndarray, " n"]
    """Number of comparisons of scores."""
    seconds: Float[np.ndarray, " n"]
    """Wall time of the search without the steps of the model; NaN without ``timed=True``."""

    @property
    def sorting(self) -> np.ndarray:
        """The course's bound, ``T k M log2 M``, shape (n,)."""
        return self.T * self.k * self.M * np.log2(self.M)

    @property
    def selecting(self) -> np.ndarray:
        """The tighter bound, ``T (k M + k^2 log2 k)``, shape (n,)."""
        return self.T * (self.k * self.M + self.k**2 * np.log2(np.maximum(self.k, 2)))

    def exponents(self, of: str = "comparisons", level: float = 0.95) -> Mapping[str, Interval]:
        """Return the exponents a, b, c of ``of ~ T^a k^b M^c``, fitted to the logarithms.

        Args:
            of: ``"rows"``, ``"candidates"``, ``"comparisons"`` or ``"seconds"``.
            level: probability that an interval covers its exponent, in (0, 1).

        Returns:
            The exponents of ``"T"``, ``"k"`` and ``"M"`` with Student's t intervals.

        Raises:
            InputError: an argument is out of range, or seconds were not measured.
        """
        from scipy.special import stdtrit

        of = checks.choice(of, "of", ("rows", "candidates", "comparisons", "seconds"))
        level = checks.number(level, "level", above=0, below=1)
        if of == "seconds" and np.isnan(self.seconds).any():
            raise InputError(
                "exponents() of seconds needs measured times",
                got="no times",
                cure="measure_complexity(timed=True)",
            )
        # The logarithm of e gives the constant term of the regression.
        columns = [np.full(len(self.T), math.e), self.T, self.k, self.M]
        X = np.log(np.stack(columns, axis=1).astype(float))
        y = np.log(np.asarray(getattr(self, of), dtype=float))
        beta, *_ = np.linalg.lstsq(X, y, rcond=None)
        freedom = len(y) - X.shape[1]
        variance = ((y - X @ beta) ** 2).sum() / freedom * np.linalg.inv(X.T @ X).diagonal()
        half_widths = float(stdtrit(freedom, 0.5 + level / 2)) * np.sqrt(variance)
        exponents = {}
        for name, b, half in zip("TkM", beta[1:], half_widths[1:], strict=True):
            exponents[name] = Interval(float(b), float(b - half), float(b + half), level)
        return exponents

    @property
    def verdict(self) -> Verdict:
        """The exponents, and the largest share of each bound."""
        exponents = self.exponents()
        listed = ", ".join(f"{name} {interval:.2f}" for name, interval in exponents.items())
        of_sorting = (self.comparisons / self.sorting).max()
        of_selecting = (self.comparisons / self.selecting).max()
        return Verdict(
            f"comparisons grow with exponents {listed}; at most {of_sorting:.2f} of the sorting "
            f"bound and {of_selecting:.2f} of the selecting bound"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per case; ``seconds`` excludes the steps of the model."""
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


def measure_complexity(
    lengths: Sequence[int] = (5, 10, 20),
    widths: Sequence[int] = (2, 5, 10),
    vocabularies: Sequence[int] = (1000, 4000, 16_000),
    *,
    timed: bool = False,
    seed: int = 0,
) -> Complexity:
    """Run beam search over a grid of lengths, widths and vocabularies, and count its work.

    Args:
        lengths: numbers of new tokens T, at least two different ones.
        widths: beam widths k, at least two different ones.
        vocabularies: vocabulary sizes M, at least two different ones, each at least 2.
        timed: True to measure the time of selection, too. All other numbers are exact.
        seed: seed of the random scores that are searched.

    Raises:
        InputError: an argument is out of range, or has fewer than two different values.

    >>> grown = measure_complexity((2, 4), (2, 3), (50, 100))
    >>> round(grown.exponents("candidates")["M"].estimate, 2)
    1.0
    """
    lengths = _sizes(lengths, "lengths", least=1)
    widths = _sizes(widths, "widths", least=1)
    vocabularies = _sizes(vocabularies, "vocabularies", least=2)
    timed = checks.flag(timed, "timed")
    seed = checks.seed(seed)
    cases = list(product(lengths, widths, vocabularies))
    rows = []
    candidates = []
    handed_out = []
    comparisons = []
    seconds = []
    for T, k, M in cases:
        step = _RandomScores(M, seed)
        problem = Problem(step, torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
        started = time.perf_counter()
        work = beam_search(*problem, width=k, max_length=T).work
        elapsed = time.perf_counter() - started
        most_ranked = max(2, k * min(k + 1, M))
        rows.append(work.rows)
        candidates.append(work.candidates)
        handed_out.append(step.num_scores)
        comparisons.append(work.candidates + work.ranked * math.log2(most_ranked))
        seconds.append(elapsed - step.seconds if timed else math.nan)
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


class _RandomScores:
    """A step function with random scores that counts them and measures its own time."""

    def __init__(self, M: int, seed: int):
        self.table = torch.randn(64, M, generator=torch.Generator().manual_seed(seed))
        self.num_scores = 0
        self.seconds = 0.0

    def __call__(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        started = time.perf_counter()
        scores = self.table[tokens % 64]
        self.seconds += time.perf_counter() - started
        self.num_scores += scores.numel()
        return scores, state


def _sizes(values: Sequence[int], name: str, least: int) -> tuple[int, ...]:
    """Return the checked values of one factor of the grid."""
    sizes = checks.whole_numbers(values, name, least=least, most=LONGEST, at_least=0)
    if len(set(sizes)) < 2:
        raise InputError(
            f"{name} must hold two different values or more, to fit an exponent",
            got=f"{name} = {sizes}",
        )
    return sizes
