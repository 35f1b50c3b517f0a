"""The training engine for stacks: many dense autoencoders of equal shape as one computation.

A stack contains only the arithmetic of training: the forward pass, a handwritten backward pass, and
Adam. The parameters of all members lie in one tensor. A layer of all members is one batched
product, and the optimizer sees one flat vector per member. Small networks spend most of their time
between operations; stacking saves this time.

A member's weights have the same bits alone and in any stack, by two rules. A batched operation is
used only if a test on its shapes shows that it has the bits of the single operation. All sums are
sums within a member.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from leadline.autoencoders._tensors import check_like_memory
from leadline.autoencoders.models._dense import ACTIVATIONS, DenseArchitecture
from leadline.autoencoders.training._engine import BETAS, Engine
from leadline.torch_internals import adam_step

WORKING_SET = 6 * 2**20
"""Maximum size of a stack in bytes: about what stays in the processor's cache between two steps."""

EVALUATION_ROWS = 4096
"""Rows that are evaluated at once."""

_ALIGNED = 16
"""The numbers of a member are padded to a multiple of this, so that all members start on a cache
line. Libraries sum unaligned memory in another order, and a single member is always aligned."""

_EVIDENCE = 256
"""Minimum of compared numbers before a batched operation counts as equal to the single one."""


class Stack(Engine):
    """The parameters of several dense autoencoders of one architecture, and their training steps.

    Args:
        architecture: The common architecture.
        states: The initial parameters of each member, by their names in the model; copied.
        learning_rates: The learning rate of each member, > 0.
    """

    def __init__(
        self,
        architecture: DenseArchitecture,
        states: Sequence[Mapping[str, Tensor]],
        learning_rates: Sequence[float],
    ):
        self.learning_rates = list(learning_rates)
        self.names = list(states[0])
        self.activation = ACTIVATIONS[architecture.activation]
        sizes = architecture.encoder_sizes
        self.layers = [*pairwise(sizes), *pairwise(sizes[::-1])]
        # The last layer of encoder and decoder has no activation.
        self.has_activation = [*[True] * (len(sizes) - 2), False] * 2
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
        """Drop all members but these."""
        index = torch.tensor(members, device=self.weights.device)
        self.learning_rates = [self.learning_rates[k] for k in members]
        self.weights = self.weights[index]
        self.moments = (self.moments[0][index], self.moments[1][index])
        self._bind()

    def snapshot(self, member: int) -> dict[str, Tensor]:
        """Return a copy of a member's parameters, by their names in the model."""
        return self.state(self.weights[member].clone())

    def memory(self, member: int) -> dict[str, Tensor]:
        """Return the weights, the moments and the number of steps of a member."""
        first, second = self.moments
        return {
            "weights": self.weights[member],
            "first": first[member],
            "second": second[member],
            "steps": self.steps,
        }

    def recall(self, member: int, memory: Mapping[str, Tensor]) -> None:
        """Restore the state of a member; all members must have taken equally many steps."""
        check_like_memory(memory, self.memory(member))
        self.weights[member] = memory["weights"]
        for moment, name in zip(self.moments, ("first", "second"), strict=True):
            moment[member] = memory[name]
        self.steps.copy_(memory["steps"])

    def state(self, row: Tensor) -> dict[str, Tensor]:
        """Return views of the parameters in one row of :attr:`weights`, by name."""
        views = [view[0] for layer in self._views(row[None]) for view in layer]
        return dict(zip(self.names, views, strict=True))

    def step(self, seen: Tensor, target: Tensor, loss_mask: Tensor | None) -> Tensor:
        """Take one step of Adam for every member; see :meth:`Engine.step`."""
        rows = seen.shape[1]
        if rows not in self._passes:
            self._passes[rows] = _Pass(self, rows)
        return self._passes[rows](seen, target, loss_mask)

    def reconstruct(self, member: int, x: Tensor) -> Tensor:
        """Return a member's reconstruction of rows of shape (n, features), for any n."""
        parts = []
        for part in x.split(EVALUATION_ROWS):
            for (W, b), has_activation in zip(self.parameters, self.has_activation, strict=True):
                part = torch.addmm(b[member], part, W[member].T)
                if has_activation:
                    part = self.activation.apply_(part)
            parts.append(part)
        return torch.cat(parts)

    def error(self, member: int, seen: Tensor, target: Tensor, loss_mask: Tensor | None) -> float:
        """Return a member's squared error; see :meth:`Engine.error`."""
        squares = (self.reconstruct(member, seen) - target).square_()
        if loss_mask is not None:
            squares = squares * loss_mask
        return float(squares.sum(dtype=torch.float64)) / len(target)

    def update(self) -> None:
        """Update all members by Adam, one fused call for each."""
        self.steps += 1
        for learning_rate, row in zip(self.learning_rates, self._rows, strict=True):
            weights, gradients, first, second = row
            adam_step(
                weights,
                gradients,
                first,
                second,
                self.steps,
                learning_rate=learning_rate,
                betas=BETAS,
            )

    def _bind(self) -> None:
        self.gradients = torch.zeros_like(self.weights)
        self.parameters = self._views(self.weights)
        self.derivatives = self._views(self.gradients)
        tables = (self.weights, self.gradients, *self.moments)
        self._rows = [[[table[k]] for table in tables] for k in range(len(self))]
        self._passes: dict[int, _Pass] = {}

    def _views(self, table: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return views of the weights and biases of each layer.

        Args:
            table: Shape (members, numbers).

        Returns:
            For each layer, weights (members, outputs, inputs) and biases (members, outputs).
        """
        views = []
        start = 0
        for inputs, outputs in self.layers:
            end = start + inputs * outputs
            W = table[:, start:end].unflatten(1, (outputs, inputs))
            b = table[:, end : end + outputs]
            views.append((W, b))
            start = end + outputs
        return views


class _Pass:
    """A training step on batches of one size, with every operation bound to its operands once.

    The buffers start as noise, which :func:`_same_bits` uses to compare operations.
    """

    def __init__(self, stack: Stack, rows: int):
        self.stack = stack
        self.rows = rows
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

    def __call__(self, seen: Tensor, target: Tensor, loss_mask: Tensor | None) -> Tensor:
        self.seen.copy_(seen)
        for run in self.forward:
            run()
        error = torch.sub(self.outputs[-1], target, out=self.deltas[-1])
        if loss_mask is not None:
            error.mul_(loss_mask)
        for flat, loss in self.flat_errors:
            torch.dot(flat, flat, out=loss)
        error.mul_(2 / self.rows)
        for run in self.backward:
            run()
        self.stack.update()
        return self.losses

    def _buffer(self, size: int) -> Tensor:
        """Return an aligned buffer of shape (members, rows, size)."""
        numbers = self.rows * size
        room = self.stack.weights.new_empty(len(self.stack), -(-numbers // _ALIGNED) * _ALIGNED)
        return room[:, :numbers].unflatten(1, (self.rows, size))

    def _forward(self, layer: int) -> Callable[[], object]:
        """Return the forward pass of a layer."""
        W, b = self.stack.parameters[layer]
        inputs = self.outputs[layer - 1] if layer else self.seen
        outputs = self.outputs[layer]
        product = _same_bits(
            lambda x, W, b, out: torch.baddbmm(b.unsqueeze(1), x, W, out=out),
            lambda x, W, b, out: torch.addmm(b, x, W, out=out),
            (inputs, W.mT, b),
            outputs,
        )
        if not self.stack.has_activation[layer]:
            return product
        apply_ = self.stack.activation.apply_
        parts = [outputs] if self.stack.activation.is_exact else list(outputs)

        def run() -> None:
            product()
            for part in parts:
                apply_(part)

        return run

    def _backward(self, layer: int) -> Callable[[], object]:
        """Return the backward pass of a layer."""
        W, _ = self.stack.parameters[layer]
        dW, db = self.stack.derivatives[layer]
        inputs = self.outputs[layer - 1] if layer else self.seen
        delta = self.deltas[layer]
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
            if self.stack.has_activation[layer - 1]:
                chain_ = self.stack.activation.chain_
                parts.append(lambda: chain_(below, inputs))

        def run() -> None:
            for part in parts:
                part()

        return run


def stack_size(architecture: DenseArchitecture, batch_size: int, element_size: int = 4) -> int:
    """Return the number of models to train together: as many as fit the cache, at least one.

    The number depends only on shapes, so that equal calls do equal work.

    Args:
        architecture: The common architecture.
        batch_size: Rows per step.
        element_size: Bytes of a number.

    >>> stack_size(DenseArchitecture(64, (128, 32)), 100)
    8
    >>> stack_size(DenseArchitecture(784, (1024, 64)), 100)
    1
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
    batched: Callable[..., object],
    single: Callable[..., object],
    operands: Sequence[Tensor],
    out: Tensor,
) -> Callable[[], object]:
    """Return the batched operation if it has the bits of the single one, else a loop.

    Libraries choose kernels, and so the order of summation, by shape: a batch of products may round
    differently than a single product. The choice depends on shapes, not on values, so one
    comparison on noise is enough if it covers many numbers; a few may agree by chance.

    Args:
        batched: The operation on all members.
        single: The operation on one member.
        operands: The operands; the first axis is the member.
        out: The result; the first axis is the member.
    """
    by_member = [(*(operand[k] for operand in operands), out[k]) for k in range(len(out))]

    def one_by_one() -> None:
        for arguments in by_member:
            single(*arguments)

    def at_once() -> None:
        batched(*operands, out)

    if len(by_member) == 1 or out.numel() < _EVIDENCE:
        return one_by_one
    one_by_one()
    expected = out.clone()
    at_once()
    return at_once if torch.equal(out, expected) else one_by_one
