"""Beam search: after every step the best ``width`` prefixes survive.

Selection runs on few numbers: each row's best tokens are taken first, then the best of those. What is kept per step is
one backpointer, one token and one log-probability per hypothesis; sequences are rebuilt once, at the end.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from leadline.decoding.candidates import best_tokens, refuse_nan
from leadline.decoding.decoded import Decoded, conclude
from leadline.decoding.history import History
from leadline.decoding.problem import Model, Problem, Step
from leadline.decoding.recorder import Recorder
from leadline.decoding.scores import Score, SumLogProb
from leadline.decoding.settings import EndTokens, check_counts, check_end_tokens, end_tokens
from leadline.errors import InputError

EosMode = Literal["pool", "in_beam"]


def beam_search(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    width: int,
    max_length: int,
    eos: EndTokens = None,
    score: Score = SumLogProb(),  # noqa: B008
    eos_mode: EosMode = "pool",
    num_return: int = 1,
    processors: Sequence[Any] = (),
    normalize: bool | None = None,
    trace: bool = False,
) -> Decoded:
    """The best hypotheses that survive with ``width`` places per item, and a bound on all that did not.

    A hypothesis is complete when it ends with an end token or has ``max_length`` tokens. Candidates are ranked by their
    score at their present length; ties go to the better ranked parent, then to the lower token. A search stops early
    only where nothing that is still open could change its result.

    Args:
        step: see :data:`~leadline.decoding.problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        width: k, hypotheses that survive a step, at least 1.
        max_length: new tokens at most, at least 1.
        eos: the end token or tokens.
        score: what complete hypotheses are compared by.
        eos_mode: ``"pool"``: a hypothesis that ends among the best k leaves its place to the next one;
            ``"in_beam"``: it keeps its place, and may lose it.
        num_return: R, hypotheses to return, at most ``width``.
        processors: masks over the next tokens, see :mod:`leadline.decoding.processors`.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.
        trace: also return the tree of all considered candidates.

    Returns:
        The hypotheses with certificate, work and, if asked for, trace.

    Raises:
        InputError: a setting is out of range, the step function breaks its contract, or its scores are NaN.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> print(decoding.beam_search(*table.problem(), width=2, max_length=2))
    beam search returns “b a” with log-probability -0.90; proved optimal

    Reference: Lowerre, *The Harpy speech recognition system*, 1976.
    """
    check_counts(width=width, max_length=max_length, num_return=num_return)
    if num_return > width:
        raise InputError("num_return is at most the width", got=f"num_return = {num_return}, width = {width}")
    if eos_mode not in ("pool", "in_beam"):
        raise InputError("eos_mode is 'pool' or 'in_beam'", got=f"eos_mode = {eos_mode!r}")
    model = Model(Problem(step, state, start), normalize)
    settings = {
        "search": "beam search",
        "width": width,
        "max_length": max_length,
        "eos": end_tokens(eos),
        "score": score,
        "eos_mode": eos_mode,
        "num_return": num_return,
        "normalize": normalize,
    }
    return _Beam(model, settings, Recorder() if trace else None).run()


class _Beam:
    """One run. A items are still open; item a has W places, and row n of the model is at ``self.place[n]`` of A * W."""

    def __init__(self, model: Model, settings: dict[str, Any], recorder: Recorder | None):
        self.model, self.settings, self.recorder = model, settings, recorder
        self.k, self.T, self.R = settings["width"], settings["max_length"], settings["num_return"]
        self.score: Score = settings["score"]
        self.in_beam = settings["eos_mode"] == "in_beam"
        self.device = model.start.device
        self.eos = torch.tensor(settings["eos"], dtype=torch.int64, device=self.device)
        self.items = torch.arange(model.batch, device=self.device)
        self.total = torch.zeros(model.batch, 1, dtype=torch.float64, device=self.device)
        self.place: Tensor | None = None
        self.history = History(model.batch, self.k if self.in_beam else self.R, self.device)
        self.discarded = torch.full((model.batch, self.T + 1), -torch.inf, dtype=torch.float64, device=self.device)
        self.rises = False

    def run(self) -> Decoded:
        tokens, state = self.model.start, self.model.state
        for t in range(1, self.T + 1):
            scores, state = self.model(tokens, state)
            check_end_tokens(self.settings["eos"], scores.shape[1])
            log_prob, token = best_tokens(scores, self.k + len(self.eos) + 1, self.model.are_logits)
            self._check(log_prob, t)
            rows, tokens = self._advance(t, *self._spread(log_prob, token))
            if not len(rows):
                break
            if not (len(rows) == len(scores) and torch.equal(rows, torch.arange(len(rows), device=self.device))):
                state = self.model.select(state, rows)
        return self._result()

    def _check(self, log_prob: Tensor, t: int) -> None:
        if not (log_prob < torch.inf).all():
            row = int((~(log_prob < torch.inf)).any(1).nonzero()[0])
            place = row if self.place is None else int(self.place[row])
            item, rank = divmod(place, self.total.shape[1])
            refuse_nan(step=t, item=int(self.items[item]), hypothesis=rank)
        if not self.model.are_logits:
            self.rises |= bool((log_prob > 1e-5).any())
            if not self.rises:
                log_prob.clamp_(max=0)

    def _spread(self, log_prob: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates as (A, W * C): totals and tokens, ``-inf`` in empty places."""
        (A, W), C = self.total.shape, log_prob.shape[1]
        if self.place is not None:
            log_prob = log_prob.new_full((A * W, C), -torch.inf).index_copy_(0, self.place, log_prob)
            token = token.new_zeros(A * W, C).index_copy_(0, self.place, token)
        total = self.total.unsqueeze(2) + log_prob.view(A, W, C)
        self.model.meter.ranked += total.numel()
        return total.view(A, -1), token.view(A, -1)

    def _advance(self, t: int, total: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """Rank the candidates; settle what is complete, what lives on and what is lost; rows and tokens to run next."""
        C = total.shape[1] // self.total.shape[1]
        carried, key = 0, total
        if self.in_beam:
            carried = self.k
            key = torch.cat([self.history.score[self.items], self.score(total, t)], dim=1)
            total, token = (torch.cat([x.new_zeros(len(x), carried), x], dim=1) for x in (total, token))
        key, order = key.sort(dim=1, descending=True, stable=True)
        total, token, is_new = total.gather(1, order), token.gather(1, order), order >= carried
        parent = self._rows((order - carried).clamp_(min=0) // C)
        lives = None
        if self.in_beam or t == self.T or self._is_end(token[:, : self.k]).any():
            lives = self._settle(t, key, total, token, parent, is_new)
        elif key.shape[1] > self.k:
            self.discarded[self.items, t - 1] = self.score.bound(total[:, self.k], t, self.T)
        if self.recorder:
            self.recorder.considered(t, self.items, is_new & (key > -torch.inf), total, token, parent)
        if t == self.T:
            return parent[:0, 0], token[:0, 0]
        rows, tokens = self._survivors(t, total, token, parent, lives)
        if self.recorder:
            self.recorder.survived(rows, tokens)
        return rows, tokens

    def _rows(self, place: Tensor) -> Tensor:
        """The model's row at each place (A, S) of the last step."""
        A, W = self.total.shape
        place = place + torch.arange(A, device=self.device).unsqueeze(1) * W
        if self.place is None:
            return place
        row = torch.zeros(A * W, dtype=torch.int64, device=self.device)
        row[self.place] = torch.arange(len(self.place), device=self.device)
        return row[place]

    def _is_end(self, token: Tensor) -> Tensor:
        return torch.isin(token, self.eos) if len(self.eos) else torch.zeros_like(token, dtype=torch.bool)

    def _settle(self, t: int, key: Tensor, total: Tensor, token: Tensor, parent: Tensor, is_new: Tensor) -> Tensor:
        """Put complete hypotheses away; a mask of the ranked candidates that live on."""
        valid = is_new & (key > -torch.inf)
        among = torch.arange(key.shape[1], device=self.device) < self.k
        ends = valid if t == self.T else valid & self._is_end(token)
        finishes, lives = ends & among, valid & ~ends
        lives &= among if self.in_beam else lives.cumsum(1) <= self.k
        lost = torch.where(valid & ~finishes & ~lives, total, -torch.inf).amax(1)
        bound = self.score.bound(lost, t, self.T)
        if self.in_beam:
            bound = torch.maximum(bound, torch.where(~is_new & ~among, key, -torch.inf).amax(1))
            self.history.keep(self.items, (~is_new & among).sum(1))
        self.discarded[self.items, t - 1] = bound
        if finishes.any():
            score = torch.where(finishes, self.score(total, t), -torch.inf)
            self.history.finish(self.items, t, *(x[:, : self.k] for x in (score, total, parent, token)))
        if self.recorder:
            self.recorder.finished(finishes)
        return lives

    def _survivors(
        self, t: int, total: Tensor, token: Tensor, parent: Tensor, lives: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Move on to the hypotheses that live on, in the items that are not done."""
        if lives is not None:
            total = torch.where(lives, total, -torch.inf)
            # The living first, in their order; what follows them is an empty place.
            first = (~lives).sort(dim=1, stable=True)[1]
            total, token, parent = (x.gather(1, first) for x in (total, token, parent))
        total, token, parent = (x[:, : self.k] for x in (total, token, parent))
        if self.recorder:
            self.recorder.in_beam(parent[total > -torch.inf], token[total > -torch.inf])
        goes_on = total[:, 0] > -torch.inf
        if self.score.bounded and not self.rises and (len(self.eos) or self.in_beam):
            bound = self.score.bound(total[:, 0], t + 1, self.T)
            done = self.history.score[self.items, self.R - 1] >= bound
            self.discarded[self.items, self.T] = torch.where(done, bound, -torch.inf)
            goes_on &= ~done
        if not goes_on.all():
            self.items = self.items[goes_on]
            total, token, parent = (x[goes_on] for x in (total, token, parent))
        filled = total > -torch.inf
        if filled.all():
            self.place, self.total = None, total
            rows, tokens, totals = parent.flatten(), token.flatten(), total.flatten()
        else:
            W = int(filled.sum(1).max())
            self.total, filled = total[:, :W], filled[:, :W]
            self.place = filled.flatten().nonzero().squeeze(1)
            rows, tokens, totals = (x[:, :W][filled] for x in (parent, token, total))
        self.history.add(rows, tokens, totals)
        return rows, tokens

    def _result(self) -> Decoded:
        reason = ""
        if self.rises:
            reason = "the step function's scores are above 0, so they are not log-probabilities"
        elif not self.score.bounded:
            reason = f"{type(self.score).__name__} has no bound"
        trace = self.recorder.read(self.model) if self.recorder else None
        found = self.history.read(self.R, self.settings["eos"])
        return conclude(self.model, found, self.settings, discarded=self.discarded, reason=reason, trace=trace)
