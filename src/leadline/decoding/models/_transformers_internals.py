"""Undocumented parts of transformers that Leadline uses, all in this file.

Transformers documents how to pass a cache to a model, but not how to write one. Leadline needs its
own: all layers share one tensor, so that a search reorders hypotheses with one copy.
``tests/decoding/test_transformers_internals.py`` checks what this file relies on.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache


class Layer(DynamicLayer):
    """The keys and values of one attention layer, shape (N, heads, positions, size) each.

    The first call of :meth:`update` keeps the keys and values of the prompt. Later calls write
    those of one new position into the tensors of :attr:`views`.
    """

    keys: Any
    values: Any
    views: Sequence[Tensor] | None = None
    """Four views: the keys and values of the next position, then those of all positions up to
    it."""
    num_positions = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values, and return those of all positions."""
        if self.views is None:
            self.keys = key_states
            self.values = value_states
            self.dtype = key_states.dtype
            self.device = key_states.device
            self.is_initialized = True
            self.num_positions = key_states.shape[-2]
        else:
            new_keys, new_values, self.keys, self.values = self.views
            new_keys.copy_(key_states)
            new_values.copy_(value_states)
            self.num_positions += 1
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of positions."""
        return self.num_positions


class AttentionCache(Cache):
    """A cache whose layer types are fixed, so transformers need not inspect them at every step."""

    def __init__(self):
        super().__init__(layer_class_to_replicate=Layer)

    @property
    def is_linear(self) -> list[bool]:
        """``False`` for each layer: no layer is linear attention."""
        return [False] * len(self.layers)

    @property
    def is_dummy(self) -> list[bool]:
        """``False`` for each layer: every layer holds keys and values."""
        return [False] * len(self.layers)


def new_cache(has_encoder: bool) -> Cache:
    """Return an empty cache; that of an encoder-decoder model also holds the cross-attention."""
    if has_encoder:
        return EncoderDecoderCache(AttentionCache(), AttentionCache())
    return AttentionCache()


def parts_of(cache: Cache) -> list[Any]:
    """Return the caches of self-attention and, if the model has an encoder, of cross-attention."""
    if isinstance(cache, EncoderDecoderCache):
        return [cache.self_attention_cache, cache.cross_attention_cache]
    return [cache]


def filled_cache(layers: Sequence[Sequence[Layer]]) -> Cache:
    """Return a cache with the layers of self-attention and, if given, of cross-attention.

    An encoder-decoder cache notes at construction which layers already hold the encoder's keys and
    values, so that it is built from filled parts.
    """
    parts = []
    for layers_of_part in layers:
        part = AttentionCache()
        part.layers.extend(layers_of_part)
        parts.append(part)
    if len(parts) == 2:
        return EncoderDecoderCache(*parts)
    return parts[0]
