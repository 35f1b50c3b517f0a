"""The door of Hugging Face models: the model inside a wrapper, and prompts that fit it."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from leadline.checks import shown
from leadline.decoding.models._hugging_face_cache import NEEDS
from leadline.decoding.models._problem import describe
from leadline.errors import InputError
from leadline.torch_internals import uncompiled

ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers whose keys and values are kept for all positions; windows are a matter of the model's mask."""

STATES = ("mamba", "ssm", "linear", "recurrent", "conv", "rwkv", "delta", "lightning", "hybrid")
"""Parts of the names of layers that keep a state and no keys and values."""


def base_model(model: Any) -> PreTrainedModel:
    """The model of transformers that ``model`` is, or that it wraps: an adapter, ``torch.compile``, ``DataParallel``.

    Raises:
        InputError: there is none.
    """
    if isinstance(model, PreTrainedModel):
        return model
    if isinstance(model, nn.Module):
        inside = model.modules()
    else:
        held = list(getattr(model, "__dict__", {}).values()) if callable(model) else []
        inside = (one for one in held if isinstance(one, nn.Module))
    for module in inside:
        if isinstance(module, PreTrainedModel):
            return module
    raise InputError(
        "model must be a language model of transformers",
        got=f"model = {shown(model)}",
        cause="a name is not loaded"
        if isinstance(model, str)
        else "it contains no model of transformers",
        cure="AutoModelForCausalLM.from_pretrained(name).eval()"
        if isinstance(model, str)
        else "write a step function: decoding.Problem(step, state, start)",
    )


def accepted(model: Any, base: PreTrainedModel) -> set[str]:
    """Names of the arguments that reach the model inside. A ``forward`` with ``**kwargs`` passes on what it does not
    name: to its parent class, and to the model that it wraps."""
    names, passes_on = _named(uncompiled(model))
    if model is not base and passes_on:
        names |= _named(base)[0]
    return names


def _named(model: Any) -> tuple[set[str], bool]:
    """Arguments that a model names, with those of its parent classes if it passes on others; and if it does."""
    own = [model.forward] if hasattr(model, "forward") else [model.__call__]
    kinds = [kind for kind in type(model).__mro__ if kind is not nn.Module]
    names: set[str] = set()
    passes_on = False
    for place, forward in enumerate(
        own + [vars(kind)["forward"] for kind in kinds if "forward" in vars(kind)]
    ):
        try:
            parameters = inspect.signature(forward).parameters
        except (TypeError, ValueError):
            break
        names |= set(parameters)
        takes_more = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        passes_on |= takes_more and not place
        if not takes_more:
            break
    return names, passes_on


def check_model(model: Any, base: PreTrainedModel) -> None:
    """Refuse a model in training mode, one whose layers keep other states, and one that does not read text."""
    if base.training or getattr(model, "training", False):
        raise InputError(
            "a model is decoded in evaluation mode",
            got="model.training = True",
            cause="dropout would change every score",
            cure="call model.eval() first",
        )
    reads = base.main_input_name
    if getattr(base.config, "is_encoder_decoder", False):
        reads = getattr(base.get_encoder(), "main_input_name", reads)
    if reads != "input_ids":
        raise InputError(
            "huggingface() continues text: the model reads input_ids",
            got=f"a {type(base).__name__}, whose encoder reads {reads}",
            cure="write a step function whose state holds the encoder's output: decoding.Problem(step, state, start)",
        )
    text = base.config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ()) | set(
        getattr(text, "layers_block_type", None) or ()
    )
    others = sorted(kinds - ATTENTION - {"attention"})
    if others:
        is_state = any(part in kind for kind in others for part in STATES)
        raise InputError(
            NEEDS,
            got=f"layers of type {', '.join(others)} in a {type(base).__name__}",
            cause="a state-space or linear-attention model"
            if is_state
            else "attention with a cache of its own kind",
            cure="write a step function whose state is the model's own: decoding.Problem(step, state, start)",
        )


def check_room(config: Any, length: int, error: IndexError) -> None:
    """Refuse more tokens than a model has positions; an error of another cause passes."""
    room = getattr(config, "max_position_embeddings", None)
    if room is not None and length > room:
        raise InputError(
            f"this model has {room} positions for prompt and new tokens together",
            got=f"token {length}",
            cause="its positions are learned, and there are no more",
            cure="a smaller max_length, or a shorter prompt",
        ) from error


def check_prompts(base: PreTrainedModel, input_ids: Any) -> None:
    """Refuse prompts of another shape or type, and tokens that the model does not know."""
    fits = isinstance(input_ids, Tensor) and input_ids.ndim == 2 and input_ids.dtype == torch.int64
    fits = fits and input_ids.layout is torch.strided and not input_ids.is_meta
    if not fits or not input_ids.numel():
        is_dictionary = isinstance(input_ids, Mapping)
        raise InputError(
            "input_ids holds B prompts of P tokens: a tensor of shape (B, P), int64, neither 0",
            got=describe(input_ids),
            cure="huggingface(model, **tokens)"
            if is_dictionary
            else "tokenizer(prompts, return_tensors='pt', padding=True)['input_ids']",
        )
    known = getattr(base.get_input_embeddings(), "num_embeddings", None)
    if known is not None and not 0 <= int(input_ids.min()) <= int(input_ids.max()) < known:
        wrong = (input_ids < 0) | (input_ids >= known)
        item, place = wrong.nonzero()[0].tolist()
        raise InputError(
            f"prompts are made of the {known} tokens that the model knows",
            got=f"input_ids[{item}, {place}] = {int(input_ids[item, place])}",
            cause="the tokenizer is another model's, or tokens were added to it",
        )


def check_mask(base: PreTrainedModel, input_ids: Tensor, mask: Any, others: dict[str, Any]) -> None:
    """Refuse a mask of another shape, type or side, and further outputs of a tokenizer that would be ignored."""
    for name, value in others.items():
        is_zero = name == "token_type_ids" and isinstance(value, Tensor) and not bool(value.any())
        if not is_zero:
            raise InputError(
                "huggingface() takes input_ids and attention_mask; token_type_ids must be 0",
                got=f"{name} = {shown(value)}",
                cure="huggingface(model, tokens['input_ids'], tokens['attention_mask'])",
            )
    if mask is None:
        return
    fits = (
        isinstance(mask, Tensor)
        and mask.shape == input_ids.shape
        and mask.dtype in (torch.int64, torch.bool)
    )
    fits = fits and mask.layout is torch.strided and not mask.is_meta
    if not fits or not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(
            "attention_mask has the shape of input_ids, int64 or bool, and holds 0 and 1",
            got=f"{describe(mask)} for {describe(input_ids)}",
        )
    if not bool(mask.any(dim=1).all()):
        raise InputError(
            "a prompt has a token or more",
            got=f"attention_mask[{int((~mask.any(dim=1)).nonzero()[0])}] is 0 everywhere",
            cause="an empty text was tokenized",
        )
    if getattr(base.config, "is_encoder_decoder", False):
        return
    if not bool(mask[:, -1].all()):
        raise InputError(
            "prompts of a causal model are padded on the left",
            got=f"attention_mask[{int((mask[:, -1] == 0).nonzero()[0])}, -1] = 0",
            cause="the tokenizer pads on the right",
            cure="tokenizer.padding_side = 'left'",
        )
    if bool((mask.long().diff(dim=1) < 0).any()):
        item, place = (mask.long().diff(dim=1) < 0).nonzero()[0].tolist()
        raise InputError(
            "attention_mask is 0 on the left of a prompt and 1 from its first token on",
            got=f"attention_mask[{item}, {place + 1}] = 0 behind a token",
            cure="leave padding out, or put it before the prompt",
        )
