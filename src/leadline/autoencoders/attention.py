"""Transformer blocks: attention between tokens, and a network on each."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

EPSILON = 1e-6
"""Added to variances, of a layer and of a patch, so that constants divide by something."""

FEW_TOKENS = 96
"""Tokens up to which attention in training keeps its whole matrix, which is faster than doing without one."""


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
        if wanted is None:
            projected = [self.qkv(h)]
        else:
            width = x.shape[2]
            (W_q, W_kv), (b_q, b_kv) = (p.split([width, 2 * width]) for p in (self.qkv.weight, self.qkv.bias))
            projected = [linear(select(h, wanted), W_q, b_q), linear(h, W_kv, b_kv)]
            x = select(x, wanted)
        x = x + self.out(attention(self.heads, x.shape[2] // self.heads, projected, attended))
        return x + self.down(gelu(self.up(self.norm2(x))))


def attention(
    heads: int, size: int, projected: Sequence[Tensor], attended: Bool[Tensor, "batch 1 1 tokens"] | None = None
) -> Float[Tensor, "batch tokens width"]:
    """What each token gathers from the others.

    Formula: ``softmax(q k^T / sqrt(size)) v``, in each head.

    Args:
        heads: attention heads.
        size: numbers of a query, a key and a value of one head.
        projected: queries, keys and values, side by side or apart, (batch, tokens, parts * heads * size) each.
        attended: false where a token is padding.
    """
    tokens, on_cpu = projected[-1].shape[1], projected[0].device.type == "cpu"
    if attended is None and tokens <= FEW_TOKENS and on_cpu and torch.is_grad_enabled():
        return _Attention.apply(heads, size, *projected)  # pyright: ignore[reportReturnType]
    q, k, v = (part for x in projected for part in x.unflatten(2, (-1, heads, size)).permute(2, 0, 3, 1, 4))
    return scaled_dot_product_attention(q, k, v, attn_mask=attended).transpose(1, 2).flatten(2)


class _Attention(torch.autograd.Function):
    """Attention between few tokens, in training: ``scaled_dot_product_attention`` by plain batched products.

    For few tokens these take half the time of its blocked kernel; and the gradients are written side by side at once.
    """

    @staticmethod
    def forward(ctx: Any, heads: int, size: int, *projected: Tensor) -> Tensor:
        """From queries, keys and values, together or apart, (batch, tokens, parts width), to (batch, tokens, width)."""
        batch = len(projected[0])
        apart = [_by_head(x, heads, size) for x in projected]
        q, k, v = (part for parts in apart for part in parts)
        chance = torch.softmax((q * size**-0.5) @ k.mT, 2)
        ctx.save_for_backward(chance, *apart)
        ctx.heads, ctx.size = heads, size
        return (chance @ v).unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients with respect to what was projected."""
        chance, *apart = ctx.saved_tensors
        q, k, v = (part for parts in apart for part in parts)
        (mixed,) = _by_head(gradients[0], ctx.heads, ctx.size)
        scores = torch.ops.aten._softmax_backward_data(mixed @ v.mT, chance, 2, chance.dtype).mul_(ctx.size**-0.5)
        together = [torch.empty_like(parts) for parts in apart]
        dq, dk, dv = (part for parts in together for part in parts)
        torch.bmm(scores, k, out=dq)
        torch.bmm(scores.mT, q, out=dk)
        torch.bmm(chance.mT, mixed, out=dv)
        batch = len(gradients[0])
        return (
            None,
            None,
            *(parts.unflatten(1, (batch, ctx.heads)).permute(1, 3, 0, 2, 4).flatten(2) for parts in together),
        )


def _by_head(x: Tensor, heads: int, size: int) -> Float[Tensor, "parts matrices tokens size"]:
    """Queries, keys or values apart, one matrix for each image and head."""
    return x.unflatten(2, (-1, heads, size)).permute(2, 0, 3, 1, 4).flatten(1, 2)


def select(x: Float[Tensor, "batch tokens numbers"], index: Tensor) -> Tensor:
    """Some tokens of each image."""
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))


def linear_layer(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer with uniform weights of variance ``2 / (inputs + outputs)`` and no bias at the start."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
