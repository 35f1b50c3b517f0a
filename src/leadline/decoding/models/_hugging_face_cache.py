"""Keys and values of a Hugging Face model, in one memory for all layers; rows are copied only where they differ."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

from leadline.errors import InputError

NEEDS = "a Hugging Face model that is searched keeps keys and values of one shape, and nothing else"


class Layer(DynamicLayer):
    """Keys and values of one layer; after the prompt they lie in a :class:`Memory`, where a new token is written."""

    keys: Any
    values: Any
    room: Sequence[Tensor] | None = None
    """Where the next position's keys and values go, and where those of all positions then are."""
    seen = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Append; returns all keys and all values."""
        if self.room is None:
            self.keys, self.values = key_states, value_states
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.seen = key_states.shape[-2]
        else:
            new_keys, new_values, self.keys, self.values = self.room
            new_keys.copy_(key_states)
            new_values.copy_(value_states)
            self.seen += 1
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Positions so far."""
        return self.seen


class AttentionCache(Cache):
    """Of layers of one kind, which the library would find out anew at every step."""

    def __init__(self):
        super().__init__(layer_class_to_replicate=Layer)

    @property
    def is_linear(self) -> list[bool]:
        """Attention is not."""
        return [False] * len(self.layers)

    @property
    def is_dummy(self) -> list[bool]:
        """Each layer holds something."""
        return [False] * len(self.layers)


class Memory:
    """Keys and values of all layers, shape (N, layers, 2, heads, room for positions, size).

    One place for all layers is reordered by one copy, and has room to grow, so that a new token moves nothing.
    """

    def __init__(self, room: Tensor, seen: int):
        self.seen = seen
        self._lie_in(room)

    def _lie_in(self, room: Tensor) -> None:
        self.room, self.rows, self.of_layers = room, room.unbind(0), room.flatten(1, 2)

    @classmethod
    def gather(cls, layers: "Sequence[Layer]") -> "Memory":
        """What the layers hold.

        Raises:
            InputError: the layers hold no keys and values of one shape.
        """
        _check_layers(layers)
        return cls(
            torch.stack([torch.stack([x.keys, x.values], dim=1) for x in layers], dim=1),
            layers[0].seen,
        )

    @property
    def used(self) -> Tensor:
        """The part of the memory that is written."""
        return self.room.narrow(4, 0, self.seen)

    @property
    def nbytes(self) -> int:
        """Bytes of the part that is written."""
        return self.used.nbytes

    def layers(self) -> list[Layer]:
        """Layers that hold what is written."""
        found: list[Layer] = []
        for pair in self.used.unbind(1):
            found.append(Layer())
            found[-1].update(*pair.unbind(1))
        return found

    def reserve(self, layers: "Sequence[Layer]") -> None:
        """Make room for one more position, and tell the layers where it is."""
        if self.seen == self.room.shape[4]:
            shape = (*self.room.shape[:4], self.seen + max(64, self.seen // 4), self.room.shape[5])
            room = self.room.new_empty(shape)
            room.narrow(4, 0, self.seen).copy_(self.room)
            self._lie_in(room)
        new = self.of_layers.narrow(3, self.seen, 1).unbind(1)
        every = self.of_layers.narrow(3, 0, self.seen + 1).unbind(1)
        for layer, *room in zip(layers, new[::2], new[1::2], every[::2], every[1::2], strict=True):
            layer.room = room
        self.seen += 1

    def select(self, index: Tensor) -> "Memory":
        """A copy of some rows."""
        return Memory(self.used.index_select(0, index), self.seen)

    def copy(self, source: int, place: int, first: int) -> int:
        """Write one row over another, from position ``first`` on; bytes written."""
        part = self.rows[place].narrow(3, first, self.seen - first)
        part.copy_(self.rows[source].narrow(3, first, self.seen - first))
        return part.nbytes


_NAMES = itertools.count()


class Cached:
    """The state: a prompt that was not run yet, or the cache of all that was.

    ``lines`` tells what each row has read: its item, which stands for the prompt's ``fixed`` positions, and a name for
    each token since. Rows that share a name share everything before it, so that only what differs need be copied.
    """

    def __init__(self, prompt: Tensor, mask: Tensor | None, encoded: Tensor | None = None):
        self.prompt, self.mask, self.encoded = prompt, mask, encoded
        self.places = prompt.new_empty(1, 0)
        self.cache: Any = AttentionCache()
        if encoded is not None:
            self.cache = EncoderDecoderCache(self.cache, AttentionCache())
        self.memories: list[Memory] = []
        self.fixed = self.length = 0
        self.lines = [[item] for item in range(len(prompt))]

    def __len__(self) -> int:
        return len(self.lines)

    def contents(self) -> list[Any]:
        """All that a digest of the state must cover."""
        return [
            self.prompt,
            self.mask,
            self.encoded,
            self.length,
            *(memory.used for memory in self.memories),
        ]

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(memory.nbytes for memory in self.memories)

    def positions(self, new: int) -> Tensor:
        """Where the new tokens stand; padding does not count."""
        if self.mask is not None:
            return (self.mask.cumsum(dim=1) - 1).clamp_(min=0)[:, -new:]
        end = self.length + new
        if self.places.shape[1] < end:
            self.places = torch.arange(2 * end, device=self.places.device).unsqueeze(0)
        return self.places.narrow(1, self.length, new)

    def reserve(self) -> None:
        """Make room for the next token."""
        if self.memories:
            self.memories[0].reserve(self._caches()[0].layers)

    def ran(self, new: int) -> None:
        """Note that so many positions were added."""
        self.length += new
        if not self.memories:
            self.fixed = self.length
            self.memories = [Memory.gather(cache.layers) for cache in self._caches()]
            if self.memories[0].seen != self.length:
                raise InputError(
                    NEEDS,
                    got=f"{self.memories[0].seen} positions in the cache after {self.length} tokens",
                    cause="the model keeps a part of what it has read, or keeps it elsewhere",
                )
        else:
            for line in self.lines:
                line.append(next(_NAMES))
        if self.mask is not None and self.encoded is None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)

    @torch.no_grad()
    def select(self, index: Tensor) -> "Cached":
        """A copy of some rows."""
        other = self._with(
            lambda part: part.index_select(0, index), [self.lines[i].copy() for i in index.tolist()]
        )
        return other._holding([memory.select(index) for memory in self.memories])

    def reorder(self, chosen: list[int]) -> tuple["Cached", int]:
        """The given rows, in place where items keep their rows and what is read stays; and the bytes written."""
        if not torch.is_inference_mode_enabled():
            with torch.inference_mode():
                return self.reorder(chosen)
        lines = self.lines
        moved = [(row, place) for place, row in enumerate(chosen) if row != place]
        # In place only what is not written over itself, and only within an item.
        if len(chosen) != len(lines) or not all(
            chosen[i] == i and lines[i][0] == lines[j][0] for i, j in moved
        ):
            other = self.select(torch.tensor(chosen, device=self.prompt.device))
            return other, other.nbytes
        written = 0
        for row, place in moved:
            shared = _shared(lines[row], lines[place])  # with the item, which is no position
            written += self.memories[0].copy(row, place, self.fixed + shared - 1)
            lines[place] = lines[row].copy()
        return self, written

    @classmethod
    @torch.no_grad()
    def concat(cls, states: "Sequence[Cached]") -> "Cached":
        """The rows of several states of one length."""
        other = states[0]._with(
            lambda part: part, [line.copy() for state in states for line in state.lines]
        )
        for name in ("prompt", "mask", "encoded"):
            if getattr(other, name) is not None:
                setattr(other, name, torch.cat([getattr(state, name) for state in states]))
        columns = zip(*(state.memories for state in states), strict=True)
        return other._holding(
            [Memory(torch.cat([x.used for x in same]), same[0].seen) for same in columns]
        )

    def _with(self, function: Callable[[Tensor], Tensor], lines: list[list[int]]) -> "Cached":
        """The same with each tensor changed, and an empty cache."""
        mask, encoded = (
            None if part is None else function(part) for part in (self.mask, self.encoded)
        )
        other = Cached(function(self.prompt), mask, encoded)
        other.lines, other.fixed, other.length, other.places = (
            lines,
            self.fixed,
            self.length,
            self.places,
        )
        return other

    def _holding(self, memories: list[Memory]) -> "Cached":
        self.memories = memories
        for cache, memory in zip(self._caches(), memories, strict=False):
            cache.layers.extend(memory.layers())
        if isinstance(self.cache, EncoderDecoderCache):  # it must be told that the encoder was seen
            self.cache = EncoderDecoderCache(*self._caches())
        return self

    def _caches(self) -> list[Any]:
        is_pair = isinstance(self.cache, EncoderDecoderCache)
        return (
            [self.cache.self_attention_cache, self.cache.cross_attention_cache]
            if is_pair
            else [self.cache]
        )


def _shared(line: list[int], other: list[int]) -> int:
    """How many names two lines of one length have in common, which are their first ones."""
    shared = len(line)
    while shared and line[shared - 1] != other[shared - 1]:
        shared -= 1
    return shared


def _check_layers(layers: Sequence[Any]) -> None:
    """Refuse a cache that does not hold keys and values of one shape in every layer."""
    if not layers:
        raise InputError(
            NEEDS,
            got="an empty cache",
            cause="the model does not use the cache that it is given, or none at all",
        )
    empty = [
        i for i, layer in enumerate(layers) if not isinstance(layer, Layer) or layer.keys is None
    ]
    if empty:
        raise InputError(
            NEEDS,
            got=f"no keys and values in layer {empty[0]} of {len(layers)}",
            cause="some layers keep another kind of state, or share that of others",
        )
    first = layers[0]
    for i, layer in enumerate(layers):
        for name in ("keys", "values"):
            shape = tuple(getattr(layer, name).shape)
            if shape != tuple(first.keys.shape) or len(shape) != 4:
                raise InputError(
                    NEEDS,
                    got=f"{name} of shape {shape} in layer {i}, keys of shape {tuple(first.keys.shape)} in layer 0",
                    cause="its heads differ in size or number between keys, values or layers",
                )
