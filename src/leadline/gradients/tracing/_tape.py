"""The tape of a forward pass, and the results that can be computed from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError
from leadline.gradients.soundings._gradient_flow import GradientFlow
from leadline.gradients.soundings._influence import Influence, LayerInfluence, with_shared_offsets
from leadline.gradients.soundings._weight_terms import WeightTerms
from leadline.gradients.tracing._chains import check_loops
from leadline.gradients.tracing._entry import Entry, Readout
from leadline.gradients.tracing._hooks import is_recurrent, recording
from leadline.gradients.tracing._influence_sweep import summarise
from leadline.gradients.tracing._loops import Loops
from leadline.gradients.tracing._losses import (
    QUERIES,
    checked_loss,
    checked_model,
    foreign_loss,
    gradients_of,
    sequence_number,
    was_computed_between,
)
from leadline.gradients.tracing._missing_graph import MissingGraph
from leadline.gradients.tracing._snapshot import Sums
from leadline.sounding import Protocol

LEAST_WEIGHT = 0.5
"""Smallest random weight of a loss term; the largest is 1.5, so that every term counts."""

SEPARATION_ROUNDINGS = 1e3
"""Largest difference, in rounding errors, between weighted seeds that count as equal."""


@dataclass(eq=False)
class Tape:
    """The recorded calls of recurrent layers and loops inside a :func:`trace` block.

    Query it after the block, any number of times, but before ``loss.backward()`` frees the graph.

    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.GRU(1, 4, seed=0), seed=0)
    >>> x, y = recurrent.running_average(8, 10, seed=0)
    >>> with gradients.trace(model) as tape:
    ...     terms = recurrent.mse(model(x)[0], y, per_step=True)
    >>> tape.gradient_flow(terms.sum()).layers[0].title, tape.influence(terms).layers[0].title
    ('network[0]', 'network[0]')
    """

    model: nn.Module
    calls: list[Entry] = field(default_factory=list)
    """The recorded calls and loops, in the order in which they began."""
    loops: Loops | None = None
    """The recorder of the states of loops."""
    span: tuple[int, int] = (0, 0)
    """The numbers that autograd gave to the first and the last operation inside the block."""
    sums: Sums | None = None
    """The sums of the model's parameters at the end of the block."""

    def gradient_flow(self, loss: Tensor) -> GradientFlow:
        """Return how much of the gradient of a loss arrives at each hidden state.

        Args:
            loss: a tensor computed from the recorded forward pass. Terms of any shape are summed.

        Returns:
            The flow. The graph is retained, so the tape can be queried again.

        Raises:
            InputError: nothing was recorded, the loss depends on no recorded state, or a layer
                cannot be replayed.
        """
        loss = self._check(loss, "loss")
        with without_autocast(loss):
            total = loss.sum()
            layers = [
                layer
                for readout, gradients in self._reached(total)
                for layer in readout.flows(total, gradients)
            ]
        return GradientFlow(self._protocol(loss), tuple(layers))

    def weight_terms(self, loss: Tensor) -> WeightTerms:
        """Return what each timestep adds to the gradient of the shared weights.

        The term of timestep t is dL/dh_t dh_t/dW; the sum of all terms is dL/dW.

        Args:
            loss: a tensor computed from the recorded forward pass. Terms of any shape are summed.

        Returns:
            The terms of every layer. The graph is retained, so the tape can be queried again.

        Raises:
            InputError: the model has a hand-written loop or a layer with a projection, or
                :meth:`gradient_flow` refuses the loss.
        """
        loss = self._check(loss, "loss")
        with without_autocast(loss):
            layers = [
                layer
                for readout, gradients in self._reached(loss.sum())
                for layer in readout.weight_terms(gradients)
            ]
        return WeightTerms(self._protocol(loss), tuple(layers))

    def influence(self, terms: Tensor, *, per_sample: bool = False, chunk: int = 32) -> Influence:
        """Return how strongly each loss term pulls on each hidden state: ‖dL_k/dh_t‖ for all k, t.

        If the head is local in time, one backward pass and one sweep give the whole matrix; a test
        with random weights decides. Otherwise each term takes a backward pass of its own.

        Args:
            terms: loss terms of shape (K,), or (B, K), which is summed over the batch; usually one
                term for each timestep.
            per_sample: keep the matrix of every sample too, shape (B, K, T).
            chunk: number of terms that are swept together if each takes a backward pass, at least
                1. The memory grows with it.

        Returns:
            The influence on each layer. The graph is retained, so the tape can be queried again.

        Raises:
            InputError: ``terms`` has another shape, ``chunk`` is below 1, or
                :meth:`gradient_flow` refuses the terms.
        """
        per_sample = checks.flag(per_sample, "per_sample")
        chunk = checks.whole_number(chunk, "chunk", least=1)
        terms = checked_loss(terms, "terms")
        if terms.dim() not in (1, 2):
            raise InputError(
                "influence() needs loss terms of shape (K,) or (batch, K)",
                got=f"terms of shape {tuple(terms.shape)}",
                cause="a loss that was reduced to a scalar" if terms.dim() == 0 else None,
                cure="keep one term per timestep: recurrent.mse(..., per_step=True)",
            )
        terms = self._check(terms, "terms")
        terms = terms if terms.dim() == 1 else terms.sum(0)
        with without_autocast(terms):
            readouts = self._read()
            layers = self._sweep_at_once(terms, readouts, per_sample)
            if layers is None:
                layers = self._sweep_in_chunks(terms, readouts, per_sample, chunk)
            layers = with_shared_offsets(layers)
        settings = {"model": type(self.model).__name__, "terms": len(terms)}
        return Influence(Protocol(settings), tuple(layers))

    def _sweep_at_once(
        self, terms: Tensor, readouts: list[Readout], per_sample: bool
    ) -> list[LayerInfluence] | None:
        """Follow all terms in one sweep; return ``None`` if their seeds cannot be separated.

        If each term reaches the top layer at its own timestep only, the gradients of a weighted sum
        of the terms are the weighted gradients of their sum.
        """
        if len(readouts) != 1 or not readouts[0].has_shared_sweep(len(terms)):
            return None
        readout = readouts[0]
        generator = torch.Generator(terms.device).manual_seed(0)
        chances = torch.rand(
            len(terms), generator=generator, device=terms.device, dtype=terms.dtype
        )
        weights = chances + LEAST_WEIGHT
        (gradients,) = self._seeds(terms.sum())
        (weighted_gradients,) = self._seeds((terms * weights).sum())
        seeds = readout.top_seeds(gradients)
        weighted_seeds = readout.top_seeds(weighted_gradients)
        if seeds is None or weighted_seeds is None:
            return None
        by_timestep = weights.to(seeds.dtype)[:, None, None]
        difference = torch.addcmul(weighted_seeds, seeds, by_timestep, value=-1)
        largest_difference = difference.abs().amax((1, 2))
        largest_seed = seeds.abs().amax((1, 2))
        precision = torch.finfo(seeds.dtype)
        tolerance = SEPARATION_ROUNDINGS * precision.eps * largest_seed + precision.tiny
        if not bool((largest_difference <= tolerance).all()):
            return None
        return readout.sweep(seeds, per_sample)

    def _sweep_in_chunks(
        self, terms: Tensor, readouts: list[Readout], per_sample: bool, chunk: int
    ) -> list[LayerInfluence]:
        """Take a backward pass for each term, and sweep ``chunk`` terms together."""
        logs_by_chunk: list[list[np.ndarray]] = []
        for first in range(0, len(terms), chunk):
            seeds = [self._seeds(term) for term in terms[first : first + chunk]]
            logs: list[np.ndarray] = []
            for i, readout in enumerate(readouts):
                logs += readout.log_totals([gradients[i] for gradients in seeds])
            logs_by_chunk.append(logs)
        names = [name for readout in readouts for name in readout.names()]
        logs_by_layer = zip(*logs_by_chunk, strict=True)
        return [
            LayerInfluence(**name, **summarise(np.concatenate(logs), per_sample))
            for name, logs in zip(names, logs_by_layer, strict=True)
        ]

    def _protocol(self, loss: Tensor) -> Protocol:
        """Return the protocol of a query of this loss."""
        return Protocol({"model": type(self.model).__name__, "loss": float(loss.detach().sum())})

    def _reached(self, loss: Tensor) -> list[tuple[Readout, list[Tensor | None]]]:
        """Return the readouts that a scalar loss depends on, and the gradients of their outputs."""
        readouts = self._read()
        seeds = self._seeds(loss)
        return [
            (readout, gradients)
            for readout, gradients in zip(readouts, seeds, strict=True)
            if any(gradient is not None for gradient in gradients)
        ]

    def _read(self) -> list[Readout]:
        """Return the states of all entries."""
        if self.loops is not None:
            check_loops(self.loops.chains)
        return [entry.read() for entry in self.calls]

    def _seeds(self, loss: Tensor) -> list[list[Tensor | None]]:
        """Return the gradients of a scalar loss with respect to the outputs of each entry."""
        outputs = [tensor for call in self.calls for tensor in call.outputs]
        if not any(tensor.requires_grad for tensor in outputs):
            raise self._why_without_graph().refusal()
        gradients = iter(gradients_of(loss, outputs))
        seeds = [[next(gradients) for _ in call.outputs] for call in self.calls]
        if all(gradient is None for by_output in seeds for gradient in by_output):
            raise foreign_loss("a loss that depends on no recorded state")
        for call, by_output in zip(self.calls, seeds, strict=True):
            if any(gradient is not None and _has_nan(gradient) for gradient in by_output):
                raise InputError(
                    f"{QUERIES} need a loss whose gradient contains no NaN",
                    got=f"a gradient that is NaN at the outputs of {call.title}",
                    cause="a loss that is NaN, or has no derivative, such as a square root at 0",
                    cure="check the loss and its inputs",
                )
        return seeds

    def _check(self, loss: Any, name: str) -> Tensor:
        """Return the loss, if it is a tensor with a graph and something was recorded."""
        loss = checked_loss(loss, name)
        if not self.calls and self.loops is not None and self.loops.without_graph is not None:
            raise self.loops.without_graph.refusal()
        if not self.calls:
            raise self._nothing_recorded(loss)
        if not loss.requires_grad:
            if any(tensor.requires_grad for call in self.calls for tensor in call.outputs):
                raise foreign_loss("a loss without a graph")
            raise self._why_without_graph().refusal()
        self._check_weights(loss)
        return loss

    def _check_weights(self, loss: Tensor) -> None:
        """Refuse weights of the loss that have changed without being counted by autograd."""
        changed = [] if self.sums is None else self.sums.changed()
        if not changed:
            return
        try:
            weights = [weight for _, weight in changed]
            gradients = torch.autograd.grad(
                loss.sum(), weights, retain_graph=True, allow_unused=True
            )
        except RuntimeError:
            # Changes that autograd has counted are refused where the gradients are computed.
            return
        names = [
            name
            for (name, _), gradient in zip(changed, gradients, strict=True)
            if gradient is not None
        ]
        if names:
            raise InputError(
                "a tape must be queried before the weights change",
                got=f"{names[0]} has changed since the block",
                cause="a step of an optimiser with fused=True, or an assignment through .data",
                cure="query the tape before the optimiser steps",
            )

    def _why_without_graph(self) -> MissingGraph:
        """Return the first reason why recorded states have no graph."""
        reasons = [entry.without_graph for entry in self.calls]
        if self.loops is not None:
            reasons.append(self.loops.without_graph)
        return next((reason for reason in reasons if reason), MissingGraph.DETACHED)

    def _nothing_recorded(self, loss: Tensor) -> InputError:
        """Return the refusal of a tape without calls."""
        rule = "trace() needs a forward pass inside its block"
        if self.loops is not None and self.loops.is_marked_elsewhere:
            return InputError(
                rule,
                got="recorded states in another thread, and none in this one",
                cause="the model ran in a thread that was started inside the block",
                cure="call trace() in the thread that runs the model",
            )
        recurrent = [module for module in self.model.modules() if is_recurrent(module)]
        kind = was_computed_between(loss, recurrent, *self.span)
        if kind is not None:
            return InputError(
                rule,
                got=f"a {kind} whose weights were used inside the block without calling it",
                cause=f".forward() was called directly, which skips the hooks that record a {kind}",
                cure="call the module itself: self.lstm(x), not self.lstm.forward(x)",
            )
        return InputError(
            rule,
            got=f"no recurrent layer of the model ({type(self.model).__name__}) ran inside the "
            "block",
            cause="a call before `with trace(model)` or after it, or a scripted module, which "
            "hides its calls",
            cure="call the model inside the block",
        )


@contextmanager
def trace(model: nn.Module) -> Iterator[Tape]:
    """Record the recurrent layers of a model while it runs inside the block.

    The model is not changed. These are recorded:

    - ``torch.nn.RNN``, ``LSTM`` and ``GRU`` in every configuration, and the networks of
      :mod:`leadline.recurrent`;
    - every step of ``torch.nn.RNNCell``, ``LSTMCell`` and ``GRUCell`` in a hand-written loop;
    - the states of other loops, which the model marks with :func:`leadline.gradients.record`.

    A step whose state is computed from the state of another step belongs to the same loop. A model
    compiled by ``torch.compile`` runs uncompiled inside the block.

    Args:
        model: a module that holds recurrent layers, or marks its states.

    Raises:
        InputError: the model hides its layers. If no recurrent layer runs inside the block, the
            queries of the tape raise an error.

    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    >>> x, y = recurrent.running_average(8, 10, seed=0)
    >>> with gradients.trace(model) as tape:
    ...     loss = recurrent.mse(model(x)[0], y, last_only=True)
    >>> tape.gradient_flow(loss).layers[0].total.shape
    (8, 10)
    """
    tape = Tape(checked_model(model, "trace()"))
    with recording(model, tape.calls) as tape.loops:
        first = sequence_number()
        try:
            yield tape
        finally:
            tape.span = (first, sequence_number())
            tape.sums = Sums.of(model)


def _has_nan(values: Tensor) -> bool:
    # The sum is a fast first check. It can also be NaN if values are infinite.
    return bool(values.sum().isnan()) and bool(values.isnan().any())


def without_autocast(like: Tensor) -> torch.autocast:
    """Return a context without autocast, which would lower the precision of a replay."""
    return torch.autocast(like.device.type, enabled=False)
