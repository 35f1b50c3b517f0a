"""Search-error rates: how often does a beam of each width miss the most likely sequence?

Prompts that the budget left unresolved are never dropped. A rate is a range: from the proved errors
to the proved and the possible errors together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from leadline import checks
from leadline.decoding.answers._decoded import Decoded, as_clause, changed
from leadline.decoding.answers._rescoring import ROUNDING_OF_SCORES, is_close, token_log_probs
from leadline.decoding.answers._scores import Score, SumLogProb
from leadline.decoding.answers._settings import score_function
from leadline.decoding.problem._arguments import LONGEST, EndTokens, end_tokens, length
from leadline.decoding.problem._model import Model
from leadline.decoding.problem._problem import Problem, Step
from leadline.decoding.search.beam._beam import beam_search
from leadline.decoding.search.beam._beam_settings import EosMode
from leadline.decoding.search.beam._greedy import greedy
from leadline.decoding.search.exact._exact import exact_search
from leadline.errors import InputError
from leadline.figures import NEUTRAL, Drawing, bands, extended, line
from leadline.sounding import Interval, Protocol, Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


@record("decoding.SearchErrors")
@dataclass(frozen=True, eq=False)
class SearchErrors(Sounding):
    """Scores of beam searches of W widths on B prompts, and the best known score of each prompt."""

    widths: Int[np.ndarray, " W"]
    """Beam widths, ascending."""
    score: Float[np.ndarray, "W B"]
    """Score of the best answer of each width; ``-inf`` if there is none."""
    greedy: Float[np.ndarray, " B"]
    """Score of the answer of greedy search."""
    best: Float[np.ndarray, " B"]
    """The best score that any search found, exact search included."""
    proved: Bool[np.ndarray, " B"]
    """True if no sequence scores more than ``best``, by exact search or by a beam's certificate."""
    optimum: Decoded
    """The result of exact search, which started from the answers of the widest beam."""
    noise: tuple[float, ...] = ()
    """Per prompt: the change of close scores when they were computed again in one batch; 0 if no
    scores are close."""

    @property
    def is_error(self) -> Bool[np.ndarray, "W B"]:
        """True if a sequence is known that is better than the answer by more than the noise.

        The sequence need not be proved optimal. One sequence has the same score for every width, so
        that noise never makes it an error.
        """
        return self._is_less(self.score, self.best)

    @property
    def is_unresolved(self) -> Bool[np.ndarray, "W B"]:
        """True if no better sequence is known, and the budget ran out before that was proved."""
        return ~self.is_error & ~self.proved

    def rates(self) -> tuple[Float[np.ndarray, " W"], Float[np.ndarray, " W"]]:
        """Return the share of prompts with a proved error, and with a proved or possible error."""
        proved = self.is_error.mean(axis=1)
        return proved, proved + self.is_unresolved.mean(axis=1)

    def intervals(self, level: float = 0.95) -> tuple[Interval, ...]:
        """Return an interval of each width's error rate over prompts, around the proved rate.

        The interval reaches from the lower limit of Clopper and Pearson for the proved errors to
        their upper limit for the proved and unresolved prompts together. It therefore covers the
        rate whatever the unresolved prompts are.

        Args:
            level: probability that the interval covers the rate, in (0, 1).
        """
        level = checks.number(level, "level", above=0, below=1)
        num_prompts = len(self.best)
        num_errors = self.is_error.sum(axis=1).tolist()
        num_unresolved = self.is_unresolved.sum(axis=1).tolist()
        intervals = []
        for errors, unresolved in zip(num_errors, num_unresolved, strict=True):
            low, _ = clopper_pearson(errors, num_prompts, level)
            _, high = clopper_pearson(errors + unresolved, num_prompts, level)
            intervals.append(Interval(errors / num_prompts, low, high, level))
        return tuple(intervals)

    def against_greedy(self) -> Float[np.ndarray, "W 3"]:
        """Return the shares of prompts where a width beats, equals and loses to greedy search."""
        beats = self._is_less(self.greedy, self.score)
        loses = self._is_less(self.score, self.greedy)
        parts = (beats, ~beats & ~loses, loses)
        return np.stack([part.mean(axis=1) for part in parts], axis=1)

    def _is_less(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """True where ``a`` is below ``b`` by more than the noise and the rounding of float32."""
        return a < b - np.maximum(self.noise or 0.0, ROUNDING_OF_SCORES * (1 + np.abs(b)))

    @property
    def verdict(self) -> Verdict:
        """The error rates of the narrowest and of the widest beam."""
        rates = zip(self.widths, *self.rates(), self.intervals(), strict=True)
        parts = [
            f"width {width} on {_range(low, high)} ({interval.level:.0%} interval "
            f"{interval.low:.0%} to {interval.high:.0%})"
            for width, low, high, interval in rates
        ]
        ends = ", ".join(dict.fromkeys((parts[0], parts[-1])))
        notes = as_clause(self.optimum.notes)
        return Verdict(f"of {len(self.best)} prompts, beam search errs with {ends}{notes}")

    def table(self) -> "pd.DataFrame":
        """Return one row per width.

        Columns: ``width``, ``prompts``; counts ``errors`` (proved) and ``unresolved``; shares
        ``rate_proved``, ``rate_possible``, ``low`` and ``high`` (the 95 % interval),
        ``beats_greedy``, ``equals_greedy`` and ``loses_to_greedy``.
        """
        import pandas as pd

        proved, possible = self.rates()
        intervals = self.intervals()
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


def measure_search_errors(
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
    """Decode prompts with beams of several widths, find the best sequences, and count the errors.

    Args:
        step: see :data:`~leadline.decoding.problem._problem.Step`.
        state: the state after the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        max_length: the largest number of new tokens, at least 1.
        widths: beam widths in any order, each at least 1.
        eos: the end token or end tokens.
        score: the score that ranks complete hypotheses.
        eos_mode: see :func:`beam_search`.
        normalize: True if scores are logits; ``None`` follows ``step.normalized``.
        max_calls: the largest number of calls of exact search for each prompt, at least 1; ``None``
            for no limit.

    Returns:
        The error rates of each width from proved to possible, their intervals, and a comparison
        with greedy search.

    Raises:
        InputError: there is no width, a setting is out of range, or as :func:`exact_search`.

    >>> from leadline import decoding
    >>> rows = {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}}
    >>> table = decoding.Table(rows)
    >>> errors = decoding.measure_search_errors(*table.problem(), max_length=2, widths=(1, 2))
    >>> errors.table()[["width", "errors", "unresolved", "beats_greedy"]].values.tolist()
    [[1.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 1.0]]

    Reference: Stahlberg and Byrne, *On NMT search errors and model errors: cat got your tongue?*,
    2019; Clopper and Pearson, *The use of confidence or fiducial limits illustrated in the case of
    the binomial*, 1934.
    """
    listed = checks.whole_numbers(widths, "widths", least=1, most=LONGEST, at_least=0)
    if not listed:
        raise InputError(
            "measure_search_errors() needs a width or more",
            got="widths = ()",
            cure="widths=(1, 2, 5)",
        )
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
    searches = (*beams, optimum)
    notes = tuple(dict.fromkeys(note for search in searches for note in search.notes))
    optimum = changed(optimum, notes=notes)
    greedy_answer = greedy(*problem, **common)
    answers = [_Answers.of(search, score) for search in (*beams, greedy_answer, optimum)]
    scores, noise = _comparable_scores(Model(problem, normalize), answers, score)
    is_proved = [
        [proof in ("OPTIMAL", "NO_SEQUENCE") for proof in search.certificate.outcome]
        for search in searches
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
        proved=np.asarray(np.any(is_proved, axis=0)),
        optimum=optimum,
        noise=tuple(noise.tolist()),
    )


class _Answers(NamedTuple):
    """The best answer of one search to each prompt."""

    tokens: list[tuple[int, ...]]
    """Empty if there is no answer."""
    scores: np.ndarray
    """Shape (B,); ``-inf`` if there is no answer."""

    @classmethod
    def of(cls, decoded: Decoded, score: Score) -> "_Answers":
        """Return the best answers of a search, with their scores by ``score``.

        Greedy search has no score of its own, so that its answers need one.
        """
        tokens = []
        scores = []
        for item in range(len(decoded.lengths)):
            best = decoded.hypotheses(item, 1)
            tokens.append(best[0].tokens if best else ())
            scores.append(float(score(best[0].log_prob, len(tokens[-1]))) if best else -np.inf)
        return cls(tokens, np.array(scores))


def _comparable_scores(
    model: Model, answers: Sequence[_Answers], score: Score
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores in which the same tokens have the same score, and the noise of each prompt.

    If two different answers to a prompt have close scores, all its answers are scored again in one
    batch.

    Returns:
        Scores, shape (searches, B), and the noise, shape (B,).
    """
    scores = np.stack([answer.scores for answer in answers])
    noise = np.zeros(scores.shape[1])
    for item in range(scores.shape[1]):
        scores_of: dict[tuple[int, ...], list[float]] = {}
        for answer in answers:
            if answer.tokens[item]:
                scores_of.setdefault(answer.tokens[item], []).append(float(answer.scores[item]))
        score_of = {tokens: max(values) for tokens, values in scores_of.items()}
        if any(is_close(a, b) for a, b in combinations(score_of.values(), 2)):
            sequences = list(score_of)
            rescored = token_log_probs(model, [item] * len(sequences), sequences)
            for tokens, log_probs in zip(sequences, rescored, strict=True):
                score_of[tokens] = float(score(log_probs.sum(), len(tokens)))
                changes = [abs(score_of[tokens] - value) for value in scores_of[tokens]]
                noise[item] = max(noise[item], *changes)
        scores[:, item] = [score_of.get(answer.tokens[item], -np.inf) for answer in answers]
    return scores, noise


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact confidence limits of a probability.

    Args:
        successes: number of successes that were observed, at most ``trials``.
        trials: number of trials, at least 1.
        level: probability that the limits enclose the probability, in (0, 1).

    >>> low, high = clopper_pearson(5, 10)
    >>> round(low, 4), round(high, 4)
    (0.1871, 0.8129)
    >>> round(clopper_pearson(0, 10)[1], 4)
    0.3085
    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return float(low), float(high)


def _range(low: float, high: float) -> str:
    return f"{low:.1%}" if low == high else f"{low:.1%} to {high:.1%}"
