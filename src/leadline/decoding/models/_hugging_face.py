"""Hugging Face models as problems: causal and encoder-decoder models with a cache.

The first step runs each prompt once. Hypotheses of one prompt share its keys and values, so that a
search only moves what was generated afterwards.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from leadline.decoding.models._hugging_face_cache import CachedState
from leadline.decoding.models._hugging_face_checks import (
    accepted_arguments,
    base_model,
    check_length,
    check_mask,
    check_model,
    check_prompts,
)
from leadline.decoding.models._hugging_face_probe import Probe, probe
from leadline.decoding.models._hugging_face_settings import GenerationSettings
from leadline.decoding.problem._problem import Problem, refuse_state
from leadline.errors import InputError
from leadline.torch_internals import uncompiled


def huggingface(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None = None, **others: Any
) -> Problem:
    """Return a problem that continues each row of ``input_ids`` with a Hugging Face model.

    The model may be wrapped: in an adapter, in ``torch.compile`` or in ``DataParallel``. The
    decoder of an encoder-decoder model starts as in ``generate``: from
    ``generation_config.decoder_start_token_id`` and with ``forced_bos_token_id``.

    ``problem.step.eos`` holds the model's end tokens; pass it as ``eos`` to a search.
    ``problem.step.ignored`` names the other settings of ``generation_config``. Searches ignore them
    and repeat their names in the verdict.

    Args:
        model: a causal or encoder-decoder language model in evaluation mode. The ``input_ids`` of
            an encoder-decoder model go to its encoder.
        input_ids: prompts, shape (B, P), int64.
        attention_mask: 1 for tokens and 0 for padding, shape (B, P), int64 or bool. Pad the prompts
            of a causal model on the left. Positions start at the first token, as in ``generate``.
        others: further outputs of a tokenizer; ``token_type_ids`` must be 0.

    Returns:
        A problem whose step function runs the model with a cache.

    Raises:
        InputError: the model is in training mode; its cache does not hold keys and values of one
            shape; its scores with the cache differ from those without; ``input_ids`` or
            ``attention_mask`` have another shape, type or range; or padding is on the right or
            changes the scores.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> config = GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    >>> with torch.random.fork_rng():
    ...     model = GPT2LMHeadModel(config).eval()
    >>> step, state, start = huggingface(model, torch.tensor([[1, 2, 3]]))
    >>> step(start, state)[0].shape
    torch.Size([1, 11])
    """
    base = base_model(model)
    check_model(model, base)
    check_prompts(base, input_ids)
    check_mask(base, input_ids, attention_mask, others)
    if attention_mask is not None:
        has_padding = not bool(attention_mask.all())
        attention_mask = attention_mask.long() if has_padding else None
    trial = _Runner(model, base)
    result = probe(trial, input_ids, is_padded=attention_mask is not None)
    runner = _Runner(model, base, result)
    return _problem(runner, input_ids, attention_mask)


def _problem(runner: "_Runner", input_ids: Tensor, mask: Tensor | None) -> Problem:
    if runner.has_encoder:
        start = runner.generation.start(len(input_ids)).to(input_ids.device)
        no_tokens = start.new_empty(len(start), 0)
        return Problem(runner, CachedState(no_tokens, mask, runner.encode(input_ids, mask)), start)
    if mask is None and runner.needs_mask:
        mask = torch.ones_like(input_ids)
    return Problem(runner, CachedState(input_ids[:, :-1], mask), input_ids[:, -1].clone())


class _Runner:
    """The step function; it returns the logits after the last position.

    Args:
        model: the model that is called.
        base: the model of transformers inside ``model``.
        result: the result of the trial run; ``None`` for the step function of the trial run itself.
    """

    normalized = False
    inference = True

    def __init__(self, model: Any, base: Any, result: Probe | None = None):
        # A trial run of a compiled model would compile shapes that no search uses.
        self.model = uncompiled(model) if result is None else model
        self.base = base
        arguments = accepted_arguments(model, base)
        self.has_encoder = bool(getattr(base.config, "is_encoder_decoder", False))
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in arguments else {}
        self.takes_positions = "position_ids" in arguments and not self.has_encoder
        self.needs_mask = result is not None and result.needs_mask
        self.encoder_output: Any = BaseModelOutput
        self.generation = GenerationSettings.of(base)
        self.eos = self.generation.end_tokens(base)
        self.ignored = self.generation.ignored()

    def behind(self, state: Any) -> tuple[Any, Any]:
        """Return the model and the state: two step functions of one model are the same problem."""
        return self.model, state

    @torch.inference_mode()
    def encode(self, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return the hidden states of the encoder, shape (B, P, size)."""
        output = self.base.get_encoder()(input_ids=input_ids, attention_mask=mask)
        self.encoder_output = type(output)
        return output.last_hidden_state

    def as_encoder_output(self, hidden: Tensor) -> Any:
        """Wrap hidden states in the encoder's output class."""
        return self.encoder_output(last_hidden_state=hidden)

    def __call__(self, tokens: Tensor, state: CachedState) -> tuple[Tensor, CachedState]:
        if not isinstance(state, CachedState):
            refuse_state("huggingface()", state)
        if torch.is_inference_mode_enabled():
            return self._run(tokens, state), state
        with torch.inference_mode():
            logits = self._run(tokens, state)
        # Outside inference mode, a processor must be able to change the scores in place.
        return logits.clone(), state

    def _run(self, tokens: Tensor, state: CachedState) -> Tensor:
        inputs = tokens.unsqueeze(1)
        is_first = not state.length
        if is_first:
            inputs = torch.cat([state.prompt, inputs], dim=1)
        num_new = inputs.shape[1]
        state.reserve()
        arguments: dict[str, Any] = {"past_key_values": state.cache, "use_cache": True}
        if state.encoded is None:
            arguments |= {"input_ids": inputs, **self.last_only}
            if self.takes_positions:
                arguments["position_ids"] = state.positions(num_new)
        else:
            arguments["decoder_input_ids"] = inputs
            arguments["encoder_outputs"] = self.as_encoder_output(state.encoded)
        if state.mask is not None:
            arguments["attention_mask"] = state.mask
        try:
            output = self.model(**arguments)
        except IndexError as error:  # raised by the table of learned positions
            check_length(self.base.config, state.length + num_new, error)
            raise
        logits = _last_logits(output, self.model)
        state.note_call(num_new)
        if is_first and self.has_encoder:
            return self.generation.with_forced_start(logits)
        return logits


def _last_logits(output: Any, model: Any) -> Tensor:
    """Return the logits after the last position, shape (N, M)."""
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        raise InputError(
            "huggingface() needs a model that returns logits of shape (N, positions, M)",
            got=f"a {type(output).__name__} from a {type(model).__name__}",
            cause="the model has no head",
            cure="load it with AutoModelForCausalLM or AutoModelForSeq2SeqLM",
        )
    return logits[:, -1]
