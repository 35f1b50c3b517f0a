"""Measurement of ``beam.e``: comparisons of a search against the course's bound and ours."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from leadline import decoding
from leadline.figures import ACCENT, COLOURS, NEUTRAL, Drawing, extended, markers, new_drawing, rule
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.storage import record
from leadline.worksheet._answer import Answer
from leadline.worksheet._criterion import Fact
from leadline.worksheet._setting import Setting

if TYPE_CHECKING:
    import pandas as pd

SWEEP = {
    "lengths": (4, 8, 16),
    "widths": (1, 2, 4, 8, 16),
    "vocabularies": (16, 250, 1000, 4000, 16_000),
}
"""Lengths T, widths k and vocabulary sizes M; they include ``k = M``."""

RANKING = 4
"""The constant of ``k^2 log2 k`` in our bound.

A step ranks at most ``k (k + 1)`` candidates, and ``k (k + 1) log2(k (k + 1)) <= 4 k^2 log2 k`` for
k ≥ 2. For k = 1 the bound uses ``log2 2``.
"""

COURSE_BOUND = "T k M log M"
OUR_BOUND = f"T (k M + {RANKING} k² log k)"

SMALL_LENGTH = 5
SMALL_VOCABULARY = 8
"""Length and vocabulary size for exhaustive search."""


@record("worksheet.Shares")
@dataclass(frozen=True, eq=False)
class Shares(Sounding):
    """The work of searches as shares of two bounds."""

    counted: decoding.Complexity
    """The counts of the searches."""

    @property
    def of_course_bound(self) -> np.ndarray:
        """Comparisons of sorting all scored candidates, divided by ``T k M log2 M``.

        Sorting costs ``log2 M`` comparisons per candidate.
        """
        return self.sorting / self.counted.sorting

    @property
    def of_our_bound(self) -> np.ndarray:
        """Comparisons of the search, divided by ``T (k M + 4 k^2 log2 k)``."""
        T = self.counted.T
        k = self.counted.k
        M = self.counted.M
        return self.counted.comparisons / (T * (k * M + RANKING * k**2 * np.log2(np.maximum(k, 2))))

    @property
    def of_sorting(self) -> np.ndarray:
        """Comparisons of the search, divided by those of sorting; below 1 if it is cheaper."""
        with np.errstate(divide="ignore"):
            return self.counted.comparisons / self.sorting

    @property
    def sorting(self) -> np.ndarray:
        """Comparisons of sorting all scored candidates, ``log2 M`` for each."""
        return self.counted.candidates * np.log2(self.counted.M)

    @property
    def agree(self) -> np.ndarray:
        """True for cases where the search counted one candidate per score of the step function."""
        return self.counted.candidates == self.counted.handed_out

    @property
    def verdict(self) -> Verdict:
        """The largest share of each bound, and the number of cases where selection is cheaper."""
        cases = len(self.of_sorting)
        return Verdict(
            f"in {cases} searches, sorting the scored candidates takes at most "
            f"{share(self.of_course_bound.max())} of {COURSE_BOUND} comparisons; the search "
            f"selects with at most {share(self.of_our_bound.max())} of {OUR_BOUND}, and with fewer "
            f"than sorting in {(self.of_sorting < 1).sum()} of {cases}"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per case, with its counts and its three shares.

        The first columns are ``T``, ``k``, ``M``, ``candidates`` and ``comparisons``.
        """
        import pandas as pd

        counted = self.counted
        return pd.DataFrame(
            {
                "T": counted.T,
                "k": counted.k,
                "M": counted.M,
                "candidates": counted.candidates,
                "comparisons": counted.comparisons,
                "sorting over the course's bound": self.of_course_bound,
                "search over our bound": self.of_our_bound,
                "search over sorting": self.of_sorting,
            }
        )

    def drawing(self) -> Drawing:
        """Return each share by ``k M``, with a line at 1, the limit of a bound."""
        per_step = self.counted.k * self.counted.M
        cases = [
            f"T = {T}, k = {k}, M = {M}"
            for T, k, M in zip(self.counted.T, self.counted.k, self.counted.M, strict=True)
        ]
        shares = {
            f"sorting, of {COURSE_BOUND}": (self.of_course_bound, NEUTRAL, "diamond"),
            f"search, of {OUR_BOUND}": (self.of_our_bound, ACCENT, "circle"),
            "search, of sorting": (self.of_sorting, COLOURS[1], "x"),
        }
        traces = [
            markers(
                per_step,
                values,
                name=name,
                colour=colour,
                symbol=symbol,
                size=7,
                opacity=0.75,
                text=cases,
            )
            for name, (values, colour, symbol) in shares.items()
        ]
        drawing = new_drawing(
            "The work of a search as a share of its bounds",
            "candidates per step, k M",
            "share",
            xaxis_type="log",
            yaxis_rangemode="tozero",
        )
        return extended(drawing, traces, **rule(y=1, colour=NEUTRAL, dash="dash", width=1))


def share(value: float) -> str:
    """Return a share of a bound, with enough decimals to show on which side of 1 it is.

    >>> share(0.998), share(1.0), share(1.0004), share(0.99996)
    ('0.998', '1.000', '1.0004', '0.99996')
    """
    for decimals in range(3, 16):
        text = f"{value:z.{decimals}f}"
        if (float(text) > 1) == (value > 1) and (float(text) < 1) == (value < 1):
            return text
    return repr(float(value))


def cost(setting: Setting) -> Answer:
    """``beam.e``: scored candidates and comparisons of a search, against both bounds."""
    counted = decoding.measure_complexity(**SWEEP)
    protocol = Protocol({**SWEEP, "ranking_constant": RANKING}, seeds=counted.protocol.seeds)
    shares = Shares(protocol, counted)
    last = len(counted.T) - 1
    T = int(counted.T[last])
    k = int(counted.k[last])
    M = int(counted.M[last])
    growth = ", ".join(f"{name} {interval:.2f}" for name, interval in counted.exponents().items())
    is_less = shares.of_sorting < 1
    return Answer(
        protocol=shares.protocol,
        statement_id="beam.e",
        sentence=f"{shares.verdict.sentence}.",
        soundings={"shares": shares},
        facts=_facts(shares, is_less),
        findings=(
            f"Comparisons grow with exponents {growth} (95 % intervals of a regression of "
            "logarithms over all cases).",
            f"At T = {T}, k = {k} and M = {M:,} the search makes {counted.comparisons[last]:z,.0f} "
            f"comparisons; sorting its candidates would take {shares.sorting[last]:z,.0f}, greedy "
            f"search scores {T * M:,}, and exhaustive search would score about {_power(M, T)}.",
            _where_sorting_is_no_worse(counted, is_less),
            *((_wall_time(),) if setting.budget == "full" else ()),
        ),
    )


def _facts(shares: Shares, is_less: Bool[np.ndarray, " cases"]) -> dict[str, Fact]:
    """Return the bounds and the work of the simplest searches.

    Args:
        shares: the counted work, as shares of the bounds.
        is_less: True where selection makes fewer comparisons than sorting.
    """
    cases = len(is_less)
    greedy, exhaustive = _greedy_and_exhaustive(SMALL_LENGTH, SMALL_VOCABULARY)
    all_prefixes = sum(SMALL_VOCABULARY**t for t in range(1, SMALL_LENGTH + 1))
    return {
        "within_the_course_bound": Fact(
            "candidates × log2 M ≤ 1 · T k M log2 M in every case (k ≤ M), where the search's "
            "counter of candidates equals the step function's own tally of the scores that it "
            "gave",
            bool((shares.of_course_bound <= 1).all() and shares.agree.all()),
            f"at most {share(shares.of_course_bound.max())} of the bound; the counters agree "
            f"in {shares.agree.sum()} of {cases} cases",
            f"at most 1, and agreement in {cases} of {cases}",
        ),
        "within_our_bound": Fact(
            "comparisons (one per score read, and r log2 r to rank the r candidates of a step) "
            f"≤ T (k M + {RANKING} k² log2 k) in every case",
            bool((shares.of_our_bound <= 1).all()),
            f"at most {share(shares.of_our_bound.max())} of the bound",
            "at most 1",
        ),
        "fewer_than_sorting": Fact(
            "the search makes fewer comparisons than sorting its candidates would",
            bool(2 * is_less.sum() > cases),
            f"in {is_less.sum()} of {cases} cases",
            "in more than half of them",
        ),
        "greedy": Fact(
            "greedy search scores T M candidates",
            greedy == SMALL_LENGTH * SMALL_VOCABULARY,
            f"{greedy:,}",
            f"{SMALL_LENGTH * SMALL_VOCABULARY:,}",
        ),
        "exhaustive": Fact(
            f"exhaustive search scores M + M² + … + M^T candidates, here T = {SMALL_LENGTH} "
            f"and M = {SMALL_VOCABULARY}",
            exhaustive == all_prefixes,
            f"{exhaustive:,}",
            f"{all_prefixes:,}",
        ),
    }


def _where_sorting_is_no_worse(grown: decoding.Complexity, less: np.ndarray) -> str:
    if less.all():
        return "Selection takes fewer comparisons than sorting in every case."
    worst = sorted({(int(k), int(M)) for k, M in zip(grown.k[~less], grown.M[~less], strict=True)})
    cases = ", ".join(f"k = {k} of M = {M}" for k, M in worst)
    return f"Where the width is near the vocabulary, selection saves nothing: {cases}."


def _power(base: int, exponent: int) -> str:
    return f"10^{exponent * np.log10(base):z.0f}"


def _greedy_and_exhaustive(T: int, M: int) -> tuple[int, int]:
    """Return the candidates of greedy and of exhaustive search on one random table."""
    scores = torch.randn(M, M, generator=torch.Generator().manual_seed(0))

    def step(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return scores[tokens], state

    problem = decoding.Problem(step, torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
    greedy = decoding.greedy(*problem, max_length=T).work
    return greedy.candidates, decoding.exhaustive_search(*problem, max_length=T).work.candidates


def _wall_time(repeats: int = 5) -> str:
    """Return the exponents of the wall time of selection, without the fixed cost per step.

    This is the only result here that depends on a clock.
    """
    small = 64
    large = (10_000, 20_000, 40_000)
    runs = [
        decoding.measure_complexity((8, 16, 32), (2, 4, 8), (small, *large), timed=True)
        for _ in range(repeats)
    ]
    grown = runs[0]
    seconds = np.min([run.seconds for run in runs], axis=0).reshape(3, 3, 4)
    rest = seconds[:, :, 1:] - seconds[:, :, :1]
    if (rest <= 0).any():
        return "Wall time of selection is too short on this machine to be told from its fixed cost."
    keep = np.isin(grown.M, large)
    X = np.log(
        np.stack(
            [np.full(keep.sum(), np.e), *(x[keep] for x in (grown.T, grown.k, grown.M))], axis=1
        )
    )
    T, k, M = np.linalg.lstsq(X, np.log(rest.ravel()), rcond=None)[0][1:]
    return (
        f"Wall time of selection for M from {large[0]:,} to {large[-1]:,}, less the time at M = "
        f"{small}, grows with exponents T {T:z.2f}, k {k:z.2f}, M {M:z.2f} on this machine."
    )
