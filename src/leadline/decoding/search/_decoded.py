"""What a search returns: hypotheses, their scores, and what is known about the ones that it did not return."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from leadline import checks
from leadline.decoding.judging._origin import NOWHERE, Origin, origin
from leadline.decoding.models._problem import Model
from leadline.decoding.search._certificate import Certificate, certify
from leadline.decoding.search._trace import Trace
from leadline.decoding.search._tree_drawing import tree_drawing
from leadline.decoding.search._work import Work
from leadline.figures import Drawing, extended, line, new_drawing, plain
from leadline.sounding import Protocol, Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


MOST_LINES = 7
"""Hypotheses that are drawn token by token."""


@dataclass(frozen=True)
class Hypothesis:
    """One decoded sequence."""

    tokens: tuple[int, ...]
    """The new tokens, the end token included."""
    words: tuple[str, ...]
    """Their names; their numbers, where the model has no vocabulary."""
    log_prob: float
    """Nats."""
    score: float
    finished: bool
    """Whether it ended by itself. Without an end token, ``max_length`` is the end."""

    def __str__(self) -> str:
        return f"{' '.join(self.words)} {decimals(self.log_prob, '.2f')}"


@record("decoding.Decoded")
@dataclass(frozen=True, eq=False)
class Decoded(Sounding):
    """The best hypotheses of each prompt, B items with up to R hypotheses of up to L tokens, best first.

    Complete is what ends with an end token or has ``max_length`` tokens. An item with fewer than R hypotheses has
    length 0 in the places that are left.
    """

    tokens: Int[np.ndarray, "B R L"]
    """New tokens, end token included; -1 behind a hypothesis' end."""
    lengths: Int[np.ndarray, "B R"]
    """New tokens of each; 0: there is no such hypothesis."""
    log_prob: Float[np.ndarray, "B R"]
    """Natural logarithm of the probability of all new tokens."""
    score: Float[np.ndarray, "B R"]
    """What the hypotheses were compared by."""
    token_log_prob: Float[np.ndarray, "B R L"]
    """Of each token given those before it; 0 behind the end."""
    finished: Bool[np.ndarray, "B R"]
    """Ended with an end token; without end tokens, has ``max_length`` tokens."""
    work: Work
    names: Mapping[int, str]
    """Words of the tokens that occur, where the model has a vocabulary."""
    certificate: Certificate
    trace: Trace | None = None
    notes: tuple[str, ...] = ()
    """Remarks that belong to the answer: rows that are not log-probabilities, settings that are ignored."""
    origin: Origin = field(default=NOWHERE, init=False, repr=False)
    """The problem that was searched, as far as this process knows it; not saved."""

    def hypotheses(self, item: int = 0, most: int | None = None) -> tuple[Hypothesis, ...]:
        """The hypotheses of one item, best first; none is padding.

        Args:
            item: number of the prompt.
            most: hypotheses to return at most; ``None`` for all.
        """
        item = item_of(item, len(self.lengths))
        most = checks.optional_whole_number(most, "most", least=1)
        found = []
        for r in np.flatnonzero(self.lengths[item])[:most]:
            tokens = tuple(self.tokens[item, r, : self.lengths[item, r]].tolist())
            words = tuple(self.names.get(token, str(token)) for token in tokens)
            log_prob, score = float(self.log_prob[item, r]), float(self.score[item, r])
            found.append(Hypothesis(tokens, words, log_prob, score, bool(self.finished[item, r])))
        return tuple(found)

    @property
    def verdict(self) -> Verdict:
        """The first item's best hypothesis and what is known about it."""
        search = self.protocol.settings.get("search", "search")
        proof = f"; {self.certificate}{as_clause(self.notes)}"
        if len(self.lengths) > 1:
            return Verdict(f"{search} decoded {len(self.lengths)} prompts{proof}")
        if not self.lengths.any():
            return Verdict(
                f"{search} found no sequence with a probability above zero{as_clause(self.notes)}"
            )
        best = self.hypotheses()[0]
        return Verdict(
            f"{search} returns “{' '.join(best.words)}” with log-probability {decimals(best.log_prob, '.2f')}{proof}"
        )

    def table(self) -> "pd.DataFrame":
        """One row per hypothesis; ``log_prob`` in nats, ``length`` in new tokens."""
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
    """The number of a prompt, from 0."""
    return checks.whole_number(item, "item", least=0, most=batch - 1)


def as_clause(notes: tuple[str, ...]) -> str:
    """Notes as they follow a verdict.

    >>> as_clause(("the end token 2 is ignored",)), as_clause(())
    ('; note: the end token 2 is ignored', '')
    """
    return "".join(f"; note: {note}" for note in notes)


def changed(decoded: Decoded, **fields: Any) -> Decoded:
    """A copy with other fields, and the same origin."""
    copy = replace(decoded, **fields)
    object.__setattr__(copy, "origin", decoded.origin)
    return copy


def conclude(
    model: Model,
    found: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    discarded: np.ndarray,
    reason: str = "",
    unknown: np.ndarray | None = None,
    trace: Trace | None = None,
) -> Decoded:
    """The result of a search from what it found.

    Args:
        model: the step function, whose work was counted.
        found: the array fields from ``tokens`` to ``finished``.
        settings: how the search was run.
        discarded: bounds on what was discarded, see :func:`~leadline.decoding.search._certificate.certify`.
        reason: why they do not hold, if they do not.
        unknown: the items for which they do not hold; all, if left out.
        trace: the search tree, if it was recorded.
    """
    names = model.names(set(np.unique(found["tokens"]).tolist()) - {-1})
    decoded = Decoded(
        protocol=Protocol(settings, seeds=(settings["seed"],) if "seed" in settings else ()),
        **found,
        work=model.meter.read(),
        names={**names, **(trace.names if trace else {})},
        certificate=certify(found["score"], discarded, reason, unknown),
        trace=trace,
        notes=_notes(model, settings),
    )
    object.__setattr__(decoded, "origin", origin(*model.problem))
    return decoded


def _notes(model: Model, settings: Mapping[str, Any]) -> tuple[str, ...]:
    notes = [model.uneven] if model.uneven else []
    ends = getattr(model.step, "eos", ())
    if isinstance(ends, tuple) and ends and not settings["eos"]:
        named = ", ".join(map(str, ends))
        notes.append(f"the model's end tokens ({named}) are ignored, as eos is None")
    ignored = getattr(model.step, "ignored", ())
    return (*notes, *(ignored if isinstance(ignored, tuple) else ()))
