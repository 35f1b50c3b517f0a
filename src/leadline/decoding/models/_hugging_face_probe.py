"""A trial run of a Hugging Face model: do its scores with the cache equal those without?

A search reorders hypotheses and keeps several of one prompt. A model that keeps a part of its state
outside the cache, or counts positions itself, would silently score the wrong prefixes. A trial run
on a few tokens shows this, once for each model.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from leadline.decoding.models._hugging_face_cache import NEEDS, CachedState
from leadline.decoding.models._hugging_face_checks import CURE
from leadline.errors import InputError, LeadlineError

MOST_FLOAT32 = 1e-3
"""Largest allowed difference of logits, relative to their range: above the rounding of float32, and
below the effect of a wrong state."""

MOST_COARSE = 0.3
"""The same for 16-bit numbers and quantised layers."""

ROWS = 3
TOKENS = 4


class Runner(Protocol):
    """The parts of a Hugging Face model's step function that a trial run uses."""

    model: Any
    base: Any
    has_encoder: bool
    takes_positions: bool
    generation: Any

    def __call__(self, tokens: Tensor, state: CachedState) -> tuple[Tensor, CachedState]:
        """Return scores and the new state."""
        ...

    def encode(self, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return the hidden states of the encoder."""
        ...

    def as_encoder_output(self, hidden: Tensor) -> Any:
        """Wrap hidden states in the encoder's output class."""
        ...


@dataclass
class Probe:
    """The result of a trial run."""

    needs_mask: bool
    """True if the model needs an attention mask even without padding."""
    padding: str | None = None
    """The reason why left padding changes scores; empty if it does not, ``None`` if not tried."""


_RESULTS: "weakref.WeakKeyDictionary[Any, Probe]" = weakref.WeakKeyDictionary()


def probe(runner: Runner, input_ids: Tensor, is_padded: bool) -> Probe:
    """Return the result of a model's trial run; a module is tried once.

    Args:
        runner: the model's step function.
        input_ids: prompts, shape (B, P); the trial uses their tokens.
        is_padded: True if the prompts are padded.

    Raises:
        InputError: the model cannot be searched.
    """
    model = runner.model
    is_module = isinstance(model, torch.nn.Module)
    result = _RESULTS.get(model) if is_module else None
    if result is None:
        result = _try(runner, input_ids)
        if is_module:
            _RESULTS[model] = result
    if is_padded and not runner.has_encoder:
        if result.padding is None:
            ids = _trial_prompts(runner, input_ids)
            result.padding = _refusing_errors(runner, lambda: _why_padding_matters(runner, ids))
        if result.padding:
            raise InputError(
                "huggingface() needs a model whose scores do not change with padding on the left",
                got=result.padding,
                cause="the model counts positions itself, and counts padding too",
                cure="decode prompts of one length together, without padding",
            )
    return result


def _try(runner: Runner, input_ids: Tensor) -> Probe:
    ids = _trial_prompts(runner, input_ids)
    most = _most(runner)
    before = _tensors(runner.model)
    difference = _refusing_errors(runner, lambda: _difference(runner, ids, mask=None))
    changed = _first_state(before, _tensors(runner.model))
    if changed:
        raise _refusal(
            runner,
            f"the tensor {changed} of a layer changes with every call",
            "a layer keeps a state",
        )
    if difference <= most:
        return Probe(needs_mask=False)
    if not runner.has_encoder:
        mask = torch.ones_like(ids[:, :-1])
        masked = _refusing_errors(runner, lambda: _difference(runner, ids, mask=mask))
        if masked <= most:
            return Probe(needs_mask=True)
    raise _refusal(
        runner,
        f"logits that differ by {difference:.2g} of their range with the cache and without it",
        "the cache is incomplete, positions are counted differently, or tokens see later tokens",
    )


def _trial_prompts(runner: Runner, input_ids: Tensor) -> Tensor:
    """Return prompts made of tokens of ``input_ids``, shape (3, 5 or less)."""
    most_positions = getattr(runner.base.config, "max_position_embeddings", None) or TOKENS + 1
    length = max(1, min(TOKENS, most_positions - 1)) + 1
    tokens = input_ids.unique()
    if len(tokens) < 2:
        size = getattr(runner.base.get_input_embeddings(), "num_embeddings", None)
        tokens = torch.cat([tokens, (tokens[:1] + 1) % (size or int(tokens[0]) + 2)])
    # Each row takes its tokens at another stride, so that the rows differ.
    strides = torch.tensor([[1], [2], [3]])
    place = torch.arange(ROWS)[:, None] * 5 + torch.arange(length) * strides
    return tokens[place % len(tokens)].to(input_ids.device)


@torch.inference_mode()
def _difference(runner: Runner, ids: Tensor, mask: Tensor | None) -> float:
    """Return the largest difference of logits with and without the cache, relative to their range.

    With the cache, the rows are exchanged between two steps, as a search exchanges them.
    """
    if runner.has_encoder:
        encoded = runner.encode(ids, None)
        tokens = runner.generation.start(len(ids)).to(ids.device)
        state = CachedState(tokens.new_empty(len(tokens), 0), None, encoded)
    else:
        encoded = None
        tokens = ids[:, -2]
        state = CachedState(ids[:, :-2], mask)
    _, state = runner(tokens, state)
    order = torch.tensor([2, 0, 1], device=ids.device)
    state = state.select(order)
    last = ids[order, -1]
    if encoded is None:
        prompts = ids[order]
        encoded_rows = [None] * ROWS
    else:
        prompts = torch.stack([tokens[order], last], dim=1)
        encoded_rows = list(encoded[order].split(1))
    without_cache = []
    for prompt, encoded_row in zip(prompts.split(1), encoded_rows, strict=True):
        without_cache.append(_logits(runner, prompt, encoded_row, mask is not None))
    expected = torch.cat(without_cache)
    if bool(expected.isnan().any()):
        raise InputError(
            "huggingface() needs a model whose logits are numbers or -inf",
            got=f"NaN from a {type(runner.base).__name__}",
            cause="its weights hold NaN, or a sum overflows in float16",
            cure="load the model in float32 and check its weights",
        )
    with_cache, _ = runner(last, state)
    return _relative_difference(with_cache, expected)


@torch.inference_mode()
def _why_padding_matters(runner: Runner, ids: Tensor) -> str:
    """Return how one token of padding changes the scores of a prompt; empty if it does not."""
    without_padding, _ = runner(ids[:1, -1], CachedState(ids[:1, :-1], None))
    padded = torch.cat([ids[:, :1], ids], dim=1)
    mask = torch.ones_like(padded)
    mask[0, 0] = 0
    with_padding, _ = runner(padded[:, -1], CachedState(padded[:, :-1], mask))
    difference = _relative_difference(with_padding[:1], without_padding)
    if difference > _most(runner):
        return f"logits that differ by {difference:.2g} of their range after one token of padding"
    return ""


def _logits(runner: Runner, ids: Tensor, encoded: Tensor | None, has_mask: bool) -> Tensor:
    """Return the logits of one prompt after its last token, computed without a cache."""
    arguments: dict[str, Any] = {"use_cache": False}
    if encoded is not None:
        arguments["decoder_input_ids"] = ids
        arguments["encoder_outputs"] = runner.as_encoder_output(encoded)
    else:
        arguments["input_ids"] = ids
        if runner.takes_positions:
            arguments["position_ids"] = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        if has_mask:
            arguments["attention_mask"] = torch.ones_like(ids)
    return runner.model(**arguments).logits[:, -1]


def _relative_difference(computed: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the range of ``expected``; inf for other masks."""
    computed = computed.double()
    expected = expected.double()
    is_finite = expected.isfinite() & computed.isfinite()
    has_other_mask = bool((expected.isfinite() != computed.isfinite()).any())
    if has_other_mask or not bool(is_finite.any()):
        return 0.0 if torch.equal(expected, computed) else float("inf")
    values = expected[is_finite]
    spread = float(values.max() - values.min())
    return float((computed[is_finite] - values).abs().max()) / max(spread, 1e-30)


def _most(runner: Runner) -> float:
    """Return the largest difference that rounding explains, by the precision of the model."""
    parameter = next(iter(runner.base.parameters()), None)
    is_wide = parameter is not None and parameter.dtype in (torch.float32, torch.float64)
    is_quantised = any("quantized" in type(module).__module__ for module in runner.base.modules())
    return MOST_FLOAT32 if is_wide and not is_quantised else MOST_COARSE


def _tensors(model: Any) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Return the buffers and tensor attributes of all modules by name, with their shapes."""
    tensors = {}
    if not isinstance(model, torch.nn.Module):
        return tensors
    for name, module in model.named_modules():
        for key, value in (*vars(module).items(), *module.named_buffers(recurse=False)):
            if isinstance(value, Tensor):
                tensors[f"{name}.{key}"] = (value, tuple(value.shape))
    return tensors


def _first_state(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return the name of a new tensor with one entry per row; empty if there is none."""
    for name, (tensor, shape) in after.items():
        is_new = name not in before or before[name][0] is not tensor
        if is_new and ROWS in shape[:1]:
            return name
    return ""


def _refusing_errors(runner: Runner, run: Callable[[], Any]) -> Any:
    """Run a trial, and turn every error into a refusal that names the model."""
    try:
        return run()
    except InputError as error:
        if error.rule == NEEDS:
            raise _refusal(runner, error.got or "", error.cause or "") from None
        raise
    except LeadlineError:
        raise
    except Exception as error:  # a foreign model may raise any error; none can be searched
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else ""
        raise _refusal(
            runner,
            f"{type(error).__name__}: {reason}",
            "the model cannot be called with a cache",
        ) from error


def _refusal(runner: Runner, got: str, cause: str) -> InputError:
    name = type(runner.base).__name__
    return InputError(NEEDS, got=f"{name}: {got}", cause=cause, cure=CURE)
