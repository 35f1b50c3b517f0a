"""Checks of a Hugging Face model and of its prompts, before the model runs."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from leadline.checks import shown
from leadline.decoding.models._hugging_face_cache import NEEDS
from leadline.decoding.problem._problem import describe
from leadline.errors import InputError
from leadline.torch_internals import uncompiled

ATTENTION_TYPES = {"attention", "full_attention", "sliding_attention", "chunked_attention"}
"""Layer types whose cache holds keys and values of all positions; the mask restricts windows."""

STATE_NAMES = (
    "mamba",
    "ssm",
    "linear",
    "recurrent",
    "conv",
    "rwkv",
    "delta",
    "lightning",
    "hybrid",
)
"""Parts of the names of layer types that keep a state in place of keys and values."""

CURE = (
    "write a step function that returns the model's own state: decoding.Problem(step, state, start)"
)


def base_model(model: Any) -> PreTrainedModel:
    """Return the model of transformers that ``model`` is or wraps.

    Raises:
        InputError: there is none.
    """
    if isinstance(model, PreTrainedModel):
        return model
    if isinstance(model, nn.Module):
        modules = list(model.modules())
    else:
        attributes = getattr(model, "__dict__", {}).values() if callable(model) else ()
        modules = [value for value in attributes if isinstance(value, nn.Module)]
    for module in modules:
        if isinstance(module, PreTrainedModel):
            return module
    is_name = isinstance(model, str)
    raise InputError(
        "model must be a language model of transformers",
        got=f"model = {shown(model)}",
        cause="huggingface() does not load a model by its name"
        if is_name
        else "it contains no model of transformers",
        cure="AutoModelForCausalLM.from_pretrained(name).eval()"
        if is_name
        else "write a step function: decoding.Problem(step, state, start)",
    )


def accepted_arguments(model: Any, base: PreTrainedModel) -> set[str]:
    """Return the names of the arguments that reach the model of transformers.

    A ``forward`` with ``**kwargs`` passes on unnamed arguments, to its parent class and to the
    model that it wraps.
    """
    names, passes_on = _named_arguments(uncompiled(model))
    if model is not base and passes_on:
        names |= _named_arguments(base)[0]
    return names


def _named_arguments(model: Any) -> tuple[set[str], bool]:
    """Return the arguments that a model names, and whether it passes on others.

    The arguments of parent classes count if the classes below pass on others.
    """
    forwards = [model.forward if hasattr(model, "forward") else model.__call__]
    parents = [kind for kind in type(model).__mro__ if kind is not nn.Module]
    forwards += [vars(kind)["forward"] for kind in parents if "forward" in vars(kind)]
    names: set[str] = set()
    passes_on = False
    for i, forward in enumerate(forwards):
        try:
            parameters = inspect.signature(forward).parameters
        except (TypeError, ValueError):
            break
        names |= set(parameters)
        takes_others = any(
            parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
        )
        if i == 0:
            passes_on = takes_others
        if not takes_others:
            break
    return names, passes_on


def check_model(model: Any, base: PreTrainedModel) -> None:
    """Refuse a model in training mode, without a cache of keys and values, or of other inputs."""
    if base.training or getattr(model, "training", False):
        raise InputError(
            "huggingface() needs a model in evaluation mode",
            got="model.training = True",
            cause="dropout would change every score",
            cure="call model.eval() first",
        )
    input_name = base.main_input_name
    if getattr(base.config, "is_encoder_decoder", False):
        input_name = getattr(base.get_encoder(), "main_input_name", input_name)
    if input_name != "input_ids":
        raise InputError(
            "huggingface() needs a model of text, which reads input_ids",
            got=f"a {type(base).__name__}, whose encoder reads {input_name}",
            cure="write a step function whose state holds the encoder's output: "
            "decoding.Problem(step, state, start)",
        )
    text = base.config.get_text_config(decoder=True)
    layer_types: set[str] = set()
    for name in ("layer_types", "layers_block_type"):
        layer_types |= set(getattr(text, name, None) or ())
    others = sorted(layer_types - ATTENTION_TYPES)
    if others:
        has_state = any(part in layer_type for layer_type in others for part in STATE_NAMES)
        raise InputError(
            NEEDS,
            got=f"layers of type {', '.join(others)} in a {type(base).__name__}",
            cause="a state-space or linear-attention model"
            if has_state
            else "attention with a cache of its own kind",
            cure=CURE,
        )


def check_length(config: Any, length: int, error: IndexError) -> None:
    """Refuse more tokens than a model has positions; return if the error has another cause."""
    most = getattr(config, "max_position_embeddings", None)
    if most is not None and length > most:
        raise InputError(
            f"this model has {most} positions for prompt and new tokens together",
            got=f"token {length}",
            cause="its positions are learned, so that it has no further ones",
            cure="a smaller max_length, or a shorter prompt",
        ) from error


def check_prompts(base: PreTrainedModel, input_ids: Any) -> None:
    """Refuse prompts of another shape or type, and tokens outside the model's vocabulary."""
    is_matrix = (
        isinstance(input_ids, Tensor) and input_ids.ndim == 2 and input_ids.dtype == torch.int64
    )
    if not is_matrix or not _has_numbers(input_ids) or not input_ids.numel():
        is_dictionary = isinstance(input_ids, Mapping)
        raise InputError(
            "input_ids must be a tensor of B prompts of P tokens: shape (B, P), int64, not empty",
            got=describe(input_ids),
            cure="huggingface(model, **tokens)"
            if is_dictionary
            else "tokenizer(prompts, return_tensors='pt', padding=True)['input_ids']",
        )
    size = getattr(base.get_input_embeddings(), "num_embeddings", None)
    if size is None:
        return
    is_outside = (input_ids < 0) | (input_ids >= size)
    if is_outside.any():
        item, place = is_outside.nonzero()[0].tolist()
        raise InputError(
            f"input_ids must hold tokens of the model's vocabulary of {size} tokens",
            got=f"input_ids[{item}, {place}] = {int(input_ids[item, place])}",
            cause="the tokenizer belongs to another model, or tokens were added to it",
        )


def check_mask(base: PreTrainedModel, input_ids: Tensor, mask: Any, others: dict[str, Any]) -> None:
    """Refuse a mask that does not fit the prompts, and other outputs of a tokenizer."""
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
    is_like_prompts = (
        isinstance(mask, Tensor)
        and mask.shape == input_ids.shape
        and mask.dtype in (torch.int64, torch.bool)
        and _has_numbers(mask)
    )
    if not is_like_prompts or not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(
            "attention_mask must have the shape of input_ids, int64 or bool, and hold 0 and 1",
            got=f"{describe(mask)} for {describe(input_ids)}",
        )
    is_empty = ~mask.any(dim=1)
    if is_empty.any():
        raise InputError(
            "attention_mask must be 1 for at least one token of each prompt",
            got=f"attention_mask[{int(is_empty.nonzero()[0])}] is 0 everywhere",
            cause="an empty text was tokenized",
        )
    if getattr(base.config, "is_encoder_decoder", False):
        return
    ends_with_padding = mask[:, -1] == 0
    if ends_with_padding.any():
        raise InputError(
            "prompts of a causal model must be padded on the left",
            got=f"attention_mask[{int(ends_with_padding.nonzero()[0])}, -1] = 0",
            cause="the tokenizer pads on the right",
            cure="tokenizer.padding_side = 'left'",
        )
    falls = mask.long().diff(dim=1) < 0
    if falls.any():
        item, place = falls.nonzero()[0].tolist()
        raise InputError(
            "attention_mask must be 0 on the left of a prompt and 1 from its first token on",
            got=f"attention_mask[{item}, {place + 1}] = 0 after a token",
            cure="leave padding out, or put it before the prompt",
        )


def _has_numbers(tensor: Tensor) -> bool:
    """True if a tensor is dense and not on the meta device."""
    return tensor.layout is torch.strided and not tensor.is_meta
