"""Counts of the work that a search does."""

from dataclasses import dataclass

from leadline.storage import record


@record("decoding.Work")
@dataclass(frozen=True)
class Work:
    """Exact counts of the work of one search, over all items of the batch."""

    calls: int
    """Calls of the step function."""
    rows: int
    """Rows of the model's batches, summed over the calls."""
    candidates: int
    """Next tokens that were scored: rows times vocabulary size."""
    ranked: int
    """Candidates that were ranked, after the best of each row had been taken."""
    state_bytes: int
    """Bytes of state that were copied because hypotheses changed rows."""


@dataclass
class Meter:
    """Counters of a running search."""

    calls: int = 0
    rows: int = 0
    candidates: int = 0
    ranked: int = 0
    state_bytes: int = 0

    def called(self, num_rows: int, M: int) -> None:
        """Count one call of the step function.

        Args:
            num_rows: number of rows of the batch.
            M: vocabulary size.
        """
        self.calls += 1
        self.rows += num_rows
        self.candidates += num_rows * M

    def read(self) -> Work:
        """Return the counts so far."""
        return Work(self.calls, self.rows, self.candidates, self.ranked, self.state_bytes)
