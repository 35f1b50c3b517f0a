"""The state of a Hugging Face model: keys and values of all layers in one tensor.

When a search reorders hypotheses, only the positions at which two rows differ are copied.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from leadline.decoding.models._transformers_internals import (
    Layer,
    filled_cache,
    new_cache,
    parts_of,
)
from leadline.errors import InputError

NEEDS = "huggingface() needs a model that caches keys and values of one shape, and nothing else"


class KeyValueStore:
    """Keys and values of all layers, shape (N, layers, 2, heads, capacity, size).

    All layers share one tensor, so that one copy reorders them. The tensor has space for further
    positions, so that a new token moves nothing.

    Args:
        tensor: the keys and values.
        num_positions: the number of positions that are written.
    """

    def __init__(self, tensor: Tensor, num_positions: int):
        self.num_positions = num_positions
        self._use(tensor)

    def _use(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.rows = tensor.unbind(0)
        self.by_layer = tensor.flatten(1, 2)

    @classmethod
    def gather(cls, layers: Sequence[Layer]) -> "KeyValueStore":
        """Copy the keys and values of layers into one tensor.

        Raises:
            InputError: the layers do not hold keys and values of one shape.
        """
        _check_layers(layers)
        pairs = [torch.stack([layer.keys, layer.values], dim=1) for layer in layers]
        return cls(torch.stack(pairs, dim=1), layers[0].num_positions)

    @property
    def used(self) -> Tensor:
        """The part of the tensor that is written."""
        return self.tensor.narrow(4, 0, self.num_positions)

    @property
    def nbytes(self) -> int:
        """The number of bytes that are written."""
        return self.used.nbytes

    def layers(self) -> list[Layer]:
        """Return one layer for each layer of the tensor, with views of its keys and values."""
        layers = []
        for pair in self.used.unbind(1):
            layer = Layer()
            layer.update(*pair.unbind(1))
            layers.append(layer)
        return layers

    def reserve(self, layers: Sequence[Layer]) -> None:
        """Make space for one more position, and give each layer the views to write to."""
        num_written = self.num_positions
        if num_written == self.tensor.shape[4]:
            capacity = num_written + max(64, num_written // 4)
            tensor = self.tensor.new_empty((*self.tensor.shape[:4], capacity, self.tensor.shape[5]))
            tensor.narrow(4, 0, num_written).copy_(self.tensor)
            self._use(tensor)
        new_position = self.by_layer.narrow(3, num_written, 1).unbind(1)
        all_positions = self.by_layer.narrow(3, 0, num_written + 1).unbind(1)
        # Keys and values alternate.
        new_keys = new_position[::2]
        new_values = new_position[1::2]
        all_keys = all_positions[::2]
        all_values = all_positions[1::2]
        views = zip(new_keys, new_values, all_keys, all_values, strict=True)
        for layer, views_of_layer in zip(layers, views, strict=True):
            layer.views = views_of_layer
        self.num_positions += 1

    def select(self, index: Tensor) -> "KeyValueStore":
        """Return a copy of the rows in ``index``."""
        return KeyValueStore(self.used.index_select(0, index), self.num_positions)

    def copy(self, source: int, target: int, first: int) -> int:
        """Copy the row ``source`` over the row ``target`` from position ``first`` on.

        Returns:
            The number of bytes written.
        """
        num_positions = self.num_positions - first
        part = self.rows[target].narrow(3, first, num_positions)
        part.copy_(self.rows[source].narrow(3, first, num_positions))
        return part.nbytes


_NEXT_NAME = itertools.count()
"""Gives each new token of each row a name of its own."""


class CachedState:
    """The state of a Hugging Face model: a prompt before the first step, the cache after it.

    ``histories`` lists what each row has read: the number of its prompt, which stands for the first
    ``prompt_length`` positions, and the name of each token since. Rows that share a name share
    everything before it, so that only the positions after it need to be copied.

    Args:
        prompt: the tokens before the last token of each prompt, shape (N, P), int64.
        mask: 1 for tokens and 0 for padding, shape (N, P); ``None`` without padding.
        encoded: the output of the encoder, shape (N, S, size), if the model has an encoder.
    """

    def __init__(self, prompt: Tensor, mask: Tensor | None, encoded: Tensor | None = None):
        self.prompt = prompt
        self.mask = mask
        self.encoded = encoded
        self.cache = new_cache(has_encoder=encoded is not None)
        self.stores: list[KeyValueStore] = []
        self.length = 0
        self.prompt_length = 0
        self.histories = [[item] for item in range(len(prompt))]
        self._all_positions = prompt.new_empty(1, 0)

    def __len__(self) -> int:
        return len(self.histories)

    def contents(self) -> list[Any]:
        """Return everything that a digest of the state must cover."""
        stores = [store.used for store in self.stores]
        return [self.prompt, self.mask, self.encoded, self.length, *stores]

    @property
    def nbytes(self) -> int:
        """The number of bytes of all keys and values."""
        return sum(store.nbytes for store in self.stores)

    def positions(self, num_new: int) -> Tensor:
        """Return the positions of the new tokens; padding does not count."""
        if self.mask is not None:
            return (self.mask.cumsum(dim=1) - 1).clamp_(min=0)[:, -num_new:]
        end = self.length + num_new
        if self._all_positions.shape[1] < end:
            device = self._all_positions.device
            self._all_positions = torch.arange(2 * end, device=device).unsqueeze(0)
        return self._all_positions.narrow(1, self.length, num_new)

    def reserve(self) -> None:
        """Make space for the next token."""
        if self.stores:
            self.stores[0].reserve(parts_of(self.cache)[0].layers)

    def note_call(self, num_new: int) -> None:
        """Note that the model was called and has added ``num_new`` positions to the cache."""
        self.length += num_new
        if not self.stores:
            self.prompt_length = self.length
            self.stores = [KeyValueStore.gather(part.layers) for part in parts_of(self.cache)]
            num_cached = self.stores[0].num_positions
            if num_cached != self.length:
                raise InputError(
                    NEEDS,
                    got=f"{num_cached} positions in the cache after {self.length} tokens",
                    cause="the model drops positions, or caches them elsewhere",
                )
        else:
            for history in self.histories:
                history.append(next(_NEXT_NAME))
        if self.mask is not None and self.encoded is None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)

    @torch.no_grad()
    def select(self, index: Tensor) -> "CachedState":
        """Return a copy of the rows in ``index``."""
        mask = None if self.mask is None else self.mask.index_select(0, index)
        encoded = None if self.encoded is None else self.encoded.index_select(0, index)
        other = CachedState(self.prompt.index_select(0, index), mask, encoded)
        histories = [self.histories[i].copy() for i in index.tolist()]
        return other._filled(self, histories, [store.select(index) for store in self.stores])

    def reorder(self, chosen: list[int]) -> tuple["CachedState", int]:
        """Return the rows in ``chosen`` and the number of bytes written.

        Rows are copied in place if each prompt keeps its rows and no source is overwritten.
        """
        if not torch.is_inference_mode_enabled():
            with torch.inference_mode():
                return self.reorder(chosen)
        moves = [(source, target) for target, source in enumerate(chosen) if source != target]
        if len(chosen) != len(self.histories) or not self._can_move_in_place(chosen, moves):
            other = self.select(torch.tensor(chosen, device=self.prompt.device))
            return other, other.nbytes
        written = 0
        for source, target in moves:
            num_shared = _num_shared(self.histories[source], self.histories[target])
            # The first shared name is the prompt, which is no position of its own.
            first = self.prompt_length + num_shared - 1
            written += self.stores[0].copy(source, target, first)
            self.histories[target] = self.histories[source].copy()
        return self, written

    def _can_move_in_place(self, chosen: list[int], moves: list[tuple[int, int]]) -> bool:
        """True if every source stays where it is and has the same prompt as its target."""
        return all(
            chosen[source] == source and self.histories[source][0] == self.histories[target][0]
            for source, target in moves
        )

    @classmethod
    @torch.no_grad()
    def concat(cls, states: "Sequence[CachedState]") -> "CachedState":
        """Return one state with the rows of several states of the same length."""
        first = states[0]
        prompt = torch.cat([state.prompt for state in states])
        mask = None
        if first.mask is not None:
            mask = torch.cat([state.mask for state in states if state.mask is not None])
        encoded = None
        if first.encoded is not None:
            encoded = torch.cat([state.encoded for state in states if state.encoded is not None])
        histories = [history.copy() for state in states for history in state.histories]
        stores = []
        for same in zip(*(state.stores for state in states), strict=True):
            used = torch.cat([store.used for store in same])
            stores.append(KeyValueStore(used, same[0].num_positions))
        return cls(prompt, mask, encoded)._filled(first, histories, stores)

    def _filled(
        self, like: "CachedState", histories: list[list[int]], stores: list[KeyValueStore]
    ) -> "CachedState":
        """Fill this new state with rows, and with the lengths of another state."""
        self.histories = histories
        self.length = like.length
        self.prompt_length = like.prompt_length
        self._all_positions = like._all_positions
        self.stores = stores
        if stores:
            self.cache = filled_cache([store.layers() for store in stores])
        return self


def _num_shared(history: list[int], other: list[int]) -> int:
    """Return the number of leading names that two histories of one length share."""
    num_shared = len(history)
    while num_shared and history[num_shared - 1] != other[num_shared - 1]:
        num_shared -= 1
    return num_shared


def _check_layers(layers: Sequence[Any]) -> None:
    """Refuse a cache that does not hold keys and values of one shape in every layer."""
    if not layers:
        raise InputError(
            NEEDS,
            got="an empty cache",
            cause="the model ignores the cache that it receives, or has no cache",
        )
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer) or layer.keys is None:
            raise InputError(
                NEEDS,
                got=f"no keys and values in layer {i} of {len(layers)}",
                cause="some layers keep another kind of state, or share that of other layers",
            )
    shape_of_first = tuple(layers[0].keys.shape)
    for i, layer in enumerate(layers):
        for name in ("keys", "values"):
            shape = tuple(getattr(layer, name).shape)
            if shape != shape_of_first or len(shape) != 4:
                raise InputError(
                    NEEDS,
                    got=f"{name} of shape {shape} in layer {i}, "
                    f"keys of shape {shape_of_first} in layer 0",
                    cause="keys, values or layers differ in the size or number of their heads",
                )
