"""A step function that is called with checks, with counts of its work, and without gradients."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline.decoding.problem._problem import Problem, call_step, check_start, describe
from leadline.decoding.problem._reader import MASKED
from leadline.decoding.problem._state import check_state, map_leaves, nbytes, select
from leadline.decoding.problem._work import Meter
from leadline.errors import InputError

_NO_CONTEXT = nullcontext()

UNEVEN = 0.02
"""Largest allowed distance between 1 and the sum of a row's probabilities. It is more than the
rounding of 16-bit log-probabilities."""


class Model:
    """A step function with checked results and counted work; it runs without gradients.

    Args:
        problem: the step function with its state and start tokens.
        normalize: True if scores are logits; ``None`` follows ``step.normalized``.

    Raises:
        InputError: the start tokens or the state do not fit. A call raises it if the step function
            breaks the protocol.
    """

    def __init__(self, problem: Problem, normalize: bool | None = None):
        self.step, state, self.start = problem
        self.problem = problem
        check_start(self.start)
        self.batch = len(self.start)
        check_state(state, self.batch)
        self.state = select(state, torch.arange(self.batch, device=self.start.device))
        self.are_logits = (
            not getattr(self.step, "normalized", False) if normalize is None else normalize
        )
        self.meter = Meter()
        self.M: int | None = None
        self.uneven = ""
        """A note on the first row of log-probabilities that did not sum to 1; empty if none."""

    def __call__(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return scores of shape (N, M), float32 or float64, and the new state."""
        num_rows = tokens.shape[0]
        with torch.no_grad() if torch.is_grad_enabled() else _NO_CONTEXT:
            scores, state = call_step(self.step, tokens, state)
        self._check_scores(scores, num_rows)
        check_state(state, num_rows)
        self.meter.called(num_rows, scores.shape[1])
        if scores.requires_grad:
            scores = scores.detach()
        if scores.dtype not in (torch.float32, torch.float64):
            scores = scores.float()
        if not self.are_logits and not self.uneven:
            # Summing a row costs a pass over it, so only calls 1, 2, 4, 8 and so on are checked.
            is_power_of_two = not self.meter.calls & (self.meter.calls - 1)
            if is_power_of_two:
                self._check_sums(scores)
        return scores, state

    def _check_sums(self, scores: Tensor) -> None:
        """Note a row of log-probabilities whose probabilities do not sum to 1."""
        if getattr(self.step, "sums_are_given", False):
            return
        sums = scores.exp().sum(dim=1)
        is_wrong = sums > 1 + UNEVEN
        is_low = sums < 1 - UNEVEN
        if is_low.any():
            # A row with masked tokens may sum to less than 1.
            is_wrong |= is_low & (scores.amin(dim=1) > MASKED)
        if is_wrong.any():
            total = float(sums[is_wrong][0])
            self.uneven = (
                "the step function's rows are not log-probabilities "
                f"(the probabilities of one sum to {total:.3g})"
            )

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Return a context for many calls: inference mode if the step function allows it.

        Entering a context once for each call would take longer than checking the result.
        """
        if getattr(self.step, "inference", None) is True:
            return torch.inference_mode()
        return torch.no_grad()

    def select(self, state: Any, index: Tensor) -> Any:
        """Return a copy of some rows of a state, and count the bytes moved."""
        state = select(state, index)
        self.meter.state_bytes += nbytes(state)
        return state

    def reorder(self, state: Any, index: list[int]) -> Any:
        """Return some rows of a state that is not used again; leaves may be changed in place."""

        def reordered(leaf: Any) -> Any:
            if not hasattr(leaf, "reorder"):
                return self.select(leaf, as_tensor(index, self.start))
            leaf, written = leaf.reorder(index)
            self.meter.state_bytes += written
            return leaf

        return map_leaves(reordered, state)

    def names(self, tokens: Any) -> dict[int, str]:
        """Return the names of tokens; empty if the step function has no vocabulary."""
        vocabulary = getattr(self.step, "vocabulary", None)
        if vocabulary is None:
            return {}
        return {int(token): str(vocabulary[int(token)]) for token in tokens}

    def _check_scores(self, scores: Tensor, num_rows: int) -> None:
        if not isinstance(scores, Tensor) or scores.ndim != 2 or not scores.is_floating_point():
            raise InputError(
                "step must return scores of shape (N, M), floating point",
                got=describe(scores),
                cause="the time axis was kept, or the state and the scores were swapped",
                cure="return (scores[:, -1], state)",
            )
        if scores.is_meta:
            raise InputError(
                "step must return scores that hold numbers",
                got="scores on the meta device",
                cure="build the model on a device that computes",
            )
        if scores.layout is not torch.strided:
            raise InputError(
                "step must return dense scores",
                got=f"scores of layout {scores.layout}",
                cure="return (scores.to_dense(), state)",
            )
        call = self.meter.calls + 1
        if scores.shape[0] != num_rows:
            raise InputError(
                "step must return one row of scores for each token that it receives",
                got=f"{len(scores)} rows for {num_rows} tokens, at call {call}",
                cause="the step function keeps the batch size of an earlier call",
                cure="take the number of rows from the tokens at every call",
            )
        if not scores.shape[1]:
            raise InputError(
                "step must return the scores of a token or more",
                got=f"scores of shape {tuple(scores.shape)}",
            )
        if self.M is not None and scores.shape[1] != self.M:
            raise InputError(
                "step must return scores of the same vocabulary size at every call",
                got=f"M = {scores.shape[1]} at call {call}, M = {self.M} before",
                cure="mask forbidden tokens with -inf or with a processor, and keep M",
            )
        self.M = scores.shape[1]


def as_tensor(numbers: list[int], like: Tensor) -> Tensor:
    """Return whole numbers as an int64 tensor on the device of ``like``.

    This takes half the time of ``torch.tensor``.
    """
    tensor = torch.from_numpy(np.array(numbers))
    return tensor if like.is_cpu else tensor.to(like.device)
