"""Base classes of all searches: they open the model, collect the hypotheses and build the result.

A new search is one class in one file. Searches that extend all live hypotheses token by token
subclass :class:`StepwiseSearch` and define :meth:`StepwiseSearch.advance`. Other searches subclass
:class:`Search` and define :meth:`Search.explore` and :meth:`Search.sequences`.
"""

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from leadline.decoding.answers._certificate import Certificate
from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.answers._settings import SearchSettings
from leadline.decoding.answers._trace import Trace
from leadline.decoding.problem._arguments import check_end_tokens
from leadline.decoding.problem._model import Model, as_tensor
from leadline.decoding.problem._origin import origin
from leadline.decoding.problem._problem import Problem
from leadline.decoding.problem._reader import Reader, refuse_nan
from leadline.decoding.search._hypotheses import History, Numbers, Sequences

Settings = TypeVar("Settings", bound=SearchSettings)
"""The settings of a search, a class of its own for each search."""


class Search(ABC, Generic[Settings]):
    """One run of a search over a problem.

    Args:
        problem: the step function with its state and start tokens.
        settings: the settings, which have been checked.
    """

    def __init__(self, problem: Problem, settings: Settings):
        self.settings = settings
        self.model = Model(problem, settings.normalize)

    def run(self) -> Decoded:
        """Search, and return the hypotheses with their certificate."""
        with self.model.without_gradients():
            self.explore()
        return self.conclude()

    @abstractmethod
    def explore(self) -> None:
        """Search, and keep the complete hypotheses."""

    @abstractmethod
    def sequences(self) -> Sequences:
        """Return the best complete hypotheses of each item."""

    @abstractmethod
    def certificate(self, score: Float[np.ndarray, "B R"]) -> Certificate:
        """Return what is proved about the returned hypotheses.

        Args:
            score: their scores.
        """

    def trace(self) -> Trace | None:
        """Return the search tree, if it was recorded."""
        return None

    def conclude(self) -> Decoded:
        """Build the result from the hypotheses, the certificate and the trace."""
        sequences = self.sequences()
        trace = self.trace()
        names = self.model.names(set(np.unique(sequences.tokens).tolist()) - {-1})
        if trace is not None:
            names |= trace.names
        return Decoded(
            protocol=self.settings.protocol(),
            **{field.name: getattr(sequences, field.name) for field in fields(sequences)},
            work=self.model.meter.read(),
            names=names,
            certificate=self.certificate(sequences.score),
            trace=trace,
            notes=self._notes(),
            problem_origin=origin(*self.model.problem),
        )

    def _notes(self) -> tuple[str, ...]:
        """Remarks on the step function and on settings that were ignored."""
        notes = [self.model.uneven] if self.model.uneven else []
        ends = getattr(self.model.step, "eos", ())
        if isinstance(ends, tuple) and ends and not self.settings.eos:
            tokens = ", ".join(map(str, ends))
            notes.append(f"the model's end tokens ({tokens}) are ignored, as eos is None")
        ignored = getattr(self.model.step, "ignored", ())
        return (*notes, *(ignored if isinstance(ignored, tuple) else ()))


class StepwiseSearch(Search[Settings]):
    """A search that extends all live hypotheses by one token at each step.

    Args:
        problem: the step function with its state and start tokens.
        settings: the settings, which have been checked.
        num_kept: complete hypotheses to keep for each item.
    """

    def __init__(self, problem: Problem, settings: Settings, num_kept: int):
        super().__init__(problem, settings)
        self.history = History(self.model.batch, num_kept)
        self.reader = Reader(self.model.are_logits)

    @abstractmethod
    def advance(self, t: int, scores: Float[Tensor, "N M"]) -> tuple[Numbers, Numbers]:
        """Choose the hypotheses that the next step extends.

        Complete hypotheses go to ``self.history.finish()``, live ones to ``self.history.add()``.

        Args:
            t: the step, from 1 to ``max_length``. All hypotheses of the last step are complete.
            scores: scores of all next tokens, one row for each live hypothesis.

        Returns:
            The parent of each live hypothesis, which is a row of ``scores``, and its last token.
            The search ends when there is no live hypothesis.
        """

    def explore(self) -> None:
        """Call the model and :meth:`advance` until no hypothesis is live."""
        tokens = self.model.start
        state = self.model.state
        for t in range(1, self.settings.max_length + 1):
            scores, state = self.model(tokens, state)
            check_end_tokens(self.settings.eos, scores.shape[1])
            parents, new_tokens = self.advance(t, scores)
            del scores  # The next step can then use the same memory, which is still in the cache.
            if not len(parents):
                break
            tokens, state = self.move(state, parents, new_tokens)

    def move(self, state: Any, parents: Numbers, new_tokens: Numbers) -> tuple[Tensor, Any]:
        """Return the tokens and the state of the hypotheses that the next step extends."""
        tokens = as_tensor(np.asarray(new_tokens).tolist(), self.model.start)
        return tokens, self.model.reorder(state, np.asarray(parents).tolist())

    def log_probs(
        self, scores: Float[Tensor, "N M"], t: int, items: Int[np.ndarray, " N"]
    ) -> Float[np.ndarray, "N M"]:
        """Return the log-probabilities (float64) of all next tokens.

        Args:
            scores: the model's scores.
            t: the step, for errors.
            items: the item of each row, in rising order.

        Raises:
            InputError: a score is NaN or ``+inf``.
        """
        log_prob = self.reader.all(scores).cpu().numpy()
        is_bad = ~(log_prob < np.inf)
        if is_bad.any():
            row = int(is_bad.any(axis=1).argmax())
            item = int(items[row])
            refuse_nan(step=t, item=item, hypothesis=row - int(np.searchsorted(items, item)))
        return log_prob
