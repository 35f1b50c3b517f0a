"""Settings of ``generation_config``, those that a search follows and those that it ignores."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from leadline import checks
from leadline.errors import InputError

NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "forced_eos_token_id": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "bad_words_ids": ([],),
    "sequence_bias": ({},),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1.0,),
    "watermarking_config": (),
    "length_penalty": (1.0,),
    "force_words_ids": (),
    "constraints": (),
    "diversity_penalty": (0.0,),
    "dola_layers": (),
    "penalty_alpha": (0.0,),
}
"""Settings that change the answers of ``generate`` and that searches ignore, with the values that
have no effect; ``None`` never has one. Settings such as ``num_beams``, which choose a search, are
left out, because they are arguments of a search."""


class GenerationSettings:
    """The settings by which a model generates.

    Args:
        values: ``generation_config`` as a dictionary, completed from ``config``.
    """

    def __init__(self, values: Mapping[str, Any]):
        self.values = values

    @classmethod
    def of(cls, base: Any) -> "GenerationSettings":
        """Return the settings of ``generation_config``, completed from ``config``.

        Raises:
            InputError: ``generation_config`` is neither a GenerationConfig nor a dictionary.
        """
        given = getattr(base, "generation_config", None)
        if given is None:
            values = {}
        elif isinstance(given, Mapping):
            values = dict(given)
        elif hasattr(given, "to_dict"):
            values = dict(given.to_dict())
        else:
            raise InputError(
                "model.generation_config must be a GenerationConfig of transformers",
                got=f"model.generation_config = {checks.shown(given)}",
            )
        names = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "forced_bos_token_id")
        for name in names:
            if values.get(name) is None:
                values[name] = getattr(base.config, name, None)
        return cls(values)

    def start(self, batch: int) -> Tensor:
        """Return the first token of the decoder for each prompt, shape (B,).

        Raises:
            InputError: the model has no start token, or not one for each prompt.
        """
        for name in ("decoder_start_token_id", "bos_token_id"):
            value = self.values.get(name)
            if value is None:
                continue
            argument = f"generation_config.{name}"
            if _is_single(value):
                token = checks.whole_number(_as_number(value), argument, least=0)
                return torch.full((batch,), token)
            tokens = checks.whole_numbers(value, argument, least=0)
            if len(tokens) != batch:
                raise InputError(
                    f"{argument} must be one token, or one token for each prompt",
                    got=f"{len(tokens)} tokens for {batch} prompts",
                )
            return torch.tensor(tokens)
        raise InputError(
            "huggingface() needs the start token of an encoder-decoder model",
            got="generation_config.decoder_start_token_id = None",
            cure="model.generation_config.decoder_start_token_id = tokenizer.bos_token_id",
        )

    def end_tokens(self, base: Any) -> tuple[int, ...]:
        """Return the end tokens that the model can produce, in order."""
        value = self.values.get("eos_token_id")
        if value is None:
            return ()
        listed = [_as_number(value)] if _is_single(value) else value
        tokens = checks.whole_numbers(listed, "generation_config.eos_token_id", at_least=0)
        size = _vocabulary_size(base)
        known = {token for token in tokens if token >= 0 and (size is None or token < size)}
        return tuple(sorted(known))

    def with_forced_start(self, logits: Tensor) -> Tensor:
        """Return the scores of the decoder's first new token.

        If ``forced_bos_token_id`` is set, that token has probability 1 and all others are masked.
        """
        token = self.values.get("forced_bos_token_id")
        if token is None:
            return logits
        name = "generation_config.forced_bos_token_id"
        forced = checks.whole_number(token, name, least=0, most=logits.shape[1] - 1)
        masked = torch.full_like(logits, -torch.inf)
        masked[:, forced] = 0.0
        return masked

    def ignored(self) -> tuple[str, ...]:
        """Return a note on the settings that only ``generate`` follows; empty if none are set."""
        named = []
        for name, neutral_values in NEUTRAL_VALUES.items():
            value = self.values.get(name)
            is_neutral = value is None or any(value == neutral for neutral in neutral_values)
            if not is_neutral:
                named.append(f"{name} = {checks.shown(value)}")
        if not named:
            return ()
        return (f"settings of generation_config are ignored: {', '.join(named)}",)


def _is_single(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    return not isinstance(value, (list, tuple))


def _as_number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _vocabulary_size(base: Any) -> int | None:
    """Return the number of tokens that the model's output layer scores."""
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    weight = getattr(head, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim == 2:
        return len(weight)
    return None
