"""A trial run of a Hugging Face model, before any search: are its scores with the cache those without?

A search changes the order of hypotheses, and keeps several of one prompt. Models that keep a part of their state
elsewhere than in the cache, or that count positions by themselves, would answer for other prefixes without an error.
Two prompts of a few tokens show it, once for each model.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from leadline.decoding.models._hugging_face_cache import NEEDS, Cached
from leadline.errors import InputError, LeadlineError

CLOSE = 1e-3
"""Difference of logits, in parts of their range, that float32 does not reach and a wrong state does."""

COARSE = 0.3
"""The same for 16-bit numbers and quantised layers."""

ROWS = 3
TOKENS = 4

CURE = "write a step function whose state is the model's own: decoding.Problem(step, state, start)"


class Runner(Protocol):
    """The step function of a model, as far as a trial run needs it."""

    model: Any
    base: Any
    has_encoder: bool
    takes_positions: bool
    generation: Any

    def __call__(self, tokens: Tensor, state: Cached) -> tuple[Tensor, Cached]:
        """Scores and the new state."""
        ...

    def encode(self, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        """Run the encoder."""
        ...

    def encoded(self, hidden: Tensor) -> Any:
        """Hidden states as an output of the encoder."""
        ...


@dataclass
class Probe:
    """The result of a trial run."""

    needs_mask: bool
    """True if the model must be given a mask though nothing is padded."""
    padding: str | None = field(default=None)
    """The reason why left padding changes scores, empty if it does not; ``None`` where it was not tried."""


_KNOWN: "weakref.WeakKeyDictionary[Any, Probe]" = weakref.WeakKeyDictionary()


def probe(runner: Runner, input_ids: Tensor, is_padded: bool) -> Probe:
    """Try a model, once in its life.

    Args:
        runner: the model's step function.
        input_ids: prompts, of whose tokens the trial is made.
        is_padded: True if the prompts are padded.

    Raises:
        InputError: the model cannot be searched.
    """
    model = runner.model
    found = _KNOWN.get(model) if isinstance(model, torch.nn.Module) else None
    if found is None:
        found = _try(runner, input_ids)
        if isinstance(model, torch.nn.Module):
            _KNOWN[model] = found
    if is_padded and not runner.has_encoder:
        if found.padding is None:
            found.padding = _by_name(
                runner, lambda: _why_padding_changes(runner, _prompts(runner, input_ids))
            )
        if found.padding:
            raise InputError(
                "padding on the left must not change a prompt's scores",
                got=found.padding,
                cause="the model counts positions by itself, and padding too",
                cure="decode prompts of one length together, without padding",
            )
    return found


def _try(runner: Runner, input_ids: Tensor) -> Probe:
    ids = _prompts(runner, input_ids)
    before = _tensors(runner.model)
    off = _by_name(runner, lambda: _difference(runner, ids, mask=None))
    changed = _first_state(before, _tensors(runner.model))
    if changed:
        _refuse(
            runner,
            f"the tensor {changed} of a layer changes with every call",
            "its layers keep a state",
        )
    if off <= _limit(runner):
        return Probe(needs_mask=False)
    if not runner.has_encoder:
        masked = _by_name(
            runner, lambda: _difference(runner, ids, mask=torch.ones_like(ids[:, :-1]))
        )
        if masked <= _limit(runner):
            return Probe(needs_mask=True)
    _refuse(
        runner,
        f"logits that differ by {off:.2g} of their range with the cache and without it",
        "a part of what it has read is not in the cache, positions are counted otherwise, or tokens see later ones",
    )
    raise AssertionError


def _prompts(runner: Runner, input_ids: Tensor) -> Tensor:
    """Prompts of a few different tokens, taken from those that are to be continued; shape (3, 4 or less)."""
    room = getattr(runner.base.config, "max_position_embeddings", None) or TOKENS + 1
    length = max(1, min(TOKENS, room - 1)) + 1
    seen = input_ids.unique()
    if len(seen) < 2:
        known = (
            getattr(runner.base.get_input_embeddings(), "num_embeddings", None) or int(seen[0]) + 2
        )
        seen = torch.cat([seen, (seen[:1] + 1) % known])
    place = torch.arange(ROWS)[:, None] * 5 + torch.arange(length) * torch.tensor([[1], [2], [3]])
    return seen[place % len(seen)].to(input_ids.device)


@torch.inference_mode()
def _difference(runner: Runner, ids: Tensor, mask: Tensor | None) -> float:
    """The largest difference of logits with the cache, rows exchanged, and without; in parts of their range."""
    encoded = runner.encode(ids, None) if runner.has_encoder else None
    if encoded is None:
        state = Cached(ids[:, :-2], mask)
        tokens = ids[:, -2]
    else:
        tokens = runner.generation.start(len(ids)).to(ids.device)
        state = Cached(tokens[:, None][:, :0], None, encoded)
    _, state = runner(tokens, state)
    order = torch.tensor([2, 0, 1], device=ids.device)
    state = state.select(order)
    last = ids[order, -1]
    if encoded is None:
        full = torch.cat([ids[order, :-1], last[:, None]], dim=1)
    else:
        full = torch.stack([tokens[order], last], dim=1)
    hidden = [None] * ROWS if encoded is None else encoded[order].split(1)
    alone = [
        _whole(runner, row, one, mask is not None)
        for row, one in zip(full.split(1), hidden, strict=True)
    ]
    whole = torch.cat(alone)
    if bool(whole.isnan().any()):
        raise InputError(
            "a language model returns logits that are numbers or -inf",
            got=f"NaN from a {type(runner.base).__name__}",
            cause="its weights hold NaN, or a sum overflows in float16",
            cure="load it in float32 and look at its weights",
        )
    got, _ = runner(last, state)
    return _relative(got, whole)


@torch.inference_mode()
def _why_padding_changes(runner: Runner, ids: Tensor) -> str:
    """Run one prompt alone and with padding before it."""
    alone, _ = runner(ids[:1, -1], Cached(ids[:1, :-1], None))
    padded = torch.cat([ids[:, :1], ids], dim=1)
    mask = torch.ones_like(padded)
    mask[0, 0] = 0
    together, _ = runner(padded[:, -1], Cached(padded[:, :-1], mask))
    off = _relative(together[:1], alone)
    if off > _limit(runner):
        return f"logits that differ by {off:.2g} of their range after one token of padding"
    return ""


def _whole(runner: Runner, ids: Tensor, encoded: Tensor | None, has_mask: bool) -> Tensor:
    """Logits of one prompt after its last token, without a cache."""
    arguments: dict[str, Any] = {"use_cache": False}
    if encoded is not None:
        arguments |= {"decoder_input_ids": ids, "encoder_outputs": runner.encoded(encoded)}
    else:
        arguments["input_ids"] = ids
        if runner.takes_positions:
            arguments["position_ids"] = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        if has_mask:
            arguments["attention_mask"] = torch.ones_like(ids)
    return runner.model(**arguments).logits[:, -1]


def _relative(got: Tensor, want: Tensor) -> float:
    got, want = got.double(), want.double()
    is_there = want.isfinite() & got.isfinite()
    if bool((want.isfinite() != got.isfinite()).any()) or not bool(is_there.any()):
        return 0.0 if torch.equal(want, got) else float("inf")
    values = want[is_there]
    spread = float(values.max() - values.min())
    return float((got[is_there] - values).abs().max()) / max(spread, 1e-30)


def _limit(runner: Runner) -> float:
    parameter = next(iter(runner.base.parameters()), None)
    is_fine = parameter is not None and parameter.dtype in (torch.float32, torch.float64)
    is_quantised = any("quantized" in type(module).__module__ for module in runner.base.modules())
    return CLOSE if is_fine and not is_quantised else COARSE


def _tensors(model: Any) -> dict[str, tuple[int, tuple[int, ...], Any]]:
    """Tensors that the modules hold, parameters left out, by name: identity, shape and a copy of small ones."""
    found = {}
    for name, module in model.named_modules() if isinstance(model, torch.nn.Module) else ():
        for key, value in (*vars(module).items(), *module.named_buffers(recurse=False)):
            if isinstance(value, Tensor):
                found[f"{name}.{key}"] = (id(value), tuple(value.shape), value)
    return found


def _first_state(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The name of a tensor with one entry per row that a run has made or replaced."""
    for name, (identity, shape, _) in after.items():
        is_new = name not in before or before[name][0] != identity
        if is_new and ROWS in shape[:1]:
            return name
    return ""


def _by_name(runner: Runner, run: Callable[[], Any]) -> Any:
    """Run a trial; every error becomes a refusal that names the model."""
    try:
        return run()
    except InputError as error:
        if error.rule == NEEDS:
            _refuse(runner, error.got or "", error.cause or "")
        raise
    except LeadlineError:
        raise
    except Exception as error:  # a model may fail in any way; all mean that it cannot be searched
        lines = str(error).strip().splitlines()
        _refuse(
            runner,
            f"{type(error).__name__}: {lines[0] if lines else ''}",
            "it cannot be called with this cache",
        )


def _refuse(runner: Runner, got: str, cause: str) -> None:
    name = type(runner.base).__name__
    raise InputError(NEEDS, got=f"{name}: {got}", cause=cause, cure=CURE)
