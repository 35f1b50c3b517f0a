"""Transformer blocks: attention between tokens, and a network on each."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

EPSILON = 1e-6
"""Added to variances, of a layer and of a patch, so that constants divide by something."""

FEW_TOKENS = 96
"""Tokens up to which attention in training keeps its whole matrix, which is faster than doing without one."""


Projection = tuple[Tensor, Tensor, Tensor]
"""What a linear layer is given, its weight, and its bias."""


class Block(nn.Module):
    """Attention between tokens and a two-layer network on each, both added to what they were given.

    Formula: ``x + A(norm(x))``, then ``x + W_down gelu(W_up norm(x))``.

    Reference: Vaswani et al., *Attention is all you need*, 2017; Xiong et al., *On layer normalization in the
    transformer architecture*, 2020.
    """

    def __init__(self, width: int, heads: int, generator: torch.Generator | None):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPSILON) for _ in range(2))
        self.qkv = linear_layer(width, 3 * width, generator)
        self.out = linear_layer(width, width, generator)
        self.up = linear_layer(width, 4 * width, generator)
        self.down = linear_layer(4 * width, width, generator)

    def forward(self, x: Tensor, *, attended: Tensor | None = None, wanted: Tensor | None = None) -> Tensor:
        """Tokens to tokens, shape (batch, tokens, width).

        Args:
            x: the tokens.
            attended: false where a token is padding, shape (batch, 1, 1, tokens).
            wanted: indices of the tokens that go on, shape (batch, wanted); all attend to all, but only these are
                computed to the end.
        """
        h = self.norm1(x)
        qkv: list[Projection] = [(h, self.qkv.weight, self.qkv.bias)]
        if wanted is not None:
            width = x.shape[2]
            (W_q, W_kv), (b_q, b_kv) = (p.split([width, 2 * width]) for p in (self.qkv.weight, self.qkv.bias))
            qkv = [(select(h, wanted), W_q, b_q), (h, W_kv, b_kv)]
            x = select(x, wanted)
        x = add_linear(x, attention(self.heads, x.shape[2] // self.heads, qkv, attended), self.out)
        return add_linear(x, gelu(self.up(self.norm2(x))), self.down)


def attention(
    heads: int, size: int, qkv: Sequence[Projection], attended: Bool[Tensor, "batch 1 1 tokens"] | None = None
) -> Float[Tensor, "batch tokens width"]:
    """What each token gathers from the others.

    Formula: ``softmax(q k^T / sqrt(size)) v``, in each head.

    Args:
        heads: attention heads.
        size: numbers of a query, a key and a value of one head.
        qkv: what queries, keys and values are projected from and how, side by side (parts * heads * size) or apart.
        attended: false where a token is padding.
    """
    keyed = qkv[-1][0]
    if attended is None and keyed.shape[1] <= FEW_TOKENS and _in_training(keyed):
        return _Attention.apply(heads, size, *(tensor for part in qkv for tensor in part))  # pyright: ignore[reportReturnType]
    projected = (linear(*part).unflatten(2, (-1, heads, size)).permute(2, 0, 3, 1, 4) for part in qkv)
    q, k, v = (part for parts in projected for part in parts)
    return scaled_dot_product_attention(q, k, v, attn_mask=attended).transpose(1, 2).flatten(2)


class _Attention(torch.autograd.Function):
    """Attention between few tokens, in training: ``scaled_dot_product_attention`` by plain batched products.

    For few tokens these take half the time of its blocked kernel. Biases are added while heads are parted, the scale is
    a factor of a product, and the gradients are written side by side at once: no pass over memory serves one of these
    alone.
    """

    @staticmethod
    def forward(ctx: Any, heads: int, size: int, *qkv: Tensor) -> Tensor:
        """From what is projected, weights and bias, together or apart, to (batch, tokens, width)."""
        batch, parts = len(qkv[0]), [qkv[i : i + 3] for i in range(0, len(qkv), 3)]
        apart = [_projected(*part, heads, size) for part in parts]
        q, k, v = (matrices for each in apart for matrices in each)
        chance = torch.softmax(_product(q, k.mT, size**-0.5), 2)
        ctx.save_for_backward(chance, *apart, *(tensor for h, W, _ in parts for tensor in (h, W)))
        ctx.heads, ctx.size = heads, size
        return (chance @ v).unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients with respect to what was projected, weights and biases."""
        chance, *saved = ctx.saved_tensors
        count, scale, batch = len(saved) // 3, ctx.size**-0.5, len(gradients[0])
        apart, inputs = saved[:count], saved[count:]
        q, k, v = (matrices for each in apart for matrices in each)
        mixed = gradients[0].unflatten(2, (ctx.heads, ctx.size)).transpose(1, 2).flatten(0, 1)
        scores = torch.ops.aten._softmax_backward_data(mixed @ v.mT, chance, 2, chance.dtype)
        together = [torch.empty_like(each) for each in apart]
        dq, dk, dv = (matrices for each in together for matrices in each)
        _product(scores, k, scale, dq)
        _product(scores.mT, q, scale, dk)
        torch.bmm(chance.mT, mixed, out=dv)
        found: list[Tensor | None] = [None, None]
        for each, h, W in zip(together, inputs[::2], inputs[1::2], strict=True):
            rows = each.unflatten(1, (batch, ctx.heads)).permute(1, 3, 0, 2, 4).flatten(2).flatten(0, 1)
            found += [(rows @ W).view_as(h), rows.T @ h.flatten(0, 1), rows.sum(0)]
        return tuple(found)


class _AddLinear(torch.autograd.Function):
    """``x + W h + b`` in training: the product is added to where the sum already stands."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, W: Tensor, b: Tensor) -> Tensor:
        """Of tokens x and h, (batch, tokens, width of each)."""
        ctx.save_for_backward(h, W)
        total = x + b
        total.view(-1, len(W)).addmm_(h.flatten(0, 1), W.T)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """The gradients with respect to x, h, W and b."""
        h, W = ctx.saved_tensors
        rows = gradients[0].flatten(0, 1)
        return gradients[0], (rows @ W).view_as(h), rows.T @ h.flatten(0, 1), rows.sum(0)


def add_linear(x: Tensor, h: Tensor, layer: nn.Linear) -> Tensor:
    """What a layer makes of tokens h, added to tokens x."""
    return _AddLinear.apply(x, h, layer.weight, layer.bias) if _in_training(x) else x + layer(h)  # pyright: ignore[reportReturnType]


def _in_training(x: Tensor) -> bool:
    """Whether gradients are wanted on the processor, where they are quicker by hand."""
    return x.device.type == "cpu" and torch.is_grad_enabled()


def _product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """Products of matrices times a number."""
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2]) if out is None else out
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)


def _projected(h: Tensor, W: Tensor, b: Tensor, heads: int, size: int) -> Float[Tensor, "parts matrices tokens size"]:
    """Queries, keys or values apart, one matrix for each image and head."""
    rows = (h.flatten(0, 1) @ W.T).unflatten(0, h.shape[:2]).unflatten(2, (-1, heads, size))
    apart = h.new_empty(rows.shape[2], len(h), heads, h.shape[1], size)
    torch.add(rows.permute(2, 0, 3, 1, 4), b.view(-1, 1, heads, 1, size), out=apart)
    return apart.flatten(1, 2)


def select(x: Float[Tensor, "batch tokens numbers"], index: Tensor) -> Tensor:
    """Some tokens of each image."""
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))


def linear_layer(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer with uniform weights of variance ``2 / (inputs + outputs)`` and no bias at the start."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
