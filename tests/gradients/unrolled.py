"""The oracle: PyTorch's recurrent modules unrolled, one vector per sample and timestep, in float64.

The code follows the equations in the documentation of ``torch.nn.RNN``, ``LSTM`` and ``GRU`` and
is slow. Every state has three tensors in the graph: ``h`` itself; the copy that the layer above,
``output`` and ``h_n`` read; and the copy that the next step reads. Their gradients are the total,
the direct part and the recurrent part of dL/dh_t.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""A step of a cell on vectors: ``(x_t, h_{t-1}, c_{t-1}) -> (h_t, c_t)``.

A cell without c returns c unchanged.
"""


def rnn_step(
    sigma: Callable[[Tensor], Tensor], W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Step:
    """``h_t = sigma(x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh)``."""

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return sigma(W_ih @ x + b_ih + W_hh @ h + b_hh), c

    return step


def lstm_step(
    W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor, W_hr: Tensor | None = None
) -> Step:
    """Return h and c of one LSTM step.

    ``i, f, o = sigmoid(W_i* x + b_i* + W_h* h + b_h*)`` and g is the tanh of such a sum; then
    ``c = f c + i g`` and ``h = (W_hr) o tanh(c)``.
    """
    (W_ii, W_if, W_ig, W_io), (b_ii, b_if, b_ig, b_io) = W_ih.chunk(4), b_ih.chunk(4)
    (W_hi, W_hf, W_hg, W_ho), (b_hi, b_hf, b_hg, b_ho) = W_hh.chunk(4), b_hh.chunk(4)

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i = torch.sigmoid(W_ii @ x + b_ii + W_hi @ h + b_hi)
        f = torch.sigmoid(W_if @ x + b_if + W_hf @ h + b_hf)
        g = torch.tanh(W_ig @ x + b_ig + W_hg @ h + b_hg)
        o = torch.sigmoid(W_io @ x + b_io + W_ho @ h + b_ho)
        c = f * c + i * g
        h = o * torch.tanh(c)
        return (h if W_hr is None else W_hr @ h), c

    return step


def gru_step(W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Step:
    """``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``, ``h = (1 - z) n + z h``."""
    (W_ir, W_iz, W_in), (b_ir, b_iz, b_in) = W_ih.chunk(3), b_ih.chunk(3)
    (W_hr, W_hz, W_hn), (b_hr, b_hz, b_hn) = W_hh.chunk(3), b_hh.chunk(3)

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        r = torch.sigmoid(W_ir @ x + b_ir + W_hr @ h + b_hr)
        z = torch.sigmoid(W_iz @ x + b_iz + W_hz @ h + b_hz)
        n = torch.tanh(W_in @ x + b_in + r * (W_hn @ h + b_hn))
        return (1 - z) * n + z * h, c

    return step


def step_of(module: nn.RNNBase, layer: int, suffix: str) -> Step:
    """Return the step of one layer in one direction; missing biases are zero."""
    name = f"l{layer}{suffix}"
    W_ih, W_hh = getattr(module, f"weight_ih_{name}"), getattr(module, f"weight_hh_{name}")
    zeros = W_ih.new_zeros(len(W_ih))
    b_ih, b_hh = (
        getattr(module, f"{bias}_{name}") if module.bias else zeros
        for bias in ("bias_ih", "bias_hh")
    )
    if isinstance(module, nn.LSTM):
        return lstm_step(
            W_ih,
            W_hh,
            b_ih,
            b_hh,
            getattr(module, f"weight_hr_{name}") if module.proj_size else None,
        )
    if isinstance(module, nn.GRU):
        return gru_step(W_ih, W_hh, b_ih, b_hh)
    return rnn_step(
        {"tanh": torch.tanh, "relu": torch.relu}[str(module.nonlinearity)], W_ih, W_hh, b_ih, b_hh
    )


@dataclass(eq=False)
class Scan:
    """One layer in one direction of one call, with lists by sample and then by timestep."""

    name: str
    index: int
    direction: str
    call: int
    h: list[list[Tensor]] = field(default_factory=list)
    shown: list[list[Tensor]] = field(default_factory=list)
    handed_on: list[list[Tensor]] = field(default_factory=list)
    c: list[list[Tensor]] = field(default_factory=list)
    x: list[list[Tensor]] = field(default_factory=list)
    """The layer's input, which both directions read."""
    read: list[list[Tensor]] = field(default_factory=list)
    """The copy of the input that this direction reads."""
    h_0: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Expected:
    """Norms of the gradients of one scan, shape (B, T), NaN after the end of a sample.

    ``initial`` has the shape (B,).
    """

    scan: Scan
    total: np.ndarray
    direct: np.ndarray
    recurrent: np.ndarray
    cell_total: np.ndarray
    """dL/dc_t along all paths, including h_t = o tanh(c_t) of the same timestep."""
    input: np.ndarray
    """dL/dx_t, the sum of both directions."""
    input_read: np.ndarray
    """The part of dL/dx_t that comes through this direction."""
    initial: np.ndarray
    hidden_norm: np.ndarray


class Unrolled(nn.Module):
    """A module with the outputs of the original, which keeps every intermediate tensor."""

    def __init__(
        self, name: str, module: nn.RNNBase, scans: list[Scan], masks: Sequence[Tensor] = ()
    ):
        super().__init__()
        self.name, self.module, self.scans, self.masks = name, module, scans, masks
        self.calls = 0

    def forward(self, x: Tensor | PackedSequence, hx: Tensor | Sequence[Tensor] | None = None):
        module = self.module
        directions = ("forward", "reverse")[: 2 if module.bidirectional else 1]
        has_cell = isinstance(module, nn.LSTM)
        below = _sequences(x, module.batch_first)
        starts = None if hx is None else [hx] if isinstance(hx, Tensor) else list(hx)
        if starts and starts[0].dim() == 2:
            starts = [start.unsqueeze(1) for start in starts]
        h_n, c_n = [], []
        for layer in range(module.num_layers):
            if layer and len(self.masks):
                mask = self.masks[layer - 1]
                below = [
                    [x_t * mask[t, b] for t, x_t in enumerate(one)] for b, one in enumerate(below)
                ]
            below = [[_in_graph(x_t) for x_t in one] for one in below]
            found = []
            for d, direction in enumerate(directions):
                scan = Scan(self.name, layer, direction, self.calls)
                step = step_of(module, layer, "_reverse" if d else "")
                ends = []
                for b, one in enumerate(below):
                    place = layer * len(directions) + d
                    h = one[0].new_zeros(module.proj_size or module.hidden_size)
                    c = one[0].new_zeros(module.hidden_size)
                    if starts:
                        h, c = starts[0][place, b], starts[1][place, b] if has_cell else c
                    ends.append(_run(scan, step, one, _in_graph(h), c))
                found.append(scan)
                h_n.append(torch.stack([h for h, _ in ends]))
                c_n.append(torch.stack([c for _, c in ends]))
            self.scans += found
            shown = [scan.shown for scan in found]
            below = [
                [torch.cat(parts) for parts in zip(*one, strict=True)]
                for one in zip(*shown, strict=True)
            ]
        self.calls += 1
        is_single = isinstance(x, Tensor) and x.dim() == 2
        last = [
            torch.stack(parts)[:, 0] if is_single else torch.stack(parts) for parts in (h_n, c_n)
        ]
        return _laid_out(below, x, module.batch_first), tuple(last) if has_cell else last[0]


class Oracle:
    """A float64 copy of a model with unrolled recurrent modules and given dropout masks."""

    def __init__(self, model: nn.Module, masks: Sequence[Tensor] = ()):
        self.scans: list[Scan] = []
        self.model = copy.deepcopy(model).double()
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.RNNBase):
                other = Unrolled(name or type(module).__name__, module, self.scans, masks)
                if name:
                    self.model.set_submodule(name, other)
                else:
                    self.model = other

    def expected(self, loss: Tensor) -> list[Expected]:
        """Return the expected flow by automatic differentiation, and retain the graph."""
        names = ("h", "shown", "handed_on", "c", "read", "x")
        wanted = [
            t for scan in self.scans for name in names for one in getattr(scan, name) for t in one
        ]
        wanted += [t for scan in self.scans for t in scan.h_0]
        found = torch.autograd.grad(loss.sum(), wanted, retain_graph=True, allow_unused=True)
        norms = iter([0.0 if gradient is None else float(gradient.norm()) for gradient in found])
        grids = [[_grid(getattr(scan, name), norms) for name in names] for scan in self.scans]
        return [
            Expected(
                scan,
                *grid,
                initial=np.array([next(norms) for _ in scan.h_0]),
                hidden_norm=_grid(
                    scan.h, iter([float(h.detach().norm()) for one in scan.h for h in one])
                ),
            )
            for scan, (total, direct, recurrent, cell, read, x) in zip(
                self.scans, grids, strict=True
            )
            for grid in [(total, direct, recurrent, cell, x, read)]
        ]


def _run(scan: Scan, step: Step, xs: list[Tensor], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Scan one sequence in the direction of ``scan``, and return the last state."""
    time = len(xs)
    kept: dict[str, list] = {
        name: [None] * time for name in ("h", "shown", "handed_on", "c", "read")
    }
    scan.h_0.append(h)
    shown = h
    for t in reversed(range(time)) if scan.direction == "reverse" else range(time):
        read = xs[t].clone()
        new, c = step(read, h, c)
        c = c if c.requires_grad else _in_graph(c)
        shown, h = new.clone(), new.clone()
        for name, value in {"h": new, "shown": shown, "handed_on": h, "c": c, "read": read}.items():
            kept[name][t] = value
    for name, values in kept.items():
        getattr(scan, name).append(values)
    scan.x.append(xs)
    return shown, c


def _in_graph(x: Tensor) -> Tensor:
    """Return a copy whose gradient can be computed."""
    x = x.clone()
    return x if x.requires_grad else x.requires_grad_()


def _packed_places(x: PackedSequence) -> Iterator[tuple[int, int]]:
    """Return ``(sample, t)`` of every row of the data, ordered by t, longest sequences first."""
    for t, size in enumerate(x.batch_sizes.tolist()):
        for row in range(size):
            yield (row if x.sorted_indices is None else int(x.sorted_indices[row])), t


def _sequences(x: Tensor | PackedSequence, batch_first: bool) -> list[list[Tensor]]:
    """Return the vectors x_t of each sample."""
    if isinstance(x, PackedSequence):
        sequences: list[list[Tensor]] = [[] for _ in range(int(x.batch_sizes[0]))]
        for row, (sample, _) in zip(x.data, _packed_places(x), strict=True):
            sequences[sample].append(row)
        return sequences
    if x.dim() == 2:
        return [list(x)]
    return [list(one) for one in (x if batch_first else x.transpose(0, 1))]


def _laid_out(
    sequences: list[list[Tensor]], x: Tensor | PackedSequence, batch_first: bool
) -> Tensor | PackedSequence:
    """Return the outputs in the layout of the input."""
    if isinstance(x, PackedSequence):
        return x._replace(
            data=torch.stack([sequences[sample][t] for sample, t in _packed_places(x)])
        )
    if x.dim() == 2:
        return torch.stack(sequences[0])
    return torch.stack([torch.stack(one) for one in sequences], 0 if batch_first else 1)


def _grid(shaped: list[list[Tensor]], values: Iterator[float]) -> np.ndarray:
    """Return values by sample and timestep, in the order of the lists."""
    grid = np.full((len(shaped), max(map(len, shaped))), np.nan)
    for b, one in enumerate(shaped):
        for t in range(len(one)):
            grid[b, t] = next(values)
    return grid
