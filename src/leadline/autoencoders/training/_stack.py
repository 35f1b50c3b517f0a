"""Dense autoencoders of equal shape that take their training steps together.

The arithmetic of training, and nothing else: forward, backward by hand, Adam. The members' parameters lie in one
tensor, so that a layer of all members is one batched product and the optimiser sees one flat vector per member. Small
networks spend their time between the operations, not in them; this is what stacking saves.

A member's weights come out with the same bits alone and in any company. Two rules see to it: a batched operation is
used only where it was checked, on the spot and by shape, to give the bits of the single one; and all that is summed
is summed within a member.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from leadline.autoencoders._tensors import check_like_memory
from leadline.autoencoders.models._dense import ACTIVATIONS, Architecture
from leadline.torch_internals import adam_step

WORKING_SET = 6 * 2**20
"""Bytes that the members of one stack may fill together: about what stays near the processor between two steps."""

EVALUATION_ROWS = 4096
"""Rows that are evaluated at once."""

BETAS = (0.9, 0.99)
"""Of Adam: its memory of squares is short, as training is."""

_ALIGNED = 16
"""Numbers to which what belongs to a member is padded, so that all members start on a cache line: libraries sum in
another order where memory is not aligned, and a member alone always is."""

_EVIDENCE = 256
"""Numbers that must agree before a batched operation is trusted to round like the single one."""


class Stack:
    """The parameters of several autoencoders of one architecture, and the steps that train them.

    Args:
        architecture: what they have in common.
        states: the parameters that each starts from, by their names in the model; copied.
        lr: learning rate of each, > 0.
    """

    def __init__(
        self,
        architecture: Architecture,
        states: Sequence[Mapping[str, Tensor]],
        lr: Sequence[float],
    ):
        self.lr = list(lr)
        self.names = list(states[0])
        self.activation = ACTIVATIONS[architecture.activation]
        sizes = architecture.encoder_sizes
        self.layers = [*pairwise(sizes), *pairwise(sizes[::-1])]
        self.bends = [*[True] * (len(sizes) - 2), False] * 2
        flat = [torch.cat([tensor.flatten() for tensor in state.values()]) for state in states]
        length = len(flat[0])
        self.weights = flat[0].new_zeros(len(states), -(-length // _ALIGNED) * _ALIGNED)
        self.weights[:, :length] = torch.stack(flat)
        self.moments = (torch.zeros_like(self.weights), torch.zeros_like(self.weights))
        self.steps = torch.zeros((), dtype=torch.float32, device=self.weights.device)
        self._bind()

    def __len__(self) -> int:
        return len(self.weights)

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some of the members only."""
        index = torch.tensor(members, device=self.weights.device)
        self.lr = [self.lr[k] for k in members]
        self.weights = self.weights[index]
        self.moments = (self.moments[0][index], self.moments[1][index])
        self._bind()

    def snapshot(self, member: int) -> dict[str, Tensor]:
        """A copy of one member's parameters, by their names in the model."""
        return self.state(self.weights[member].clone())

    def memory(self, member: int) -> dict[str, Tensor]:
        """All that the training of one member goes on from."""
        first, second = (moment[member] for moment in self.moments)
        return {
            "weights": self.weights[member],
            "first": first,
            "second": second,
            "steps": self.steps,
        }

    def recall(self, member: int, memory: Mapping[str, Tensor]) -> None:
        """Let one member go on from what :meth:`memory` gave; all members have taken equally many steps."""
        check_like_memory(memory, self.memory(member))
        self.weights[member] = memory["weights"]
        for moment, name in zip(self.moments, ("first", "second"), strict=True):
            moment[member] = memory[name]
        self.steps.copy_(memory["steps"])

    def state(self, row: Tensor) -> dict[str, Tensor]:
        """The parameters in one row of :attr:`weights`, by their names in the model; views, not copies."""
        views = [view[0] for pair in self._views(row[None]) for view in pair]
        return dict(zip(self.names, views, strict=True))

    def step(self, seen: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        """One step of Adam for every member.

        Formula: the loss of a member is ``1/N sum_n sum_d c_nd (xhat_nd - x_nd)^2``.

        Args:
            seen: what the encoders see, shape (members, batch, features).
            target: the clean batches x, of the same shape.
            counts: c, 1 where the loss counts and 0 where not, of the same shape; ``None`` for everywhere.

        Returns:
            The losses before the step, shape (members,), summed over the batch; overwritten by the next step.
        """
        rows = seen.shape[1]
        if rows not in self._passes:
            self._passes[rows] = _Pass(self, rows)
        return self._passes[rows](seen, target, counts)

    def reconstruct(self, member: int, x: Tensor) -> Tensor:
        """The reconstruction by one member of rows of shape (n, features), which may be many."""
        parts = []
        for part in x.split(EVALUATION_ROWS):
            for (W, b), bends in zip(self.parameters, self.bends, strict=True):
                part = torch.addmm(b[member], part, W[member].T)
                part = self.activation.apply_(part) if bends else part
            parts.append(part)
        return torch.cat(parts)

    def error(self, member: int, seen: Tensor, target: Tensor, counts: Tensor | None) -> float:
        """Squared error of one member, summed over the features that count and averaged over rows."""
        squares = (self.reconstruct(member, seen) - target).square_()
        return float(
            (squares if counts is None else squares * counts).sum(dtype=torch.float64)
        ) / len(target)

    def update(self) -> None:
        """Adam, one fused call for each member.

        Reference: Kingma & Ba, *Adam: a method for stochastic optimization*, 2015.
        """
        self.steps += 1
        for lr, (weights, gradients, first, second) in zip(self.lr, self._rows, strict=True):
            adam_step(weights, gradients, first, second, self.steps, learning_rate=lr, betas=BETAS)

    def _bind(self) -> None:
        self.gradients = torch.zeros_like(self.weights)
        self.parameters = self._views(self.weights)
        self.derivatives = self._views(self.gradients)
        tables = (self.weights, self.gradients, *self.moments)
        self._rows = [[[table[k]] for table in tables] for k in range(len(self))]
        self._passes: dict[int, _Pass] = {}

    def _views(self, table: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights (members, outputs, inputs) and biases (members, outputs) of each layer in a (members, ...) table."""
        views, start = [], 0
        for inputs, outputs in self.layers:
            end = start + inputs * outputs
            views.append(
                (table[:, start:end].unflatten(1, (outputs, inputs)), table[:, end : end + outputs])
            )
            start = end + outputs
        return views


class _Pass:
    """A training step on batches of one size: every operation bound once to its operands.

    The buffers start as noise, on which :func:`_same_bits` tries the operations.
    """

    def __init__(self, stack: Stack, rows: int):
        self.stack, self.rows = stack, rows
        self.seen = self._buffer(stack.layers[0][0])
        self.outputs = [self._buffer(size) for _, size in stack.layers]
        self.deltas = [self._buffer(size) for _, size in stack.layers]
        self.losses = stack.weights.new_empty(len(stack))
        generator = torch.Generator(self.seen.device).manual_seed(0)
        for buffer in (self.seen, *self.outputs, *self.deltas):
            buffer.normal_(generator=generator)
        self.forward = [self._forward(layer) for layer in range(len(stack.layers))]
        self.backward = [self._backward(layer) for layer in reversed(range(len(stack.layers)))]
        self.flat_errors = [
            (delta.flatten(), loss)
            for delta, loss in zip(self.deltas[-1], self.losses, strict=True)
        ]

    def __call__(self, seen: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        self.seen.copy_(seen)
        for run in self.forward:
            run()
        error = torch.sub(self.outputs[-1], target, out=self.deltas[-1])
        if counts is not None:
            error.mul_(counts)
        for flat, loss in self.flat_errors:
            torch.dot(flat, flat, out=loss)
        error.mul_(2 / self.rows)
        for run in self.backward:
            run()
        self.stack.update()
        return self.losses

    def _buffer(self, size: int) -> Tensor:
        """Room for (members, rows, size) numbers."""
        numbers = self.rows * size
        room = self.stack.weights.new_empty(len(self.stack), -(-numbers // _ALIGNED) * _ALIGNED)
        return room[:, :numbers].unflatten(1, (self.rows, size))

    def _forward(self, layer: int) -> Callable[[], object]:
        W, b = self.stack.parameters[layer]
        inputs, outputs = self.outputs[layer - 1] if layer else self.seen, self.outputs[layer]
        product = _same_bits(
            lambda x, W, b, out: torch.baddbmm(b.unsqueeze(1), x, W, out=out),
            lambda x, W, b, out: torch.addmm(b, x, W, out=out),
            (inputs, W.mT, b),
            outputs,
        )
        if not self.stack.bends[layer]:
            return product
        apply_ = self.stack.activation.apply_
        parts = [outputs] if self.stack.activation.is_exact else list(outputs)

        def run() -> None:
            product()
            for part in parts:
                apply_(part)

        return run

    def _backward(self, layer: int) -> Callable[[], object]:
        W, _ = self.stack.parameters[layer]
        dW, db = self.stack.derivatives[layer]
        inputs, delta = self.outputs[layer - 1] if layer else self.seen, self.deltas[layer]
        parts = [
            _same_bits(_batched, _single, (delta.mT, inputs), dW),
            _same_bits(
                lambda delta, out: torch.sum(delta, 1, out=out),
                lambda delta, out: torch.sum(delta, 0, out=out),
                (delta,),
                db,
            ),
        ]
        if layer:
            below = self.deltas[layer - 1]
            parts.append(_same_bits(_batched, _single, (delta, W), below))
            if self.stack.bends[layer - 1]:
                chain_ = self.stack.activation.chain_
                parts.append(lambda: chain_(below, inputs))

        def run() -> None:
            for part in parts:
                part()

        return run


def stack_size(architecture: Architecture, batch_size: int, element_size: int = 4) -> int:
    """How many models of this shape are trained together: as many as stay near the processor, at least one.

    Follows from shapes alone, never from a clock, so that equal calls do equal work.

    Args:
        architecture: the shape.
        batch_size: rows per step.
        element_size: bytes of a number.

    >>> stack_size(Architecture(64, (128, 32)), 100), stack_size(Architecture(784, (1024, 64)), 100)
    (8, 1)
    """
    sizes = architecture.encoder_sizes
    parameters = sum(i * o + o for i, o in [*pairwise(sizes), *pairwise(sizes[::-1])])
    activations = batch_size * (sum(sizes) + sum(sizes[:-1]))
    return max(1, WORKING_SET // ((4 * parameters + 2 * activations) * element_size))


def _batched(a: Tensor, b: Tensor, out: Tensor) -> None:
    torch.bmm(a, b, out=out)


def _single(a: Tensor, b: Tensor, out: Tensor) -> None:
    torch.mm(a, b, out=out)


def _same_bits(
    together: Callable[..., object],
    single: Callable[..., object],
    operands: Sequence[Tensor],
    out: Tensor,
) -> Callable[[], object]:
    """Bind an operation on all members: ``together`` if it gives the bits of ``single`` on each, else one by one.

    Libraries choose their kernels, and so the order of summation, by shape: a batch of products may round otherwise
    than the product alone. The choice depends on shapes, not on values, so that one try on noise tells, provided that
    it yields enough numbers: a few may agree by chance.
    """
    apart = [(*(operand[k] for operand in operands), out[k]) for k in range(len(out))]

    def one_by_one() -> None:
        for arguments in apart:
            single(*arguments)

    def at_once() -> None:
        together(*operands, out)

    if len(apart) == 1 or out.numel() < _EVIDENCE:
        return one_by_one
    one_by_one()
    expected = out.clone()
    at_once()
    return at_once if torch.equal(out, expected) else one_by_one
