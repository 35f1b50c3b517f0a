"""Hugging Face models as problems: any causal or encoder-decoder model with a cache.

The prompt is processed once for each item, at the first step. Its keys and values are never reordered afterwards:
hypotheses of one item share them, so that only what was generated since changes places.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from leadline.decoding.models._hugging_face_cache import Cached
from leadline.decoding.models._hugging_face_checks import (
    accepted,
    base_model,
    check_mask,
    check_model,
    check_prompts,
    check_room,
)
from leadline.decoding.models._hugging_face_probe import Probe, probe
from leadline.decoding.models._hugging_face_settings import Generation
from leadline.decoding.models._problem import Problem, refuse_state
from leadline.errors import InputError
from leadline.torch_internals import uncompiled


def huggingface(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None = None, **others: Any
) -> Problem:
    """A problem that continues each row of ``input_ids``.

    Wrapped models work too: adapters, ``torch.compile`` and ``DataParallel``. As ``generate`` does, the decoder of an
    encoder-decoder model starts from ``generation_config.decoder_start_token_id`` and begins with
    ``forced_bos_token_id``. ``step.eos`` holds the end tokens, for ``eos``; ``step.ignored`` names the other settings
    of ``generation_config`` that are not followed, and the verdict of every search repeats them.

    Args:
        model: a causal language model, or an encoder-decoder model (then ``input_ids`` go to the encoder, and the
            decoder starts from its start token). It is used as it is: put it in evaluation mode first.
        input_ids: prompts, shape (B, P), int64.
        attention_mask: 1 for tokens, 0 for padding, int64 or bool; prompts of causal models are padded on the left.
            Positions are counted from the first token, as ``generate`` counts them.
        others: further outputs of a tokenizer; ``token_type_ids`` must be 0.

    Returns:
        A problem whose step function runs the model with a cache.

    Raises:
        InputError: the model is in training mode or cannot be searched (its cache holds more than keys and values of
            one shape, or it gives other scores with the cache than without), shapes, types or tokens do not fit, or
            padding is on the right or changes the scores.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> with torch.random.fork_rng():
    ...     model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=1, n_head=2)).eval()
    >>> step, state, start = huggingface(model, torch.tensor([[1, 2, 3]]))
    >>> step(start, state)[0].shape
    torch.Size([1, 11])
    """
    base = base_model(model)
    check_model(model, base)
    check_prompts(base, input_ids)
    check_mask(base, input_ids, attention_mask, others)
    if attention_mask is not None:
        attention_mask = None if bool(attention_mask.all()) else attention_mask.long()
    found = probe(_Runner(model, base), input_ids, is_padded=attention_mask is not None)
    runner = _Runner(model, base, found)
    return _problem(runner, input_ids, attention_mask)


def _problem(runner: "_Runner", input_ids: Tensor, mask: Tensor | None) -> Problem:
    if not runner.has_encoder:
        if mask is None and runner.needs_mask:
            mask = torch.ones_like(input_ids)
        return Problem(runner, Cached(input_ids[:, :-1], mask), input_ids[:, -1].clone())
    start = runner.generation.start(len(input_ids)).to(input_ids.device)
    return Problem(
        runner, Cached(start[:, None][:, :0], mask, runner.encode(input_ids, mask)), start
    )


class _Runner:
    """The step function; logits of the last position only.

    Args:
        model: the model that is called.
        base: the model of transformers inside, if ``model`` wraps it.
        found: what a trial run has shown; without it, the runner is for that trial run.
    """

    normalized = False
    inference = True

    def __init__(self, model: Any, base: Any, found: Probe | None = None):
        self.is_trial = found is None
        self.model = uncompiled(model) if self.is_trial else model
        self.base = base
        self.takes = accepted(model, base)
        self.has_encoder = bool(getattr(base.config, "is_encoder_decoder", False))
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in self.takes else {}
        self.takes_positions = "position_ids" in self.takes and not self.has_encoder
        self.needs_mask = found is not None and found.needs_mask
        self.encoder_output: Any = BaseModelOutput
        self.generation = Generation.of(base)
        self.eos = self.generation.end_tokens(base)
        self.ignored = self.generation.ignored()

    def behind(self, state: Any) -> tuple[Any, Any]:
        """The model, and the state."""
        return self.model, state

    @torch.inference_mode()
    def encode(self, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        """Run the encoder."""
        output = self.base.get_encoder()(input_ids=input_ids, attention_mask=mask)
        self.encoder_output = type(output)
        return output.last_hidden_state

    def encoded(self, hidden: Tensor) -> Any:
        """Hidden states as an output of the encoder."""
        return self.encoder_output(last_hidden_state=hidden)

    def __call__(self, tokens: Tensor, state: Cached) -> tuple[Tensor, Cached]:
        if not isinstance(state, Cached):
            refuse_state("Hugging Face model", state)
        if torch.is_inference_mode_enabled():
            return self._run(tokens, state), state
        with torch.inference_mode():
            logits = self._run(tokens, state)
        return logits.clone(), state  # a tensor like any other, which a processor may change

    def _run(self, tokens: Tensor, state: Cached) -> Tensor:
        inputs = tokens.unsqueeze(1)
        is_first = not state.length
        if is_first:
            inputs = torch.cat([state.prompt, inputs], dim=1)
        state.reserve()
        arguments: dict[str, Any] = {"past_key_values": state.cache, "use_cache": True}
        if state.encoded is None:
            arguments |= {"input_ids": inputs, **self.last_only}
            if self.takes_positions:
                arguments["position_ids"] = state.positions(inputs.shape[1])
        else:
            arguments |= {
                "decoder_input_ids": inputs,
                "encoder_outputs": self.encoded(state.encoded),
            }
        if state.mask is not None:
            arguments["attention_mask"] = state.mask
        try:
            output = self.model(**arguments)
        except IndexError as error:  # from the table of positions
            check_room(self.base.config, state.length + inputs.shape[1], error)
            raise
        logits = _logits(output, self.model)
        state.ran(inputs.shape[1])
        if is_first and self.has_encoder:
            return self.generation.with_forced_start(logits)
        return logits


def _logits(output: Any, model: Any) -> Tensor:
    """The scores after the last position."""
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        raise InputError(
            "a language model returns logits of shape (N, positions, M)",
            got=f"a {type(output).__name__} from a {type(model).__name__}",
            cause="the model has no head",
            cure="load it with AutoModelForCausalLM or AutoModelForSeq2SeqLM",
        )
    return logits[:, -1]
