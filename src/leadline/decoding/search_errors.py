"""How often a beam misses the most likely sequence: the search-error rate by width, over many prompts.

What a budget leaves open is never dropped. A rate is told as a range, from what is proved to be an error to that plus
everything that may be one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from leadline.decoding.beam import EosMode, beam_search
from leadline.decoding.decoded import Decoded
from leadline.decoding.exact import SAME, exact_search
from leadline.decoding.problem import Step
from leadline.decoding.rollout import greedy
from leadline.decoding.scores import Score, SumLogProb
from leadline.decoding.settings import EndTokens, check_counts, end_tokens
from leadline.errors import InputError
from leadline.sounding import Interval, Protocol, Sounding, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False)
class SearchErrors(Sounding):
    """Scores of W widths on B prompts, and the best that is known of each prompt."""

    widths: Int[np.ndarray, " W"]
    score: Float[np.ndarray, "W B"]
    """Of the best answer of each width; ``-inf`` where there is none."""
    greedy: Float[np.ndarray, " B"]
    """Score of greedy search's answer."""
    best: Float[np.ndarray, " B"]
    """The best score that any search found, exact search among them."""
    proved: Bool[np.ndarray, " B"]
    """Whether nothing scores more than ``best``: exact search came to its end, or a beam's certificate says so."""
    optimum: Decoded
    """What exact search found, started from the widest beam's answers."""

    @property
    def is_error(self) -> Bool[np.ndarray, "W B"]:
        """A better sequence is known, whether or not the best is proved."""
        return _less(self.score, self.best)

    @property
    def is_unresolved(self) -> Bool[np.ndarray, "W B"]:
        """None is known, and the budget ran out before that was proved: possibly an error."""
        return ~self.is_error & ~self.proved

    def rates(self) -> tuple[Float[np.ndarray, " W"], Float[np.ndarray, " W"]]:
        """By width: the share of prompts with a proved error, and with a proved or a possible one."""
        proved = self.is_error.mean(axis=1)
        return proved, proved + self.is_unresolved.mean(axis=1)

    def intervals(self, level: float = 0.95) -> tuple[Interval, ...]:
        """By width, the interval of the error rate over prompts, around the proved rate.

        From the lower limit of Clopper and Pearson for the proved errors to the upper limit for the proved and the
        unresolved together, so that it covers whatever the unresolved ones are.

        Args:
            level: probability of covering.
        """
        B, errors, unresolved = len(self.best), self.is_error.sum(axis=1), self.is_unresolved.sum(axis=1)
        return tuple(
            Interval(e / B, clopper_pearson(e, B, level)[0], clopper_pearson(e + u, B, level)[1], level)
            for e, u in zip(errors.tolist(), unresolved.tolist(), strict=True)
        )

    def against_greedy(self) -> Float[np.ndarray, "W 3"]:
        """By width, the shares of prompts whose answer beats, equals and loses to greedy search's."""
        beats, loses = _less(self.greedy, self.score), _less(self.score, self.greedy)
        return np.stack([part.mean(axis=1) for part in (beats, ~beats & ~loses, loses)], axis=1)

    @property
    def verdict(self) -> Verdict:
        """The error rates of the narrowest and of the widest beam."""
        told = [
            f"width {width} misses the most likely sequence for {_range(low, high)} of {len(self.best)} prompts "
            f"({interval.level:.0%} interval {interval.low:.0%} to {interval.high:.0%})"
            for width, low, high, interval in zip(self.widths, *self.rates(), self.intervals(), strict=True)
        ]
        return Verdict("; ".join(dict.fromkeys((told[0], told[-1]))))

    def table(self) -> "pd.DataFrame":
        """One row per width.

        Columns: ``width``, ``prompts``; counts ``errors`` (proved) and ``unresolved``; shares ``rate_proved``,
        ``rate_possible``, ``low`` and ``high`` (the 95 % interval), ``beats_greedy``, ``equals_greedy`` and
        ``loses_to_greedy``.
        """
        import pandas as pd

        (proved, possible), intervals = self.rates(), self.intervals()
        beats, equals, loses = self.against_greedy().T
        return pd.DataFrame(
            {
                "width": self.widths,
                "prompts": len(self.best),
                "errors": self.is_error.sum(axis=1),
                "unresolved": self.is_unresolved.sum(axis=1),
                "rate_proved": proved,
                "rate_possible": possible,
                "low": [interval.low for interval in intervals],
                "high": [interval.high for interval in intervals],
                "beats_greedy": beats,
                "equals_greedy": equals,
                "loses_to_greedy": loses,
            }
        )

    def figure(self) -> "go.Figure":
        """Error rate by width, in the band from proved to possible, with its interval."""
        from leadline.decoding.figure import draw_search_errors

        return draw_search_errors(self)


def search_errors(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    max_length: int,
    widths: Sequence[int] = (1, 2, 3, 5, 10),
    eos: EndTokens = None,
    score: Score = SumLogProb(),  # noqa: B008
    eos_mode: EosMode = "pool",
    normalize: bool | None = None,
    max_calls: int | None = 200,
) -> SearchErrors:
    """Decode every prompt with every width, find the best sequence of each, and compare.

    Args:
        step: see :data:`~leadline.decoding.problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        max_length: new tokens at most.
        widths: beam widths, in any order.
        eos: the end token or tokens.
        score: what sequences are compared by.
        eos_mode: as in :func:`~leadline.decoding.beam.beam_search`.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.
        max_calls: budget of exact search for each prompt; ``None`` for no limit.

    Returns:
        Error rates from proved to possible, with intervals, and how each width does against greedy search.

    Raises:
        InputError: no widths, a setting out of range, or as :func:`~leadline.decoding.exact.exact_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> errors = decoding.search_errors(*table.problem(), max_length=2, widths=(1, 2))
    >>> errors.table()[["width", "errors", "unresolved", "beats_greedy"]].values.tolist()
    [[1.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 1.0]]

    Reference: Stahlberg and Byrne, *On NMT search errors and model errors: cat got your tongue?*, 2019; Clopper and
    Pearson, *The use of confidence or fiducial limits illustrated in the case of the binomial*, 1934.
    """
    if not len(widths):
        raise InputError("an error rate needs a width", got=f"widths = {tuple(widths)}", cure="widths=(1, 2, 5)")
    for width in widths:
        check_counts(width=width)
    widths, problem = sorted(set(widths)), (step, state, start)
    common: dict[str, Any] = {"max_length": max_length, "eos": eos, "normalize": normalize}
    beams = [beam_search(*problem, width=width, score=score, eos_mode=eos_mode, **common) for width in widths]
    optimum = exact_search(*problem, score=score, max_calls=max_calls, at_least=beams[-1], **common)
    alone = greedy(*problem, **common)
    by_width = np.stack([_first(beam.score) for beam in beams])
    # Greedy search knows no score but the log-probability; its answer is scored as the others are.
    of_greedy = np.where(alone.lengths > 0, score(alone.log_prob, np.maximum(alone.lengths, 1)), -np.inf)
    certified = [
        [proof in ("OPTIMAL", "NO_SEQUENCE") for proof in found.certificate.outcome] for found in (*beams, optimum)
    ]
    settings = {
        "search": "beam search",
        "widths": tuple(widths),
        **common,
        "eos": end_tokens(eos),
        "score": score,
        "eos_mode": eos_mode,
        "max_calls": max_calls,
    }
    return SearchErrors(
        Protocol(settings),
        widths=np.array(widths),
        score=by_width,
        greedy=_first(of_greedy),
        best=np.stack([*by_width, _first(of_greedy), _first(optimum.score)]).max(axis=0),
        proved=np.asarray(np.any(certified, axis=0)),
        optimum=optimum,
    )


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Exact limits of a probability of which ``successes`` in ``trials`` were seen.

    >>> [round(limit, 4) for limit in clopper_pearson(0, 10)], [round(limit, 4) for limit in clopper_pearson(5, 10)]
    ([0.0, 0.3085], [0.1871, 0.8129])
    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return float(low), float(high)


def _first(score: np.ndarray) -> np.ndarray:
    return score[:, 0] if score.shape[1] else np.full(len(score), -np.inf)


def _less(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether a score is below another by more than rounding."""
    return a < b - SAME * (1 + np.abs(b))


def _range(low: float, high: float) -> str:
    return f"{low:.1%}" if low == high else f"{low:.1%} to {high:.1%}"
