"""Several searches of the same prompts, side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leadline import checks
from leadline.decoding.judging._rescoring import FIRST, SAME
from leadline.decoding.search._decoded import Decoded, item_of
from leadline.decoding.search._scores import Score, SumLogProb
from leadline.errors import InputError
from leadline.figures import Drawing, extended, line, new_drawing, plain
from leadline.sounding import Protocol, Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


FAR = 0.1
"""Nats by which a token's log-probability differs between problems; the noise of 16-bit numbers stays below."""

CURE = "compare(decoding.beam_search(*problem, ...), decoding.greedy(*problem, ...))"


@record("decoding.Comparison")
@dataclass(frozen=True, eq=False)
class Comparison(Sounding):
    """What each of several searches answered, what it could prove, and what it cost."""

    searches: tuple[Decoded, ...]
    names: tuple[str, ...]
    score: Score
    """What the answers are compared by."""

    def noise(self) -> np.ndarray:
        """The difference of scores that counts as none, shape (B,): that of one sequence in several searches, or the
        rounding of float32."""
        scores = self.scores()
        found = SAME * (1 + np.abs(np.where(np.isfinite(scores), scores, 0.0)).max(axis=0))
        for item in range(len(found)):
            known: dict[tuple[int, ...], list[float]] = {}
            for search in self.searches:
                for hypothesis in search.hypotheses(item, FIRST):
                    value = float(self.score(hypothesis.log_prob, len(hypothesis.tokens)))
                    known.setdefault(hypothesis.tokens, []).append(value)
            found[item] = max(
                found[item], *(max(values) - min(values) for values in known.values()), 0.0
            )
        return found

    def is_best(self) -> np.ndarray:
        """True where a search has the best answer, or one that is as good up to the noise; shape (searches, B)."""
        scores = self.scores()
        best = scores.max(axis=0)
        return (scores >= best - self.noise()) & (best > -np.inf)

    def scores(self) -> np.ndarray:
        """Of each search's best answer to each item, shape (searches, B); ``-inf`` where it has none."""
        found = np.full((len(self.searches), len(self.searches[0].lengths)), -np.inf)
        for s, search in enumerate(self.searches):
            for item in range(found.shape[1]):
                if best := search.hypotheses(item, 1):
                    found[s, item] = self.score(best[0].log_prob, len(best[0].tokens))
        return found

    @property
    def verdict(self) -> Verdict:
        """Which search found the best answer, and how far behind the others are; counts for many prompts."""
        scores = self.scores()
        best = scores.max(0)
        level = self.is_best()
        if scores.shape[1] > 1:
            counts = ", ".join(
                f"{name} {count}" for name, count in zip(self.names, level.sum(1), strict=True)
            )
            return Verdict(
                f"times that each search has the best answer to one of {scores.shape[1]} prompts: {counts}"
            )
        if not level.any():
            return Verdict("no search found a sequence with a probability above zero")
        first = int(scores[:, 0].argmax())
        answer = " ".join(self.searches[first].hypotheses()[0].words)
        answers = {
            search.hypotheses(0, 1)[0].tokens for search in self.searches if search.hypotheses(0, 1)
        }
        if level.all() and len(answers) == 1:
            return Verdict(f"every search finds “{answer}” ({decimals(best[0], '.2f')})")
        if level.all():
            noise = self.noise()[0]
            return Verdict(
                f"the answers tie within the noise of {noise:.1g}: “{answer}” scores {decimals(best[0], '.2f')}"
            )
        finders = " and ".join(
            name for name, is_best in zip(self.names, level[:, 0], strict=True) if is_best
        )
        behind = ", ".join(
            f"{name} is {decimals(best[0] - score, '.2f')} behind"
            if score > -np.inf
            else f"{name} finds nothing"
            for name, score, is_best in zip(self.names, scores[:, 0], level[:, 0], strict=True)
            if not is_best
        )
        return Verdict(
            f"{finders} found the best of these answers, “{answer}” ({decimals(best[0], '.2f')}); {behind}"
        )

    def table(self) -> "pd.DataFrame":
        """One row per search and prompt; ``log_prob`` and ``gap`` in nats, the work that of the whole batch."""
        import pandas as pd

        scores, rows = self.scores(), []
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
    """Lay searches of the same prompts side by side.

    Args:
        searches: what they returned. Answers are compared by the score that these had in common; a search that knows
            none, as greedy search, is held to it all the same.

    Raises:
        InputError: no search, searches of different prompts or models, or of different scores.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> beam = decoding.beam_search(*table.problem(), width=2, max_length=2)
    >>> print(compare(beam, decoding.greedy(*table.problem(), max_length=2)))
    beam search (width 2) found the best of these answers, “b a” (-0.90); greedy search is 0.40 behind
    """
    for i, search in enumerate(searches):
        checks.instance(
            search, f"searches[{i}]", Decoded, wanted="the result of a search", cure=CURE
        )
    if not searches or len({len(search.lengths) for search in searches}) > 1:
        raise InputError(
            "searches of the same prompts can be compared",
            got=f"searches of {[len(search.lengths) for search in searches]} prompts",
        )
    for search in searches[1:]:
        _check_same_problem(searches[0], search)
    settings = [search.settings for search in searches]
    scores = {score for one in settings if (score := one.chosen_score) is not None}
    if len(scores) > 1:
        raise InputError(
            "searches that are compared have one score", got=", ".join(sorted(map(repr, scores)))
        )
    names = [one.label for one in settings]
    protocol = Protocol({one.label: one.as_mapping() for one in settings})
    return Comparison(protocol, searches, tuple(names), scores.pop() if scores else SumLogProb())


def _check_same_problem(one: Decoded, other: Decoded) -> None:
    """Refuse searches of different problems: prefixes that both know must have the same log-probability, and a shared
    prefix or the same step function must show that the problem is one."""
    ours, theirs = one.origin, other.origin
    if ours.prompts and theirs.prompts and ours.prompts != theirs.prompts:
        evidence = "other start tokens or states"
    else:
        evidence = _contradiction(one, other)
    if evidence:
        raise InputError(
            "searches of the same prompts by the same model can be compared",
            got=f"{one.settings.name} and {other.settings.name}: {evidence}",
            cause="the searches are of two models, or of other prompts",
            cure="search one problem: beam_search(*problem, ...), greedy(*problem, ...)",
        )


def _contradiction(one: Decoded, other: Decoded) -> str:
    """What shows that two answers belong to different problems; empty if nothing does."""
    is_known = bool(one.origin.model and other.origin.model)
    is_other_model = is_known and one.origin.model != other.origin.model
    for item in range(len(one.lengths)):
        off, words = _most_different(one, other, item)
        if off is None and is_other_model and one.lengths[item].any() and other.lengths[item].any():
            return "two step functions, whose answers have no first token in common"
        if off is not None and off > FAR:
            return f"the log-probability of “{words}” differs by {off:.3g} nats for item {item}"
    return ""


def _most_different(one: Decoded, other: Decoded, item: int) -> tuple[float | None, str]:
    """The largest difference of a token's log-probability after a prefix that both searches know, and the prefix."""
    known = {prefix: log_prob for prefix, log_prob, _ in _prefixes(one, item)}
    worst: float | None = None
    words = ""
    for prefix, log_prob, text in _prefixes(other, item):
        if prefix in known and (worst is None or abs(known[prefix] - log_prob) > worst):
            worst, words = abs(known[prefix] - log_prob), text
    return worst, words


def _prefixes(decoded: Decoded, item: int) -> Iterator[tuple[tuple[int, ...], float, str]]:
    for rank, hypothesis in enumerate(decoded.hypotheses(item, FIRST)):
        for t in range(1, len(hypothesis.tokens) + 1):
            text = " ".join(hypothesis.words[:t])
            yield hypothesis.tokens[:t], float(decoded.token_log_prob[item, rank, t - 1]), text
