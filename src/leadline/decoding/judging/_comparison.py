"""Comparison of several searches of the same prompts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leadline import checks
from leadline.decoding.answers._decoded import Decoded, item_of
from leadline.decoding.answers._rescoring import MOST_RESCORED, ROUNDING_OF_SCORES
from leadline.decoding.answers._scores import Score, SumLogProb
from leadline.errors import InputError
from leadline.figures import Drawing, extended, line, new_drawing, plain
from leadline.sounding import Protocol, Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


MOST_NOISE = 0.1
"""Largest difference in nats of a token's log-probability that the noise of 16-bit numbers
explains. A larger difference means another problem."""

CURE = "compare(decoding.beam_search(*problem, ...), decoding.greedy(*problem, ...))"


@record("decoding.Comparison")
@dataclass(frozen=True, eq=False)
class Comparison(Sounding):
    """Answers, certificates and work of several searches of the same B prompts."""

    searches: tuple[Decoded, ...]
    """The results of the searches."""
    names: tuple[str, ...]
    """The name of each search."""
    score: Score
    """The score by which the answers are compared."""

    def noise(self) -> np.ndarray:
        """Return the difference of scores that counts as a tie, shape (B,).

        This is the rounding of float32 or, if larger, the difference between the scores that
        several searches give to one sequence.
        """
        scores = self.scores()
        largest = np.abs(np.where(np.isfinite(scores), scores, 0.0)).max(axis=0)
        noise = ROUNDING_OF_SCORES * (1 + largest)
        for item in range(len(noise)):
            scores_of: dict[tuple[int, ...], list[float]] = {}
            for search in self.searches:
                for hypothesis in search.hypotheses(item, MOST_RESCORED):
                    score = float(self.score(hypothesis.log_prob, len(hypothesis.tokens)))
                    scores_of.setdefault(hypothesis.tokens, []).append(score)
            for same in scores_of.values():
                noise[item] = max(noise[item], max(same) - min(same))
        return noise

    def is_best(self) -> np.ndarray:
        """Return True where a search has the best answer up to noise, shape (searches, B)."""
        scores = self.scores()
        best = scores.max(axis=0)
        return (scores >= best - self.noise()) & (best > -np.inf)

    def scores(self) -> np.ndarray:
        """Return the score of each search's best answer, shape (searches, B); ``-inf`` if none."""
        scores = np.full((len(self.searches), len(self.searches[0].lengths)), -np.inf)
        for s, search in enumerate(self.searches):
            for item in range(scores.shape[1]):
                for best in search.hypotheses(item, 1):
                    scores[s, item] = self.score(best.log_prob, len(best.tokens))
        return scores

    @property
    def verdict(self) -> Verdict:
        """The search with the best answer and its lead; for many prompts, counts."""
        scores = self.scores()
        is_best = self.is_best()
        if scores.shape[1] > 1:
            counts = zip(self.names, is_best.sum(1), strict=True)
            listed = ", ".join(f"{name} {count}" for name, count in counts)
            return Verdict(f"number of {scores.shape[1]} prompts with the best answer: {listed}")
        return Verdict(self._verdict_of_one(scores[:, 0], is_best[:, 0]))

    def _verdict_of_one(self, scores: np.ndarray, is_best: np.ndarray) -> str:
        """Return the verdict for a single prompt."""
        if not is_best.any():
            return "no search found a sequence with a probability above zero"
        first = int(scores.argmax())
        words = " ".join(self.searches[first].hypotheses()[0].words)
        score = decimals(scores[first], ".2f")
        answers = {best.tokens for search in self.searches for best in search.hypotheses(0, 1)}
        if is_best.all() and len(answers) == 1:
            return f"every search finds “{words}” ({score})"
        if is_best.all():
            noise = self.noise()[0]
            return f"the answers tie within the noise of {noise:.1g}: “{words}” scores {score}"
        finders = []
        other_searches = []
        for name, score_of_search, has_best in zip(self.names, scores, is_best, strict=True):
            if has_best:
                finders.append(name)
            elif score_of_search > -np.inf:
                lead = decimals(scores[first] - score_of_search, ".2f")
                other_searches.append(f"{name} is {lead} behind")
            else:
                other_searches.append(f"{name} finds nothing")
        finder = " and ".join(finders)
        listed = ", ".join(other_searches)
        return f"{finder} found the best of these answers, “{words}” ({score}); {listed}"

    def table(self) -> "pd.DataFrame":
        """Return one row per search and prompt.

        ``log_prob`` and ``gap`` are in nats. ``calls``, ``rows``, ``candidates`` and
        ``state_bytes`` count the work of all prompts together.
        """
        import pandas as pd

        scores = self.scores()
        rows = []
        for s, (name, search) in enumerate(zip(self.names, self.searches, strict=True)):
            for item in range(scores.shape[1]):
                best = search.hypotheses(item, 1)
                rows.append(
                    {
                        "item": item,
                        "search": name,
                        "answer": " ".join(best[0].words) if best else "",
                        "log_prob": best[0].log_prob if best else -np.inf,
                        "score": scores[s, item],
                        "certificate": search.certificate.outcome[item],
                        "gap": float(search.certificate.gap[item]),
                        "calls": search.work.calls,
                        "rows": search.work.rows,
                        "candidates": search.work.candidates,
                        "state_bytes": search.work.state_bytes,
                    }
                )
        return pd.DataFrame(rows)

    def drawing(self, item: int = 0) -> Drawing:
        """Return the log-probability of each answer to one prompt, token by token.

        Searches with the same answer share a line.
        """
        item = item_of(item, len(self.searches[0].lengths))
        names: dict[tuple[int, ...], list[str]] = {}
        curves = {}
        for name, search in zip(self.names, self.searches, strict=True):
            for best in search.hypotheses(item)[:1]:
                names.setdefault(best.tokens, []).append(name)
                sums = search.token_log_prob[item, 0, : len(best.tokens)].cumsum()
                curves[best.tokens] = (["start", *best.words], [0.0, *sums.tolist()])
        traces = [
            line(
                np.arange(len(sums)),
                sums,
                name=plain(" = ".join(names[tokens])),
                text=[plain(word) for word in words],
                mode="lines+markers",
                hovertemplate="%{text} %{y:.2f}",
            )
            for tokens, (words, sums) in curves.items()
        ]
        longest = max(map(len, curves), default=0)
        ticks = {"dtick": 1} if longest < 20 else {}
        drawing = new_drawing(
            "Each answer, token by token", "tokens", "log-probability so far / nats", xaxis=ticks
        )
        return extended(drawing, traces)


def compare(*searches: Decoded) -> Comparison:
    """Compare the answers, certificates and work of searches of the same prompts.

    Args:
        searches: results of searches of one problem. Answers are compared by the score of the
            searches; greedy search, which has no score of its own, accepts any.

    Returns:
        The comparison; its verdict names the search with the best answer.

    Raises:
        InputError: there is no search; or the searches have different prompts, models or scores.

    >>> from leadline import decoding
    >>> rows = {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}}
    >>> table = decoding.Table(rows)
    >>> beam = decoding.beam_search(*table.problem(), width=2, max_length=2)
    >>> print(compare(beam, decoding.beam_search(*table.problem(), width=3, max_length=2)))
    every search finds “b a” (-0.90)
    """
    for i, search in enumerate(searches):
        checks.instance(
            search, f"searches[{i}]", Decoded, wanted="the result of a search", cure=CURE
        )
    num_prompts = {len(search.lengths) for search in searches}
    if len(num_prompts) != 1:
        raise InputError(
            "compare() needs searches of the same prompts",
            got=f"searches of {[len(search.lengths) for search in searches]} prompts",
        )
    for search in searches[1:]:
        _check_same_problem(searches[0], search)
    chosen_scores = {search.settings.chosen_score for search in searches}
    scores = [score for score in chosen_scores if score is not None]
    if len(scores) > 1:
        raise InputError(
            "compare() needs searches that have one score",
            got=", ".join(sorted(map(repr, scores))),
        )
    score = scores[0] if scores else SumLogProb()
    names = tuple(search.settings.label for search in searches)
    protocol = Protocol(
        {search.settings.label: search.settings.as_mapping() for search in searches}
    )
    return Comparison(protocol, searches, names, score)


def _check_same_problem(first: Decoded, second: Decoded) -> None:
    """Refuse results of different problems.

    Prefixes that both results contain must have the same log-probability. Results of two step
    functions must share a prefix.
    """
    prompts = (first.origin.prompts, second.origin.prompts)
    if all(prompts) and prompts[0] != prompts[1]:
        evidence = "other start tokens or states"
    else:
        evidence = _contradiction(first, second)
    if evidence:
        raise InputError(
            "compare() needs searches of the same prompts by the same model",
            got=f"{first.settings.name} and {second.settings.name}: {evidence}",
            cause="the searches have two models, or other prompts",
            cure="search one problem: beam_search(*problem, ...), greedy(*problem, ...)",
        )


def _contradiction(first: Decoded, second: Decoded) -> str:
    """Return the evidence that two results have different problems; empty if there is none."""
    models = (first.origin.model, second.origin.model)
    has_other_model = all(models) and models[0] != models[1]
    for item in range(len(first.lengths)):
        difference, words = _largest_difference(first, second, item)
        if difference is None:
            has_answers = first.lengths[item].any() and second.lengths[item].any()
            if has_other_model and has_answers:
                return "two step functions, whose answers have no first token in common"
        elif difference > MOST_NOISE:
            return (
                f"the log-probability of “{words}” differs by {difference:.3g} nats for item {item}"
            )
    return ""


def _largest_difference(first: Decoded, second: Decoded, item: int) -> tuple[float | None, str]:
    """Return the largest difference of a token's log-probability, and the words up to the token.

    Only prefixes that both results contain count; ``None`` if there is none.
    """
    log_probs = {prefix: log_prob for prefix, log_prob, _ in _prefixes(first, item)}
    largest: float | None = None
    words = ""
    for prefix, log_prob, text in _prefixes(second, item):
        if prefix not in log_probs:
            continue
        difference = abs(log_probs[prefix] - log_prob)
        if largest is None or difference > largest:
            largest = difference
            words = text
    return largest, words


def _prefixes(decoded: Decoded, item: int) -> Iterator[tuple[tuple[int, ...], float, str]]:
    """Yield each prefix of the hypotheses with its last token's log-probability and its words."""
    for rank, hypothesis in enumerate(decoded.hypotheses(item, MOST_RESCORED)):
        for length in range(1, len(hypothesis.tokens) + 1):
            log_prob = float(decoded.token_log_prob[item, rank, length - 1])
            yield hypothesis.tokens[:length], log_prob, " ".join(hypothesis.words[:length])
