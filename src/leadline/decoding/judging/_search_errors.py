"""How often a beam misses the most likely sequence: the search-error rate by width, over many prompts.

What a budget leaves open is never dropped. A rate is told as a range, from what is proved to be an error to that plus
everything that may be one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from leadline import checks
from leadline.decoding.judging._rescoring import SAME, is_close, token_log_probs
from leadline.decoding.models._problem import Model, Problem, Step
from leadline.decoding.search._beam import EosMode, beam_search
from leadline.decoding.search._decoded import Decoded, as_clause, changed
from leadline.decoding.search._exact import exact_search
from leadline.decoding.search._greedy import greedy
from leadline.decoding.search._scores import Score, SumLogProb
from leadline.decoding.search._settings import (
    LONGEST,
    EndTokens,
    end_tokens,
    length,
    score_function,
)
from leadline.errors import InputError
from leadline.figures import NEUTRAL, Drawing, bands, extended, line
from leadline.sounding import Interval, Protocol, Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


@record("decoding.SearchErrors")
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
    noise: tuple[float, ...] = ()
    """Per prompt: how far scores moved when answers with close scores were scored again side by side; 0 where none
    are close."""

    @property
    def is_error(self) -> Bool[np.ndarray, "W B"]:
        """A sequence is known that is better by more than the noise, whether or not the best is proved. The same
        sequence has the same score for every width, so that it is never an error."""
        return self._less(self.score, self.best)

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
        level = checks.number(level, "level", above=0, below=1)
        B, errors, unresolved = (
            len(self.best),
            self.is_error.sum(axis=1),
            self.is_unresolved.sum(axis=1),
        )
        return tuple(
            Interval(
                e / B, clopper_pearson(e, B, level)[0], clopper_pearson(e + u, B, level)[1], level
            )
            for e, u in zip(errors.tolist(), unresolved.tolist(), strict=True)
        )

    def against_greedy(self) -> Float[np.ndarray, "W 3"]:
        """By width, the shares of prompts whose answer beats, equals and loses to greedy search's."""
        beats = self._less(self.greedy, self.score)
        loses = self._less(self.score, self.greedy)
        return np.stack([part.mean(axis=1) for part in (beats, ~beats & ~loses, loses)], axis=1)

    def _less(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """True where a score is below another by more than the noise and the rounding of float32."""
        return a < b - np.maximum(self.noise or 0.0, SAME * (1 + np.abs(b)))

    @property
    def verdict(self) -> Verdict:
        """The error rates of the narrowest and of the widest beam."""
        told = [
            f"width {width} misses the most likely sequence for {_range(low, high)} of {len(self.best)} prompts "
            f"({interval.level:.0%} interval {interval.low:.0%} to {interval.high:.0%})"
            for width, low, high, interval in zip(
                self.widths, *self.rates(), self.intervals(), strict=True
            )
        ]
        return Verdict(
            "; ".join(dict.fromkeys((told[0], told[-1]))) + as_clause(self.optimum.notes)
        )

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

    def drawing(self) -> Drawing:
        """Return the error rate by width, in a band from proved to possible errors.

        Dotted lines show the limits of the interval over prompts.
        """
        proved, possible = self.rates()
        intervals = self.intervals()
        drawing = bands(
            self.widths,
            {"from proved to possible errors": (100 * proved, 100 * proved, 100 * possible)},
            title="Search errors by beam width",
            x_label="beam width",
            y_label="search errors / % of prompts",
            log_x=len(self.widths) > 1,
            yaxis_rangemode="tozero",
        )
        limits = {
            "low": [100 * interval.low for interval in intervals],
            "high": [100 * interval.high for interval in intervals],
        }
        traces = [
            line(
                self.widths,
                values,
                name=f"{intervals[0].level:.0%} interval over prompts",
                colour=NEUTRAL,
                dash="dot",
                width=1,
                legendgroup="interval",
                showlegend=limit == "low",
                hovertemplate=f"{limit} %{{y:.3g}}",
            )
            for limit, values in limits.items()
        ]
        return extended(drawing, traces)


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
        step: see :data:`~leadline.decoding.models._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        max_length: new tokens at most.
        widths: beam widths, in any order.
        eos: the end token or tokens.
        score: what sequences are compared by.
        eos_mode: as in :func:`~leadline.decoding.search._beam.beam_search`.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.
        max_calls: budget of exact search for each prompt; ``None`` for no limit.

    Returns:
        Error rates from proved to possible, with intervals, and how each width does against greedy search.

    Raises:
        InputError: no widths, a setting out of range, or as :func:`~leadline.decoding.search._exact.exact_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> errors = decoding.search_errors(*table.problem(), max_length=2, widths=(1, 2))
    >>> errors.table()[["width", "errors", "unresolved", "beats_greedy"]].values.tolist()
    [[1.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 1.0]]

    Reference: Stahlberg and Byrne, *On NMT search errors and model errors: cat got your tongue?*, 2019; Clopper and
    Pearson, *The use of confidence or fiducial limits illustrated in the case of the binomial*, 1934.
    """
    listed = checks.whole_numbers(widths, "widths", least=1, most=LONGEST, at_least=0)
    if not listed:
        raise InputError("an error rate needs a width", got="widths = ()", cure="widths=(1, 2, 5)")
    widths = sorted(set(listed))
    max_length = length(max_length)
    max_calls = checks.optional_whole_number(max_calls, "max_calls", least=1)
    score = score_function(score)
    eos = end_tokens(eos)
    problem = Problem(step, state, start)
    common: dict[str, Any] = {"max_length": max_length, "eos": eos, "normalize": normalize}
    beams = [
        beam_search(*problem, width=width, score=score, eos_mode=eos_mode, **common)
        for width in widths
    ]
    optimum = exact_search(*problem, score=score, max_calls=max_calls, at_least=beams[-1], **common)
    notes = tuple(dict.fromkeys(note for found in (*beams, optimum) for note in found.notes))
    optimum = changed(optimum, notes=notes)
    alone = greedy(*problem, **common)
    answers = [
        *(_Answers.of(beam, score) for beam in beams),
        _Answers.of(alone, score),
        _Answers.of(optimum, score),
    ]
    scores, noise = _on_one_scale(Model(problem, common["normalize"]), answers, score)
    certified = [
        [proof in ("OPTIMAL", "NO_SEQUENCE") for proof in found.certificate.outcome]
        for found in (*beams, optimum)
    ]
    settings = {
        "search": "beam search",
        "widths": tuple(widths),
        **common,
        "score": score,
        "eos_mode": eos_mode,
        "max_calls": max_calls,
    }
    return SearchErrors(
        Protocol(settings),
        widths=np.array(widths),
        score=scores[: len(widths)],
        greedy=scores[len(widths)],
        best=scores.max(axis=0),
        proved=np.asarray(np.any(certified, axis=0)),
        optimum=optimum,
        noise=tuple(noise.tolist()),
    )


class _Answers(NamedTuple):
    """The best answer of one search to each prompt."""

    tokens: list[tuple[int, ...]]
    """Empty where there is none."""
    score: np.ndarray

    @classmethod
    def of(cls, decoded: Decoded, score: Score) -> "_Answers":
        """Greedy search knows no score but the log-probability; its answers are scored as the others are."""
        first = [decoded.hypotheses(item, 1) for item in range(len(decoded.lengths))]
        tokens = [found[0].tokens if found else () for found in first]
        scores = [
            float(score(found[0].log_prob, len(found[0].tokens))) if found else -np.inf
            for found in first
        ]
        return cls(tokens, np.array(scores))


def _on_one_scale(
    model: Model, answers: Sequence[_Answers], score: Score
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all answers (searches, B) in which the same tokens have the same score, and the noise (B,).

    Where two answers to a prompt differ and their scores are close, all of its answers are scored again side by side.
    """
    scores = np.stack([one.score for one in answers])
    noise = np.zeros(scores.shape[1])
    for item in range(scores.shape[1]):
        given: dict[tuple[int, ...], list[float]] = {}
        for one in answers:
            if one.tokens[item]:
                given.setdefault(one.tokens[item], []).append(float(one.score[item]))
        known = {tokens: max(values) for tokens, values in given.items()}
        if any(is_close(a, b) for a, b in combinations(known.values(), 2)):
            again = token_log_probs(model, [item] * len(known), list(known))
            known = {
                t: float(score(log_prob.sum(), len(t)))
                for t, log_prob in zip(known, again, strict=True)
            }
            noise[item] = max(
                abs(known[tokens] - value) for tokens, values in given.items() for value in values
            )
        scores[:, item] = [known.get(one.tokens[item], -np.inf) for one in answers]
    return scores, noise


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


def _range(low: float, high: float) -> str:
    return f"{low:.1%}" if low == high else f"{low:.1%} to {high:.1%}"
