"""An audited search, step by step: what the beam held, and whether the most likely sequence was still in it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadline import checks
from leadline.decoding.judging._audit import SearchAudit
from leadline.decoding.search._decoded import item_of
from leadline.decoding.search._trace import Trace
from leadline.errors import InputError
from leadline.sounding import Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SAID = 4
"""Hypotheses of a beam that a verdict spells out."""


@record("decoding.Walk")
@dataclass(frozen=True, eq=False)
class Walk(Sounding):
    """The search of one item as it stood after one of its steps."""

    audit: SearchAudit
    step: int
    """0: before the first."""
    item: int

    @property
    def trace(self) -> Trace:
        """Of the whole search, of this item alone."""
        trace = self.audit.traces[self.item]
        assert trace is not None  # walk() has made sure
        return trace

    @property
    def steps(self) -> int:
        """Steps of the whole search."""
        return int(self.trace.step.max(initial=0))

    @property
    def verdict(self) -> Verdict:
        """What the beam holds, and what has become of the most likely sequence; at the end, the audit's verdict."""
        if self.step == 0:
            return Verdict(
                f"before the first of {self.steps} steps, the beam holds the start alone"
            )
        beam = self.trace.beam(self.step)
        held = ", ".join(
            f"“{' '.join(node.words)}” ({decimals(node.log_prob, '.2f')})" for node in beam[:SAID]
        )
        held += f" and {len(beam) - SAID} more" if len(beam) > SAID else ""
        pruned = len(self.trace.candidates(self.step)) - len(beam)
        said = f"after step {self.step} of {self.steps}, the beam holds {held or 'nothing'}; {pruned} pruned"
        return Verdict(said + self._loss())

    def _loss(self) -> str:
        if self.step == self.steps and len(self.audit.outcome) == 1:
            return f"; {self.audit.verdict}"
        lost = int(self.audit.lost_step[self.item])
        if not 0 < lost <= self.step:
            return ""
        best = f"{self.audit.praise(self.item)} sequence"
        if lost < self.step:
            return f"; {best} was lost at step {lost}"
        rank = int(self.audit.lost_rank[self.item])
        prefix = " ".join(self.audit.optimum.hypotheses(self.item)[0].words[:lost])
        return f"; {best}, which begins with “{prefix}”, is lost here" + (
            f" at rank {rank}" if rank else ""
        )

    def table(self) -> "pd.DataFrame":
        """One row per candidate that was considered so far; ``log_prob`` in nats."""
        table = self.trace.table()
        return table[table["step"] <= self.step].assign(item=self.item)

    def figure(self) -> "go.Figure":
        """The search tree so far; every node stands where it will stand in the whole tree."""
        from leadline.decoding.figure import draw_audit

        return draw_audit(self.audit, self.item, self.step)


def walk(audit: SearchAudit, step: int, item: int) -> Walk:
    """See :meth:`~leadline.decoding.judging._audit.SearchAudit.at`."""
    item = item_of(item, len(audit.outcome))
    trace = audit.traces[item]
    if trace is None:
        raise InputError(
            "a walk needs the trace of its search",
            got=f"item {item} was not searched again",
            cause="it had no search error among several items, or the budget of calls is smaller than one search",
            cure="audit the item alone, or with more max_calls",
        )
    steps = int(trace.step.max(initial=0))
    step = checks.whole_number(step, "step")
    if not 0 <= step <= steps:
        raise InputError(f"this search has steps 0 to {steps}", got=f"step = {step}")
    return Walk(audit.protocol, audit, step, item)
