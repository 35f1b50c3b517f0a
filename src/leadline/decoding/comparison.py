"""Several searches of the same prompts, side by side."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leadline.decoding.decoded import Decoded
from leadline.decoding.scores import Score, SumLogProb
from leadline.errors import InputError
from leadline.sounding import Protocol, Sounding, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False)
class Comparison(Sounding):
    """What each of several searches answered, what it could prove, and what it cost."""

    searches: tuple[Decoded, ...]
    names: tuple[str, ...]
    score: Score
    """What the answers are compared by."""

    def scores(self) -> np.ndarray:
        """Of each search's best answer to each item, shape (searches, B); ``-inf`` where it has none."""
        found = np.full((len(self.searches), len(self.searches[0].lengths)), -np.inf)
        for s, search in enumerate(self.searches):
            for item in range(found.shape[1]):
                if best := search.hypotheses(item)[:1]:
                    found[s, item] = self.score(best[0].log_prob, len(best[0].tokens))
        return found

    @property
    def verdict(self) -> Verdict:
        """Which search found the best answer, and how far behind the others are; counts for many prompts."""
        scores = self.scores()
        best = scores.max(0)
        level = (scores >= best - 1e-9) & (best > -np.inf)
        if scores.shape[1] > 1:
            counts = ", ".join(f"{name} {count}" for name, count in zip(self.names, level.sum(1), strict=True))
            return Verdict(f"times that each search has the best answer to one of {scores.shape[1]} prompts: {counts}")
        if not level.any():
            return Verdict("no search found a sequence with a probability above zero")
        first = int(level[:, 0].argmax())
        answer = " ".join(self.searches[first].hypotheses()[0].words)
        if level.all():
            return Verdict(f"every search finds “{answer}” ({best[0]:.2f})")
        finders = " and ".join(name for name, is_best in zip(self.names, level[:, 0], strict=True) if is_best)
        behind = ", ".join(
            f"{name} is {best[0] - score:.2f} behind" if score > -np.inf else f"{name} finds nothing"
            for name, score, is_best in zip(self.names, scores[:, 0], level[:, 0], strict=True)
            if not is_best
        )
        return Verdict(f"{finders} found the best of these answers, “{answer}” ({best[0]:.2f}); {behind}")

    def table(self) -> "pd.DataFrame":
        """One row per search and prompt; ``log_prob`` and ``gap`` in nats, the work that of the whole batch."""
        import pandas as pd

        scores, rows = self.scores(), []
        for s, (name, search) in enumerate(zip(self.names, self.searches, strict=True)):
            for item in range(scores.shape[1]):
                best = search.hypotheses(item)[:1]
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

    def figure(self, item: int = 0) -> "go.Figure":
        """The log-probability of each answer to one prompt, token by token."""
        from leadline.decoding.figure import draw_comparison

        return draw_comparison(self, item)


def compare(*searches: Decoded) -> Comparison:
    """Lay searches of the same prompts side by side.

    Args:
        searches: what they returned. Answers are compared by the score that these had in common; a search that knows
            none, as greedy search, is held to it all the same.

    Raises:
        InputError: no search, searches of different numbers of prompts, or of different scores.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> beam = decoding.beam_search(*table.problem(), width=2, max_length=2)
    >>> print(compare(beam, decoding.greedy(*table.problem(), max_length=2)))
    beam search (width 2) found the best of these answers, “b a” (-0.90); greedy search is 0.40 behind
    """
    if not searches or len({len(search.lengths) for search in searches}) > 1:
        raise InputError(
            "searches of the same prompts can be compared",
            got=f"searches of {[len(search.lengths) for search in searches]} prompts",
        )
    settings = [search.protocol.settings for search in searches]
    scores = {one["score"] for one in settings if "score" in one}
    if len(scores) > 1:
        raise InputError("searches that are compared have one score", got=", ".join(sorted(map(repr, scores))))
    names = [one.get("search", "search") + (f" (width {one['width']})" if "width" in one else "") for one in settings]
    protocol = Protocol({name: dict(one) for name, one in zip(names, settings, strict=True)})
    return Comparison(protocol, searches, tuple(names), scores.pop() if scores else SumLogProb())
