"""Truncation as a cure: no gradient passes from one segment of timesteps to the one before it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leadline.gradients.cures._cure import Cure, Treatment, Trend, Trial
from leadline.gradients.tracing._entry import Readout
from leadline.gradients.tracing._tape import Tape
from leadline.recurrent import Arithmetic, PullBack, Record


class Truncation(Cure):
    """Cuts backpropagation after each segment of ``window`` timesteps, within a layer's call.

    Reference: Williams & Peng, *An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories*, 1990.
    """

    name = "truncation"

    def treat(self, trial: Trial) -> Treatment:
        """Sweep the recorded pass of the untreated model in segments; nothing is run again."""
        tape = trial.tape
        window = trial.settings.window
        if any(entry.is_loop for entry in tape.calls):
            return Treatment("a hand-written loop is truncated where its states are detached")
        if all(layer.log_total.shape[1] <= window for layer in trial.flow.layers):
            return Treatment(f"no call of a layer is longer than {window} timesteps")
        truncated = _TruncatedTape(tape.model, tape.calls, tape.loops, window=window)
        flow = truncated.gradient_flow(trial.value)
        return Treatment(f"segments of {window} timesteps", flow)

    def against_vanishing(self, trend: Trend) -> str | None:
        """Advise the window beyond which little gradient arrives."""
        if trend.is_lost_at_once:
            return None
        return (
            f"beyond {trend.timesteps_to(100)} timesteps less than 1 % arrives, so truncation "
            "there loses little"
        )

    def against_exploding(self, trend: Trend) -> str | None:
        """Advise the window within which the gradient grows 100-fold."""
        return f"after {trend.timesteps_to(100)} timesteps the gradient has grown 100-fold"


@dataclass(frozen=True, eq=False)
class Truncated(Record):
    """A recorded pass whose adjoint is cut at the beginning of each segment."""

    window: int
    """Timesteps of one segment."""

    def pull_back(self, t: int, rows: Tensor) -> Tensor:
        """Return zero where a segment begins, otherwise the gradient of the state at t - 1."""
        return torch.zeros_like(rows) if t % self.window == 0 else super().pull_back(t, rows)

    def adjoint(self, on: Arithmetic, like: Tensor) -> PullBack:
        """Return the adjoint of the whole pass, but zero where a segment begins."""
        pull_back_uncut = super().adjoint(on, like)

        def pull_back(t: int, rows: Any, out: Any) -> None:
            if t % self.window == 0:
                out[...] = 0
            else:
                pull_back_uncut(t, rows, out)

        return pull_back


@dataclass(eq=False)
class _TruncatedTape(Tape):
    """A tape whose layers are read with truncated records."""

    window: int = 1
    """Timesteps of one segment."""

    def _read(self) -> list[Readout]:
        """Return the states of all entries, with records that are cut into segments."""

        def truncate(record: Record) -> Record:
            return Truncated(
                record.weights, record.h, record.h_before, record.slopes, window=self.window
            )

        return [readout.with_records(truncate) for readout in super()._read()]
