"""The result of a search: hypotheses, their scores, and a bound on all other hypotheses."""

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from leadline import checks
from leadline.decoding.answers._certificate import Certificate
from leadline.decoding.answers._settings import SearchSettings, settings_from
from leadline.decoding.answers._trace import Trace
from leadline.decoding.answers._tree_drawing import tree_drawing
from leadline.decoding.problem._origin import NOWHERE, Origin
from leadline.decoding.problem._work import Work
from leadline.figures import Drawing, extended, line, new_drawing, plain
from leadline.sounding import Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


MOST_LINES = 7
"""Hypotheses that are drawn token by token."""


@dataclass(frozen=True)
class Hypothesis:
    """One decoded sequence."""

    tokens: tuple[int, ...]
    """The new tokens, including the end token."""
    words: tuple[str, ...]
    """Words of the tokens; token ids as text if the model has no vocabulary."""
    log_prob: float
    """Natural logarithm of the probability, nats."""
    score: float
    """The score that ranks the hypotheses."""
    finished: bool
    """True if the sequence ended with an end token or, without end tokens, at ``max_length``."""

    def __str__(self) -> str:
        return f"{' '.join(self.words)} {decimals(self.log_prob, '.2f')}"


@record("decoding.Decoded")
@dataclass(frozen=True, eq=False)
class Decoded(Sounding):
    """The best hypotheses of B prompts: up to R hypotheses of up to L tokens each, best first.

    A hypothesis is complete if it ends with an end token or has ``max_length`` tokens. If an item
    has fewer than R hypotheses, its remaining entries have length 0.
    """

    tokens: Int[np.ndarray, "B R L"]
    """New tokens, including the end token; -1 is padding."""
    lengths: Int[np.ndarray, "B R"]
    """Number of new tokens; 0 if there is no such hypothesis."""
    log_prob: Float[np.ndarray, "B R"]
    """Natural logarithm of the probability of all new tokens, nats."""
    score: Float[np.ndarray, "B R"]
    """The score that ranks the hypotheses."""
    token_log_prob: Float[np.ndarray, "B R L"]
    """Log-probability of each token given the tokens before it, nats; 0 in the padding."""
    finished: Bool[np.ndarray, "B R"]
    """True for hypotheses that ended with an end token; all of them if there are no end tokens."""
    work: Work
    """Exact counts of the work that the search did."""
    names: Mapping[int, str]
    """Words of the tokens that occur; empty if the model has no vocabulary."""
    certificate: Certificate
    """A bound on every hypothesis that was not returned."""
    trace: Trace | None = None
    """The search tree, if ``trace=True`` was passed."""
    notes: tuple[str, ...] = ()
    """Warnings about the model's scores, and about settings that were ignored."""
    problem_origin: InitVar[Origin] = NOWHERE
    """The origin, for the constructor. A copy by ``dataclasses.replace`` has no origin, because a
    changed answer must be scored again."""
    origin: Origin = field(init=False, repr=False)
    """Identifies the problem within this process; not saved."""

    def __post_init__(self, problem_origin: Origin):
        object.__setattr__(self, "origin", problem_origin)

    @cached_property
    def settings(self) -> SearchSettings:
        """The settings of the search.

        Raises:
            InputError: the protocol is not that of a search.
        """
        return settings_from(self.protocol.settings)

    def hypotheses(self, item: int = 0, most: int | None = None) -> tuple[Hypothesis, ...]:
        """Return the hypotheses of one item, best first.

        Args:
            item: index of the prompt, from 0.
            most: largest number of hypotheses to return; ``None`` for all.

        Raises:
            InputError: there is no such item, or ``most`` is below 1.
        """
        item = item_of(item, len(self.lengths))
        most = checks.optional_whole_number(most, "most", least=1)
        hypotheses = []
        for r in np.flatnonzero(self.lengths[item])[:most]:
            tokens = tuple(self.tokens[item, r, : self.lengths[item, r]].tolist())
            hypothesis = Hypothesis(
                tokens=tokens,
                words=tuple(self.names.get(token, str(token)) for token in tokens),
                log_prob=float(self.log_prob[item, r]),
                score=float(self.score[item, r]),
                finished=bool(self.finished[item, r]),
            )
            hypotheses.append(hypothesis)
        return tuple(hypotheses)

    @property
    def verdict(self) -> Verdict:
        """The best hypothesis of a single prompt and its certificate; for many prompts, counts."""
        search = self.settings.name
        notes = as_clause(self.notes)
        if len(self.lengths) > 1:
            prompts = f"{len(self.lengths)} prompts"
            return Verdict(f"{search} decoded {prompts}; {self.certificate}{notes}")
        if not self.lengths.any():
            return Verdict(f"{search} found no sequence with a probability above zero{notes}")
        best = self.hypotheses()[0]
        answer = f"“{' '.join(best.words)}” with log-probability {decimals(best.log_prob, '.2f')}"
        return Verdict(f"{search} returns {answer}; {self.certificate}{notes}")

    def table(self) -> "pd.DataFrame":
        """Return one row per hypothesis: ``log_prob`` in nats, ``length`` in new tokens."""
        import pandas as pd

        rows = [
            {
                "item": item,
                "rank": r + 1,
                "text": " ".join(hypothesis.words),
                "log_prob": hypothesis.log_prob,
                "score": hypothesis.score,
                "length": len(hypothesis.tokens),
                "finished": hypothesis.finished,
            }
            for item in range(len(self.lengths))
            for r, hypothesis in enumerate(self.hypotheses(item))
        ]
        return pd.DataFrame(
            rows, columns=["item", "rank", "text", "log_prob", "score", "length", "finished"]
        )

    def drawing(self, item: int = 0) -> Drawing:
        """Return the search tree of one item if it was traced, else each hypothesis by token."""
        item = item_of(item, len(self.lengths))
        hypotheses = self.hypotheses(item)
        if self.trace is not None:
            answer = hypotheses[0].tokens if hypotheses else ()
            paths = {"the search's answer": answer}
            title = "What the beam kept, and what it pruned"
            return tree_drawing(self.trace, item, paths, title=title)
        x = np.arange(1, self.tokens.shape[2] + 1)
        traces = []
        for rank, hypothesis in enumerate(hypotheses[:MOST_LINES], 1):
            length = len(hypothesis.tokens)
            text = " ".join(hypothesis.words)
            text = text if len(text) < 40 else text[:39] + "…"
            trace = line(
                x,
                self.token_log_prob[item, rank - 1, :length].cumsum(),
                name=plain(f"{rank}: {text}"),
                text=[plain(word) for word in hypothesis.words],
                mode="lines+markers",
                hovertemplate="%{text} %{y:.2f}",
            )
            traces.append(trace)
        drawing = new_drawing(
            "Each hypothesis, token by token", "token", "log-probability so far / nats"
        )
        return extended(drawing, traces)


def item_of(item: Any, batch: int) -> int:
    """Return the index of a prompt, checked to lie between 0 and ``batch - 1``."""
    return checks.whole_number(item, "item", least=0, most=batch - 1)


def as_clause(notes: tuple[str, ...]) -> str:
    """Return notes in the form in which they follow a verdict.

    >>> as_clause(("the end token 2 is ignored",)), as_clause(())
    ('; note: the end token 2 is ignored', '')
    """
    return "".join(f"; note: {note}" for note in notes)


def changed(decoded: Decoded, **fields: Any) -> Decoded:
    """Return a copy with some fields replaced and the same origin."""
    return replace(decoded, problem_origin=decoded.origin, **fields)
