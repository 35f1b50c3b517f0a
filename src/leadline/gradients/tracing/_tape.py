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
    checked_loss,
    checked_model,
    sequence_number,
    was_computed_between,
)
from leadline.gradients.tracing._snapshot import Sums
from leadline.sounding import Protocol


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
        with uncast(loss):
            replayed = self._read()
            gradients = self._seeds(loss.sum())
            layers = [
                layer
                for one, own in zip(replayed, gradients, strict=True)
                # A call that the loss does not depend on has no flow.
                if any(gradient is not None for gradient in own)
                for layer in one.flows(loss.sum(), own)
            ]
        settings = {"model": type(self.model).__name__, "loss": float(loss.detach().sum())}
        return GradientFlow(Protocol(settings), tuple(layers))

    def weight_terms(self, loss: Tensor) -> WeightTerms:
        """Return what each timestep adds to the gradient of the shared weights.

        The term of timestep t is dL/dh_t dh_t/dW; the sum of all terms is dL/dW.

        Args:
            loss: as in :meth:`gradient_flow`.

        Returns:
            The terms of every layer. The graph is retained.

        Raises:
            InputError: the model has a hand-written loop or a layer with a projection, or
                :meth:`gradient_flow` refuses the loss.
        """
        loss = self._check(loss, "loss")
        with uncast(loss):
            replayed = self._read()
            gradients = self._seeds(loss.sum())
            layers = [
                terms
                for one, own in zip(replayed, gradients, strict=True)
                if any(gradient is not None for gradient in own)
                for terms in one.weight_terms(own)
            ]
        settings = {"model": type(self.model).__name__, "loss": float(loss.detach().sum())}
        return WeightTerms(Protocol(settings), tuple(layers))

    def influence(self, terms: Tensor, *, per_sample: bool = False, chunk: int = 32) -> Influence:
        """Return how strongly each loss term pulls on each hidden state: ‖dL_k/dh_t‖ for all k, t.

        If the head is local in time, one backward pass and one sweep give the whole matrix; a test
        with random weights decides. Otherwise each term takes a backward pass of its own.

        Args:
            terms: loss terms of shape (K,), or (B, K), which is summed over the batch; usually one
                term for each timestep.
            per_sample: keep the matrix of every sample too, shape (B, K, T).
            chunk: number of terms that are swept together if each takes a backward pass, at least
            1.

        Returns:
            The influence on each layer. The graph is retained.

        Raises:
            InputError: ``terms`` has another shape, or :meth:`gradient_flow` refuses it.
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
        with uncast(terms):
            replayed = self._read()
            layers = self._local(terms, replayed, per_sample) or self._general(
                terms, replayed, per_sample, chunk
            )
            layers = with_shared_offsets(layers)
        settings = {"model": type(self.model).__name__, "terms": len(terms)}
        return Influence(Protocol(settings), tuple(layers))

    def _local(
        self, terms: Tensor, replayed: list[Readout], per_sample: bool
    ) -> list[LayerInfluence] | None:
        """Follow all terms in one sweep; return ``None`` if their seeds cannot be separated."""
        if len(replayed) != 1 or not replayed[0].has_shared_sweep(len(terms)):
            return None
        one = replayed[0]
        generator = torch.Generator(terms.device).manual_seed(0)
        weights = (
            torch.rand(len(terms), generator=generator, device=terms.device, dtype=terms.dtype)
            + 0.5
        )
        (plain,) = self._seeds(terms.sum())
        (weighted,) = self._seeds((terms * weights).sum())
        seeds, check = (one.top_seeds(gradients) for gradients in (plain, weighted))
        if seeds is None or check is None:
            return None
        difference = torch.addcmul(check, seeds, weights.to(seeds.dtype)[:, None, None], value=-1)
        difference, size = (part.abs().amax((1, 2)) for part in (difference, seeds))
        precision = torch.finfo(seeds.dtype)
        if not bool((difference <= 1e3 * precision.eps * size + precision.tiny).all()):
            return None
        return one.sweep(seeds, per_sample)

    def _general(
        self, terms: Tensor, replayed: list[Readout], per_sample: bool, chunk: int
    ) -> list[LayerInfluence]:
        """Take a backward pass for each term, and sweep ``chunk`` terms together."""
        found: list[list[np.ndarray]] = []
        for first in range(0, len(terms), chunk):
            seeds = [self._seeds(term) for term in terms[first : first + chunk]]
            found.append([])
            for i, one in enumerate(replayed):
                found[-1] += one.log_totals([gradients[i] for gradients in seeds])
        names = [name for one in replayed for name in one.names()]
        return [
            LayerInfluence(**name, **summarise(np.concatenate(logs), per_sample))
            for name, logs in zip(names, zip(*found, strict=True), strict=True)
        ]

    def _read(self) -> list[Readout]:
        """Return the states of all entries."""
        if self.loops is not None:
            check_loops(self.loops.chains)
        return [entry.read() for entry in self.calls]

    def _seeds(self, loss: Tensor) -> list[list[Tensor | None]]:
        """The gradients of a scalar with respect to what each call returned."""
        tensors = [tensor for call in self.calls for tensor in call.outputs]
        reached = [tensor for tensor in tensors if tensor.requires_grad]
        if not reached:
            raise _without_graph(self._why_without_graph())
        try:
            found = iter(torch.autograd.grad(loss, reached, retain_graph=True, allow_unused=True))
        except RuntimeError as error:
            if "backward through the graph a second time" in str(error):
                raise InputError(
                    "gradient_flow(), influence() and weight_terms() need the graph of the loss",
                    got="a graph that a backward pass has freed",
                    cure="query the tape before loss.backward(), or use "
                    "loss.backward(retain_graph=True)",
                ) from error
            if "inplace operation" not in str(error):
                raise
            raise InputError(
                "the model must not change between the forward pass and the query",
                got="a weight or an activation that was changed in place",
                cause="a step of the optimiser, or an in-place operation on an activation",
                cure="query the tape before the optimiser steps; use operations that return new "
                "tensors",
            ) from error
        gradients = [next(found) if tensor.requires_grad else None for tensor in tensors]
        if all(gradient is None for gradient in gradients):
            raise _foreign_loss("a loss that depends on no recorded state")
        rest = iter(gradients)
        by_call = [[next(rest) for _ in call.outputs] for call in self.calls]
        for call, own in zip(self.calls, by_call, strict=True):
            if any(gradient is not None and _holds_nan(gradient) for gradient in own):
                raise InputError(
                    "the gradients must not contain NaN",
                    got=f"{call.title}: the loss's gradient is NaN there",
                    cause="a loss that is NaN, or has no derivative, such as a square root at 0",
                    cure="check the loss and its inputs",
                )
        return by_call

    def _check(self, loss: Any, name: str) -> Tensor:
        """Return the loss, if it is a tensor with a graph and something was recorded."""
        loss = checked_loss(loss, name)
        if not self.calls and self.loops is not None and self.loops.without_graph is not None:
            raise _without_graph(self.loops.without_graph)
        if not self.calls:
            raise self._nothing_recorded(loss)
        if not loss.requires_grad:
            why = self._why_without_graph()
            has_graph = any(tensor.requires_grad for call in self.calls for tensor in call.outputs)
            raise _foreign_loss("a loss without a graph") if has_graph else _without_graph(why)
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

    def _why_without_graph(self) -> str:
        reasons = [entry.without_graph for entry in self.calls if entry.without_graph is not None]
        if self.loops is not None and self.loops.without_graph is not None:
            reasons.append(self.loops.without_graph)
        return reasons[0] if reasons else "recorded states that were detached"

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


def _foreign_loss(got: str) -> InputError:
    return InputError(
        "the loss must come from the recorded forward pass",
        got=got,
        cause="a loss from another forward pass, a detached loss, or a loss computed under no_grad",
        cure="compute the loss from the outputs that the model returned inside the block",
    )


def _without_graph(why: str) -> InputError:
    cure = "run the forward pass with gradients switched on"
    if "neither" in why:
        cure = "unfreeze a parameter, or let the input require a gradient: x.requires_grad_()"
    if "torch.scan" in why:
        cure = "run the loop in Python: for x_t in x: h = gradients.record(step(h, x_t))"
    return InputError(
        "the recorded forward pass must have a graph",
        got="recorded states without a graph",
        cause=why,
        cure=cure,
    )


def _holds_nan(values: Tensor) -> bool:
    # A sum is fast, but infinities can make it NaN.
    return bool(values.sum().isnan()) and bool(values.isnan().any())


def uncast(like: Tensor) -> torch.autocast:
    """Return a context without autocast, which would lower the precision of a replay."""
    return torch.autocast(like.device.type, enabled=False)
