"""Transformer blocks: attention, and a two-layer network on each token."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, linear, scaled_dot_product_attention

from leadline.torch_internals import chain_gelu_, is_graph_kept, softmax_gradient

EPSILON = 1e-6
"""Added to variances in normalisation, so that constants do not divide by zero."""

FEW_TOKENS = 96
"""Up to this many tokens, attention in training keeps its whole matrix, which is faster."""


class Block(nn.Module):
    """A pre-normalised transformer block: attention and a two-layer network, both residual.

    Formula: ``x + A(norm(x))``, then ``x + W_down gelu(W_up norm(x))``.

    Reference: Vaswani et al., *Attention is all you need*, 2017; Xiong et al., *On layer
    normalization in the transformer architecture*, 2020.
    """

    def __init__(self, width: int, heads: int, generator: torch.Generator | None):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.qkv = linear_layer(width, 3 * width, generator)
        self.out = linear_layer(width, width, generator)
        self.up = linear_layer(width, 4 * width, generator)
        self.down = linear_layer(4 * width, width, generator)

    def forward(
        self,
        x: Tensor,
        *,
        attended: Tensor | None = None,
        places: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Return the new tokens, shape (batch, tokens, width).

        Args:
            x: The tokens, shape (batch, tokens, width). With ``places`` and ``wanted``: a table of
                distinct tokens, shape (number, width), each of which is projected once.
            attended: False where a token is padding, shape (batch, 1, 1, tokens).
            places: Rows of the table that are attended to, shape (batch, tokens).
            wanted: Rows of the table whose new tokens are returned, shape (batch, wanted).
        """
        h = self.norm1(x)
        if places is None or wanted is None:
            projected = [self.qkv(h)]
        else:
            width = x.shape[1]
            W_q, W_kv = self.qkv.weight.split([width, 2 * width])
            b_q, b_kv = self.qkv.bias.split([width, 2 * width])
            projected = [
                embedding(wanted, linear(h, W_q, b_q)),
                embedding(places, linear(h, W_kv, b_kv)),
            ]
            x = embedding(wanted, x)
        gathered = attention(self.heads, x.shape[2] // self.heads, projected, attended)
        x = _added(x, gathered, self.out)
        h = self.norm2(x)
        if _trains(x):
            parameters = (p for layer in (self.up, self.down) for p in (layer.weight, layer.bias))
            return _Network.apply(x, h, *parameters)  # pyright: ignore[reportReturnType]
        return _added(x, gelu(self.up(h)), self.down)


def _added(x: Tensor, h: Tensor, layer: nn.Linear) -> Tensor:
    """Return ``x + layer(h)`` by one fused operation."""
    return torch.addmm(x.flatten(0, 1), h.flatten(0, 1), layer.weight.T).add_(layer.bias).view_as(x)


def _trains(x: Tensor) -> bool:
    """True if handwritten gradients apply: they are faster than autograd on a CPU."""
    return (
        x.device.type == "cpu" and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    )


class _Network(torch.autograd.Function):
    """The residual two-layer network in training; its widest gradient reuses a saved buffer."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, W_up: Tensor, b_up: Tensor, W_down: Tensor, b_down: Tensor
    ) -> Tensor:
        """Return the tokens, from tokens and normalised tokens of shape (batch, tokens, width)."""
        h = h.flatten(0, 1)
        a = torch.addmm(b_up, h, W_up.T)
        wide = gelu(a)
        ctx.save_for_backward(h, a, wide, W_up, W_down)
        return torch.addmm(x.flatten(0, 1), wide, W_down.T).add_(b_down).view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients with respect to all arguments."""
        h, a, wide, W_up, W_down = ctx.saved_tensors
        dx = gradients[0].flatten(0, 1)
        dW_down = dx.T @ wide
        # Unless the graph is kept, the saved tensor is free; its memory is faster than new memory.
        is_kept = is_graph_kept()
        da = torch.mm(dx, W_down, out=None if is_kept else wide)
        chain_gelu_(da, a)
        return (
            gradients[0],
            (da @ W_up).view_as(gradients[0]),
            da.T @ h,
            da.sum(0),
            dW_down,
            dx.sum(0),
        )


def attention(
    heads: int,
    size: int,
    projected: Sequence[Tensor],
    attended: Bool[Tensor, "batch 1 1 tokens"] | None = None,
) -> Float[Tensor, "batch tokens width"]:
    """Return multi-head scaled dot-product attention, shape (batch, tokens, width).

    Formula: ``softmax(q k^T / sqrt(size)) v``, in each head.

    Args:
        heads: Number of attention heads.
        size: Features of a query, a key and a value of one head.
        projected: Queries, keys and values in one or two tensors, each of shape
            (batch, tokens, parts * heads * size).
        attended: False where a token is padding, shape (batch, 1, 1, tokens).
    """
    if attended is None and projected[-1].shape[1] <= FEW_TOKENS and _trains(projected[0]):
        return _Attention.apply(heads, size, *projected)  # pyright: ignore[reportReturnType]
    q, k, v = (
        part for x in projected for part in x.unflatten(2, (-1, heads, size)).permute(2, 0, 3, 1, 4)
    )
    return scaled_dot_product_attention(q, k, v, attn_mask=attended).transpose(1, 2).flatten(2)


class _Attention(torch.autograd.Function):
    """``scaled_dot_product_attention`` of few tokens in training, by plain batched products.

    For few tokens, plain products take half the time of the blocked kernel. They read the queries,
    keys and values of each head in place.
    """

    @staticmethod
    def forward(ctx: Any, heads: int, size: int, *projected: Tensor) -> Tensor:
        """Return the output of the attention, shape (batch, tokens, width)."""
        q, k, v = (part for x in projected for part in _by_head(x, heads, size))
        scores = _products(q, k.mT, q.new_empty(*q.shape[:3], k.shape[2])).mul_(size**-0.5)
        chance = torch.softmax(scores, 3)
        ctx.save_for_backward(chance, *projected)
        return _products(chance, v, q.new_empty(q.shape)).permute(1, 2, 0, 3).flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to the queries, keys and values."""
        chance, *projected = ctx.saved_tensors
        heads = len(chance)
        size = gradients[0].shape[2] // heads
        q, k, v = (part for x in projected for part in _by_head(x, heads, size))
        (mixed,) = _by_head(gradients[0], heads, size)
        scores = _products(mixed, v.mT, torch.empty_like(chance))
        scores = softmax_gradient(scores, chance, 3).mul_(size**-0.5)
        together = [x.new_empty(_by_head(x, heads, size).shape) for x in projected]
        dq, dk, dv = (part for parts in together for part in parts)
        _products(scores, k, dq)
        _products(scores.mT, q, dk)
        _products(chance.mT, mixed, dv)
        return None, None, *(parts.permute(2, 3, 0, 1, 4).flatten(2) for parts in together)


def _by_head(x: Tensor, heads: int, size: int) -> Float[Tensor, "parts heads batch tokens size"]:
    """Return a view of queries, keys or values by head."""
    return x.unflatten(2, (-1, heads, size)).permute(2, 3, 0, 1, 4)


def _products(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Write ``a @ b`` to ``out`` head by head; one batched product would copy its operands."""
    for a_head, b_head, product in zip(a, b, out, strict=True):
        torch.bmm(a_head, b_head, out=product)
    return out


def select(x: Float[Tensor, "batch tokens numbers"], index: Tensor) -> Tensor:
    """Return the tokens with these indices, shape (batch, wanted), of each image."""
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))


def linear_layer(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a linear layer with Xavier-uniform weights and zero biases."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
