"""Was the answer the most likely sequence? If not: where was it lost, and which width would have kept it?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from leadline.decoding.beam import beam_search
from leadline.decoding.candidates import Reader
from leadline.decoding.decoded import Decoded
from leadline.decoding.exact import SAME, exact_search
from leadline.decoding.problem import Model, Problem, Step, select
from leadline.decoding.scores import SumLogProb
from leadline.decoding.settings import check_counts
from leadline.decoding.trace import Fate, Node, Trace
from leadline.errors import InputError
from leadline.sounding import Protocol, Sounding, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from leadline.decoding.walk import Walk

Finding = Literal["optimal", "search error", "unresolved"]
Blame = Literal["none", "search", "model"]


@dataclass(frozen=True, eq=False)
class SearchAudit(Sounding):
    """Whether each answer of a search was the best there is, and what became of the best where it was not."""

    decoded: Decoded
    """What was audited."""
    optimum: Decoded
    """What exact search found, with its certificate."""
    outcome: tuple[Finding, ...]
    """Per item; ``unresolved`` where the budget ran out before either was shown."""
    lost_step: np.ndarray
    """Shape (B,). The step after which the optimum's prefix was no longer in the beam; 0 where none was lost. With
    ``eos_mode="in_beam"`` it may come after the optimum's end: complete hypotheses can lose their places."""
    lost_rank: np.ndarray
    """Shape (B,). Its rank among that step's candidates; 0 where unknown."""
    width: np.ndarray
    """Shape (B,). The smallest width whose beam search returns the optimum; 0 where unknown."""
    blame: tuple[Blame, ...]
    """Per item, where a reference was given: ``none`` (it was returned), ``search`` or ``model``."""
    traces: tuple[Trace | None, ...]
    """The audited search of each item with an error, run again with its trace."""

    def praise(self, item: int = 0) -> str:
        """What is known of the sequence that exact search found: it is the most likely, or the best by another score;
        or a better one than the answer, where the budget ran out before more was proved."""
        if self.optimum.certificate.outcome[item] == "GAP":
            return "a better"
        return "the most likely" if self.optimum.protocol.settings["score"] == SumLogProb() else "the best"

    @property
    def verdict(self) -> Verdict:
        """The finding for one prompt, or the counts for many."""
        search, B = self.decoded.protocol.settings["search"], len(self.outcome)
        if B > 1:
            counts = ", ".join(
                f"{self.outcome.count(name)} {name}" for name in ("optimal", "search error", "unresolved")
            )
            return Verdict(f"{search} on {B} prompts: {counts}")
        answer, optimum = _say(self.decoded), _say(self.optimum)
        if self.optimum.certificate.outcome[0] == "NO_SEQUENCE":
            return Verdict(f"{search} was right to return nothing: no sequence has a probability above zero")
        if self.outcome[0] == "optimal":
            return Verdict(f"{search} returned {self.praise()} sequence, “{answer}”")
        if self.outcome[0] == "unresolved":
            gap = self.optimum.certificate.gap[0]
            return Verdict(f"the budget ran out: the answer of {search} is at most {gap:.3g} nats from the best")
        where = f", lost at step {self.lost_step[0]}" if self.lost_step[0] else ""
        where += f" at rank {self.lost_rank[0]}" if self.lost_rank[0] else ""
        keeps = f"; width {self.width[0]} keeps it" if self.width[0] else ""
        praise = self.praise() + (" one" if self.praise() == "a better" else "")
        return Verdict(f"{search} returned “{answer}”; {praise} is “{optimum}”{where}{keeps}")

    def table(self) -> "pd.DataFrame":
        """One row per prompt; scores in nats (or in the units of the score)."""
        import pandas as pd

        answer, answer_score = _best(self.decoded)
        optimum, optimum_score = _best(self.optimum)
        return pd.DataFrame(
            {
                "item": range(len(self.outcome)),
                "outcome": self.outcome,
                "answer": answer,
                "answer_score": answer_score,
                "optimum": optimum,
                "optimum_score": optimum_score,
                "lost_step": self.lost_step,
                "lost_rank": self.lost_rank,
                "width": self.width,
            }
        )

    def at(self, step: int, item: int = 0) -> "Walk":
        """The search of one item as it stood after a step; 0 is its start.

        Raises:
            InputError: there is no such step, or that item's search was not run again with its trace.
        """
        from leadline.decoding.walk import walk

        return walk(self, step, item)

    def figure(self, item: int = 0) -> "go.Figure":
        """The search tree of one item, with the optimum and where it was lost."""
        from leadline.decoding.figure import draw_audit

        return draw_audit(self, item)


def audit(
    step: Step,
    state: Any,
    start: Tensor,
    decoded: Decoded,
    *,
    max_calls: int | None = None,
    max_width: int = 64,
    tolerance: float = SAME,
    reference: Sequence[Sequence[int]] | None = None,
) -> SearchAudit:
    """Search exactly from the answer of an earlier search upward, and explain what that search missed.

    Args:
        step: the step function that was searched.
        state: its state at the end of the prompts.
        start: the last token of each prompt, shape (B,), int64.
        decoded: the answer to audit; its settings say how it was found. Step, rank and width are those of beam search
            and greedy search.
        max_calls: budget of calls for the exact search of each item, and again for the searches that are run to find
            where the optimum was lost and which width keeps it. What it does not reach is 0: unknown.
        max_width: widths that are tried when looking for one that returns the optimum.
        tolerance: relative difference of scores that counts as none.
        reference: per item, the tokens that should have been returned, end token included. Each is then charged to
            the search (it scores more than the answer) or to the model (it does not).

    Returns:
        Per item: is the answer the optimum; if not, the step, the rank and the width.

    Raises:
        InputError: the answer is a sample, or to other prompts; a reference is not a complete sequence; or as
            :func:`~leadline.decoding.exact.exact_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> print(decoding.audit(*table.problem(), decoding.greedy(*table.problem(), max_length=2)))
    greedy search returned “a a”; the most likely is “b a”, lost at step 1 at rank 2; width 2 keeps it
    """
    settings = dict(decoded.protocol.settings)
    check_counts(max_width=max_width)
    if "num" in settings:
        raise InputError(
            "an audit asks what a search has missed, and a sample is not searched for",
            got=f"an answer by {settings['search']}",
            cure="exact_search(..., at_least=sample) tells the best sequence, if it is not among the sample",
        )
    if reference is not None:
        _check_reference(reference, settings, len(start))
    common = {"max_length": settings["max_length"], "eos": settings["eos"], "normalize": settings["normalize"]}
    scored = {"score": settings["score"]} if "score" in settings else {}
    optimum = exact_search(step, state, start, **common, **scored, max_calls=max_calls, at_least=decoded)
    found: list[Finding] = [_compare(decoded, optimum, item, tolerance) for item in range(len(start))]
    lost, traces = np.zeros((3, len(start)), dtype=np.int64), []
    for item in range(len(start)):
        one = torch.tensor([item], device=start.device)
        problem = Problem(step, select(state, one), start[one])
        traces.append(None)
        is_traced = settings["search"] in ("beam search", "greedy search")
        if not is_traced or (found[item] != "search error" and len(start) > 1):
            continue
        width = settings.get("width", 1)
        beam = {"eos_mode": settings.get("eos_mode", "pool"), **common, **scored}
        runs = max_width + 2 if max_calls is None else max_calls // settings["max_length"]
        if not runs:
            continue
        again = beam_search(*problem, width=width, trace=True, **beam)
        traces[-1] = again.trace
        if found[item] == "search error" and again.trace is not None:
            target = optimum.hypotheses(item)[0].tokens
            lost[:2, item] = _where_lost(problem, again, target, may_run=runs > 1)
            widths = [w for w in range(1, max_width + 1) if w != width][: max(0, runs - 2)]
            lost[2, item] = _width_for(problem, target, widths, beam)
    return SearchAudit(
        protocol=Protocol({**settings, "max_calls": max_calls, "max_width": max_width}),
        decoded=decoded,
        optimum=optimum,
        outcome=tuple(found),
        lost_step=lost[0],
        lost_rank=lost[1],
        width=lost[2],
        blame=_blame(Problem(step, state, start), decoded, reference) if reference is not None else (),
        traces=tuple(traces),
    )


def _compare(decoded: Decoded, optimum: Decoded, item: int, tolerance: float) -> Finding:
    answer, best = decoded.hypotheses(item)[:1], optimum.hypotheses(item)[:1]
    if best and (not answer or best[0].score > answer[0].score + tolerance * (1 + abs(answer[0].score))):
        return "search error"
    return "optimal" if optimum.certificate.outcome[item] in ("OPTIMAL", "NO_SEQUENCE") else "unresolved"


def _check_reference(reference: Sequence[Sequence[int]], settings: dict[str, Any], batch: int) -> None:
    if len(reference) != batch or not all(len(tokens) for tokens in reference):
        raise InputError(
            "a reference has one sequence of one token or more for each item",
            got=f"{len(reference)} sequences for {batch} items",
        )
    for item, tokens in enumerate(reference):
        ends = [t for t, token in enumerate(tokens, 1) if token in settings["eos"] or t == settings["max_length"]]
        if ends[:1] != [len(tokens)]:
            raise InputError(
                f"a reference is complete: its last token, and no other, is an end token or token number "
                f"{settings['max_length']} (max_length)",
                got=f"{list(tokens)} for item {item}, end tokens {list(settings['eos'])}",
                cause="the end token was left out" if not ends else "it goes on behind its end",
            )


def _blame(problem: Problem, decoded: Decoded, reference: Sequence[Sequence[int]]) -> tuple[Blame, ...]:
    """A reference that scores more than the answer was missed by the search; else the model prefers the answer."""
    settings, blame = decoded.protocol.settings, []
    for item, tokens in enumerate(reference):
        answer = decoded.hypotheses(item)[:1]
        if answer and answer[0].tokens == tuple(tokens):
            blame.append("none")
            continue
        one = torch.tensor([item], device=problem.start.device)
        model = Model(Problem(problem.step, select(problem.state, one), problem.start[one]), settings["normalize"])
        last, state, total = model.start, model.state, 0.0
        for token in tokens:
            scores, state = model(last, state)
            if not 0 <= token < scores.shape[1]:
                raise InputError(
                    "a reference is made of tokens of the vocabulary",
                    got=f"token {token} for item {item}, vocabulary of {scores.shape[1]} tokens",
                )
            total += float(Reader(model.are_logits).all(scores)[0, token])
            last = torch.full_like(last, token)
        score = settings.get("score", SumLogProb())(total, len(tokens))
        blame.append("search" if not answer or score > answer[0].score else "model")
    return tuple(blame)


def _where_lost(problem: Problem, again: Decoded, target: tuple[int, ...], may_run: bool) -> tuple[int, int]:
    """Step and rank at which the target was first missing from the beam; a rank may need the model."""
    trace, settings = again.trace, again.protocol.settings
    assert trace is not None
    score, width = settings["score"], settings["width"]
    held: list[tuple[float, tuple[int, ...]]] = []  # complete hypotheses that keep their places ("in_beam"), best first
    for t in range(1, int(trace.step.max(initial=0)) + 1):
        nodes = trace.candidates(t)
        keys = np.array([score(node.log_prob, t) for node in nodes])
        places = [place + int((keys > key).sum()) + 1 for place, (key, _) in enumerate(held)]
        if t <= len(target):
            node = next((node for node in nodes if node.tokens == target[:t]), None)
            if node is None or node.fate is Fate.PRUNED:
                # Each hypothesis' best width + end tokens + 1 are known: ranks further behind may be too good.
                if node is not None and node.rank <= width + len(settings["eos"]) + 1:
                    return t, node.rank
                rank = _rank(problem, trace.beam(t - 1), target[:t], settings["normalize"]) if may_run else None
                return t, 0 if rank is None else rank[0] + sum(key >= score(rank[1], t) for key, _ in held)
        for place, (_, tokens) in zip(places, held, strict=True):
            if tokens == target and place > width:
                return t, place
        if settings["eos_mode"] == "in_beam":
            held = [one for place, one in zip(places, held, strict=True) if place <= width]
            held += [(key, n.tokens) for key, n in zip(keys, nodes, strict=True) if n.fate is Fate.FINISHED]
            held.sort(key=lambda one: -one[0])
    return 0, 0


def _rank(
    problem: Problem, beam: Sequence[Node], prefix: tuple[int, ...], normalize: bool | None
) -> tuple[int, float] | None:
    """Rank and log-probability of a candidate by the model's scores for the whole beam; none without its parent."""
    parents = [(node.tokens, node.log_prob) for node in beam if node.fate is Fate.KEPT]
    if len(prefix) == 1:
        parents = [((), 0.0)]
    tokens_of = [tokens for tokens, _ in parents]
    if prefix[:-1] not in tokens_of:
        return None
    model = Model(problem, normalize)
    scores, state = model(model.start, model.state)
    state = select(state, model.start.new_zeros(len(parents)))
    for tokens in zip(*tokens_of, strict=True):
        scores, state = model(model.start.new_tensor(tokens), state)
    total = Reader(model.are_logits).all(scores).cpu().numpy() + np.array([[upto] for _, upto in parents])
    row, token = tokens_of.index(prefix[:-1]), prefix[-1]
    own = total[row, token]
    ahead = (total > own).sum() + (total[:row] == own).sum() + (total[row, :token] == own).sum()
    return 1 + int(ahead), float(own)


def _width_for(problem: Problem, target: Sequence[int], widths: Sequence[int], beam: dict[str, Any]) -> int:
    """The smallest width that returns the target. It is not monotone: a wider beam may lose what a narrow one kept."""
    for width in widths:
        found = beam_search(*problem, width=width, **beam).hypotheses()
        if found and found[0].tokens == tuple(target):
            return width
    return 0


def _best(decoded: Decoded) -> tuple[list[str], list[float]]:
    first = [decoded.hypotheses(item)[:1] for item in range(len(decoded.lengths))]
    texts = [" ".join(found[0].words) if found else "" for found in first]
    return texts, [found[0].score if found else -np.inf for found in first]


def _say(decoded: Decoded) -> str:
    found = decoded.hypotheses()
    return " ".join(found[0].words) if found else ""
