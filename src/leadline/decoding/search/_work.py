"""What a search cost, counted and not timed."""

from dataclasses import dataclass

from leadline.storage import record


@record("decoding.Work")
@dataclass(frozen=True)
class Work:
    """Exact counts of what one search did, over all items of the batch."""

    calls: int
    """Calls of the step function."""
    rows: int
    """Hypotheses that the model saw, summed over the calls."""
    candidates: int
    """Next tokens that were scored: rows times the vocabulary."""
    ranked: int
    """Candidates that were put in order after each row's best were taken."""
    state_bytes: int
    """Bytes of state that were copied because hypotheses changed places."""


@dataclass
class Meter:
    """Counts while a search runs; :meth:`read` freezes the counts."""

    calls: int = 0
    rows: int = 0
    candidates: int = 0
    ranked: int = 0
    state_bytes: int = 0

    def called(self, rows: int, M: int) -> None:
        """One call of the step function with so many rows."""
        self.calls += 1
        self.rows += rows
        self.candidates += rows * M

    def read(self) -> Work:
        """The counts so far."""
        return Work(self.calls, self.rows, self.candidates, self.ranked, self.state_bytes)
