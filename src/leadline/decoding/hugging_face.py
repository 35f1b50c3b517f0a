"""Hugging Face models as problems: any causal or encoder-decoder model with a cache.

The prompt is processed once for each item, at the first step. Its keys and values are never reordered afterwards:
hypotheses of one item share them, so that only what was generated since changes places.
"""

import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

from leadline.decoding.problem import Problem, describe
from leadline.errors import InputError


def huggingface(model: Any, input_ids: Tensor, attention_mask: Tensor | None = None) -> Problem:
    """A problem that continues each row of ``input_ids``.

    Args:
        model: a causal language model, or an encoder-decoder model (then ``input_ids`` go to the encoder, and the
            decoder starts from its start token). It is used as it is: put it in evaluation mode first.
        input_ids: prompts, shape (B, P), int64.
        attention_mask: 1 for tokens, 0 for padding, int64 or bool; prompts of causal models are padded on the left.
            Positions are counted from the first token, as ``generate`` counts them.

    Returns:
        A problem whose step function runs the model with a cache.

    Raises:
        InputError: the model is in training mode or keeps more than keys and values, shapes, types or tokens do not
            fit, or padding is on the right.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> with torch.random.fork_rng():
    ...     model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=1, n_head=2)).eval()
    >>> step, state, start = huggingface(model, torch.tensor([[1, 2, 3]]))
    >>> step(start, state)[0].shape
    torch.Size([1, 11])
    """
    _check(model, input_ids, attention_mask)
    if attention_mask is not None:
        attention_mask = None if bool(attention_mask.all()) else attention_mask.long()
    if getattr(model.config, "is_encoder_decoder", False):
        with torch.inference_mode():
            hidden = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        first = _decoder_start(model.config)
        start = torch.full((len(input_ids),), first, dtype=torch.int64, device=input_ids.device)
        return Problem(_Step(model), _Cached(start[:, None][:, :0], attention_mask, hidden), start)
    return Problem(_Step(model), _Cached(input_ids[:, :-1], attention_mask), input_ids[:, -1].clone())


class _Step:
    """The step function; logits of the last position only."""

    normalized = False
    inference = True

    def __init__(self, model: Any):
        self.model = model
        takes = inspect.signature(model.forward).parameters
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self.takes_positions = "position_ids" in takes

    def __call__(self, tokens: Tensor, state: "_Cached") -> tuple[Tensor, "_Cached"]:
        if torch.is_inference_mode_enabled():
            return self._run(tokens, state), state
        with torch.inference_mode():
            logits = self._run(tokens, state)
        return logits.clone(), state  # a tensor like any other, which a processor may change

    def _run(self, tokens: Tensor, state: "_Cached") -> Tensor:
        inputs = tokens.unsqueeze(1)
        if not state.length:
            inputs = torch.cat([state.prompt, inputs], dim=1)
        state.reserve()
        arguments: dict[str, Any] = {"past_key_values": state.cache, "use_cache": True}
        if state.encoded is None:
            arguments |= {"input_ids": inputs, **self.last_only}
            if self.takes_positions:
                arguments["position_ids"] = state.positions(inputs.shape[1])
        else:
            arguments |= {"decoder_input_ids": inputs, "encoder_outputs": (state.encoded,)}
        if state.mask is not None:
            arguments["attention_mask"] = state.mask
        try:
            output = self.model(**arguments)
        except IndexError as error:  # from the table of positions
            _check_room(self.model.config, state.length + inputs.shape[1], error)
            raise
        state.ran(inputs.shape[1])
        try:
            return output.logits[:, -1]
        except AttributeError:
            raise InputError(
                "a language model returns logits",
                got=f"a {type(output).__name__} from a {type(self.model).__name__}",
                cause="the model has no head",
                cure="load it with AutoModelForCausalLM or AutoModelForSeq2SeqLM",
            ) from None


class _Layer(DynamicLayer):
    """Keys and values of one layer; after the prompt they lie in a :class:`_Memory`, where a new token is written."""

    keys: Any
    values: Any
    room: Sequence[Tensor] | None = None
    """Where the next position's keys and values go, and where those of all positions then are."""
    seen = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
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


class _Cache(Cache):
    """Of layers of one kind, which the library would find out anew at every step."""

    def __init__(self):
        super().__init__(layer_class_to_replicate=_Layer)

    @property
    def is_linear(self) -> list[bool]:
        """Attention is not."""
        return [False] * len(self.layers)

    @property
    def is_dummy(self) -> list[bool]:
        """Each layer holds something."""
        return [False] * len(self.layers)


class _Memory:
    """Keys and values of all layers, shape (N, layers, 2, heads, room for positions, size).

    One place for all layers is reordered by one copy, and has room to grow, so that a new token moves nothing.
    """

    def __init__(self, room: Tensor, seen: int):
        self.seen = seen
        self._lie_in(room)

    def _lie_in(self, room: Tensor) -> None:
        self.room, self.rows, self.of_layers = room, room.unbind(0), room.flatten(1, 2)

    @classmethod
    def gather(cls, layers: "Sequence[_Layer]") -> "_Memory":
        """What the layers hold."""
        return cls(torch.stack([torch.stack([x.keys, x.values], dim=1) for x in layers], dim=1), layers[0].seen)

    @property
    def used(self) -> Tensor:
        """The part of the memory that is written."""
        return self.room.narrow(4, 0, self.seen)

    @property
    def nbytes(self) -> int:
        """Bytes of the part that is written."""
        return self.used.nbytes

    def layers(self) -> list[_Layer]:
        """Layers that hold what is written."""
        found: list[_Layer] = []
        for pair in self.used.unbind(1):
            found.append(_Layer())
            found[-1].update(*pair.unbind(1))
        return found

    def reserve(self, layers: "Sequence[_Layer]") -> None:
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

    def select(self, index: Tensor) -> "_Memory":
        """A copy of some rows."""
        return _Memory(self.used.index_select(0, index), self.seen)

    def copy(self, source: int, place: int, first: int) -> int:
        """Write one row over another, from position ``first`` on; bytes written."""
        part = self.rows[place].narrow(3, first, self.seen - first)
        part.copy_(self.rows[source].narrow(3, first, self.seen - first))
        return part.nbytes


_NAMES = itertools.count()


class _Cached:
    """The state: a prompt that was not run yet, or the cache of all that was.

    ``lines`` tells what each row has read: its item, which stands for the prompt's ``fixed`` positions, and a name for
    each token since. Rows that share a name share everything before it, so that only what differs need be copied.
    """

    def __init__(self, prompt: Tensor, mask: Tensor | None, encoded: Tensor | None = None):
        self.prompt, self.mask, self.encoded = prompt, mask, encoded
        self.places = prompt.new_empty(1, 0)
        self.cache: Any = _Cache()
        if encoded is not None:
            self.cache = EncoderDecoderCache(self.cache, _Cache())
        self.memories: list[_Memory] = []
        self.fixed = self.length = 0
        self.lines = [[item] for item in range(len(prompt))]

    def __len__(self) -> int:
        return len(self.lines)

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
            self.fixed, self.memories = self.length, [_Memory.gather(cache.layers) for cache in self._caches()]
        else:
            for line in self.lines:
                line.append(next(_NAMES))
        if self.mask is not None and self.encoded is None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)

    @torch.no_grad()
    def select(self, index: Tensor) -> "_Cached":
        """A copy of some rows."""
        other = self._with(lambda part: part.index_select(0, index), [self.lines[i].copy() for i in index.tolist()])
        return other._holding([memory.select(index) for memory in self.memories])

    def reorder(self, chosen: list[int]) -> tuple["_Cached", int]:
        """The given rows, in place where items keep their rows and what is read stays; and the bytes written."""
        if not torch.is_inference_mode_enabled():
            with torch.inference_mode():
                return self.reorder(chosen)
        lines = self.lines
        moved = [(row, place) for place, row in enumerate(chosen) if row != place]
        # In place only what is not written over itself, and only within an item.
        if len(chosen) != len(lines) or not all(chosen[i] == i and lines[i][0] == lines[j][0] for i, j in moved):
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
    def concat(cls, states: "Sequence[_Cached]") -> "_Cached":
        """The rows of several states of one length."""
        other = states[0]._with(lambda part: part, [line.copy() for state in states for line in state.lines])
        for name in ("prompt", "mask", "encoded"):
            if getattr(other, name) is not None:
                setattr(other, name, torch.cat([getattr(state, name) for state in states]))
        columns = zip(*(state.memories for state in states), strict=True)
        return other._holding([_Memory(torch.cat([x.used for x in same]), same[0].seen) for same in columns])

    def _with(self, function: Callable[[Tensor], Tensor], lines: list[list[int]]) -> "_Cached":
        """The same with each tensor changed, and an empty cache."""
        mask, encoded = (None if part is None else function(part) for part in (self.mask, self.encoded))
        other = _Cached(function(self.prompt), mask, encoded)
        other.lines, other.fixed, other.length, other.places = lines, self.fixed, self.length, self.places
        return other

    def _holding(self, memories: list[_Memory]) -> "_Cached":
        self.memories = memories
        for cache, memory in zip(self._caches(), memories, strict=False):
            cache.layers.extend(memory.layers())
        if isinstance(self.cache, EncoderDecoderCache):  # it must be told that the encoder was seen
            self.cache = EncoderDecoderCache(*self._caches())
        return self

    def _caches(self) -> list[Any]:
        is_pair = isinstance(self.cache, EncoderDecoderCache)
        return [self.cache.self_attention_cache, self.cache.cross_attention_cache] if is_pair else [self.cache]


def _shared(line: list[int], other: list[int]) -> int:
    """How many names two lines of one length have in common, which are their first ones."""
    shared = len(line)
    while shared and line[shared - 1] != other[shared - 1]:
        shared -= 1
    return shared


def _decoder_start(config: Any) -> int:
    for name in ("decoder_start_token_id", "bos_token_id"):
        if getattr(config, name, None) is not None:
            return int(getattr(config, name))
    raise InputError("an encoder-decoder model names its start token", got="config.decoder_start_token_id = None")


ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers whose keys and values are kept for all positions; windows are a matter of the model's mask."""


def _check_layers(config: Any) -> None:
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    others = sorted(set(getattr(text, "layer_types", None) or ()) - ATTENTION)
    if others:
        raise InputError(
            "a Hugging Face model keeps keys and values, and nothing else, of what it has read",
            got=f"layers of type {', '.join(others)}",
            cause="a state-space or linear-attention model",
            cure="write a step function whose state is the model's own: decoding.Problem(step, state, start)",
        )


def _check_room(config: Any, length: int, error: IndexError) -> None:
    room = getattr(config, "max_position_embeddings", None)
    if room is not None and length > room:
        raise InputError(
            f"this model has {room} positions for prompt and new tokens together",
            got=f"token {length}",
            cause="its positions are learned, and there are no more",
            cure="a smaller max_length, or a shorter prompt",
        ) from error


def _check(model: Any, input_ids: Tensor, mask: Tensor | None) -> None:
    if getattr(model, "training", False):
        raise InputError(
            "a model is decoded in evaluation mode",
            got="model.training = True",
            cause="dropout would change every score",
            cure="call model.eval() first",
        )
    _check_layers(model.config)
    fits = isinstance(input_ids, Tensor) and input_ids.ndim == 2 and input_ids.dtype == torch.int64
    if not fits or not input_ids.numel():
        raise InputError(
            "input_ids holds B prompts of P tokens: a tensor of shape (B, P), int64, neither 0",
            got=describe(input_ids),
            cure="tokenizer(prompts, return_tensors='pt', padding=True)['input_ids']",
        )
    embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    known = getattr(embeddings, "num_embeddings", None)
    if known is not None and not 0 <= int(input_ids.min()) <= int(input_ids.max()) < known:
        wrong = (input_ids < 0) | (input_ids >= known)
        item, place = wrong.nonzero()[0].tolist()
        raise InputError(
            f"prompts are made of the {known} tokens that the model knows",
            got=f"input_ids[{item}, {place}] = {int(input_ids[item, place])}",
            cause="the tokenizer is another model's, or tokens were added to it",
        )
    if mask is not None and (mask.shape != input_ids.shape or mask.dtype not in (torch.int64, torch.bool)):
        raise InputError(
            "attention_mask has the shape of input_ids, int64 or bool",
            got=f"{describe(mask)} for {describe(input_ids)}",
        )
    if mask is not None and not bool(mask.any(dim=1).all()):
        raise InputError(
            "a prompt has a token or more",
            got=f"attention_mask[{int((~mask.any(dim=1)).nonzero()[0])}] is 0 everywhere",
            cause="an empty text was tokenized",
        )
    if mask is not None and not getattr(model.config, "is_encoder_decoder", False) and not bool(mask[:, -1].all()):
        raise InputError(
            "prompts of a causal model are padded on the left",
            got=f"attention_mask[{int((mask[:, -1] == 0).nonzero()[0])}, -1] = 0",
            cause="the tokenizer pads on the right",
            cure="tokenizer.padding_side = 'left'",
        )
