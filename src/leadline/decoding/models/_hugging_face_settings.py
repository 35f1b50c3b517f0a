"""The settings of ``generation_config``: a search follows some as ``generate`` does, and names those it ignores."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from leadline import checks
from leadline.errors import InputError

NEUTRAL: dict[str, tuple[Any, ...]] = {
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
"""Settings that change the answers of ``generate`` and are not followed, with values that change nothing; ``None``
never does. Those that choose among searches, such as ``num_beams``, are arguments of a search here."""


class Generation:
    """The settings by which a model generates.

    Args:
        settings: ``generation_config`` as a dictionary, those of ``config`` where it says nothing.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = settings

    @classmethod
    def of(cls, base: Any) -> "Generation":
        """Of a model: ``generation_config``, and ``config`` where that says nothing.

        Raises:
            InputError: ``generation_config`` is something else.
        """
        given = getattr(base, "generation_config", None)
        if given is not None and not isinstance(given, Mapping) and not hasattr(given, "to_dict"):
            raise InputError(
                "model.generation_config is a GenerationConfig of transformers",
                got=f"model.generation_config = {checks.shown(given)}",
            )
        settings = (
            {} if given is None else dict(given if isinstance(given, Mapping) else given.to_dict())
        )
        names = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "forced_bos_token_id")
        for name in names:
            if settings.get(name) is None:
                settings[name] = getattr(base.config, name, None)
        return cls(settings)

    def start(self, batch: int) -> Tensor:
        """The first token of the decoder for each row, shape (B,).

        Raises:
            InputError: the model names none.
        """
        for name in ("decoder_start_token_id", "bos_token_id"):
            value = self.settings.get(name)
            if value is None:
                continue
            if isinstance(value, (list, tuple, Tensor)) and not _is_single(value):
                listed = checks.whole_numbers(value, f"generation_config.{name}", least=0)
                if len(listed) != batch:
                    raise InputError(
                        f"generation_config.{name} holds one token, or one for each prompt",
                        got=f"{len(listed)} tokens for {batch} prompts",
                    )
                return torch.tensor(listed)
            return torch.full(
                (batch,), checks.whole_number(_single(value), f"generation_config.{name}", least=0)
            )
        raise InputError(
            "an encoder-decoder model names its start token",
            got="generation_config.decoder_start_token_id = None",
            cure="model.generation_config.decoder_start_token_id = tokenizer.bos_token_id",
        )

    def end_tokens(self, base: Any) -> tuple[int, ...]:
        """The end tokens that the model can produce."""
        value = self.settings.get("eos_token_id")
        if value is None:
            return ()
        listed = [_single(value)] if _is_single(value) else value
        known = _vocabulary(base)
        plain = checks.whole_numbers(listed, "generation_config.eos_token_id", at_least=0)
        return tuple(
            sorted({token for token in plain if token >= 0 and (known is None or token < known)})
        )

    def with_forced_start(self, logits: Tensor) -> Tensor:
        """Scores of the first new token of a decoder: with a forced token, that token alone, with probability 1."""
        token = self.settings.get("forced_bos_token_id")
        if token is None:
            return logits
        forced = checks.whole_number(
            token, "generation_config.forced_bos_token_id", least=0, most=logits.shape[1] - 1
        )
        masked = torch.full_like(logits, -torch.inf)
        masked[:, forced] = 0.0
        return masked

    def ignored(self) -> tuple[str, ...]:
        """The settings that change the answers of ``generate`` and are not followed, in words; none or one text."""
        named = []
        for name, neutral in NEUTRAL.items():
            value = self.settings.get(name)
            if value is not None and not any(value == other for other in neutral):
                named.append(f"{name} = {checks.shown(value)}")
        return (f"settings of generation_config are ignored: {', '.join(named)}",) if named else ()


def _is_single(value: Any) -> bool:
    return not isinstance(value, (list, tuple, Tensor)) or (
        isinstance(value, Tensor) and value.numel() == 1
    )


def _single(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _vocabulary(base: Any) -> int | None:
    """The number of tokens of the model's output."""
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    weight = getattr(head, "weight", None)
    return len(weight) if isinstance(weight, Tensor) and weight.ndim == 2 else None
