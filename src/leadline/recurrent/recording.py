"""What is hooked while a model is traced: its recurrent modules, the cells in its loops, and the states they mark."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from leadline.errors import InputError
from leadline.recurrent.loops import CELLS, Chain, Loops, listening
from leadline.recurrent.replay import MODULES, Call, computed_in

RECURRENT = (*MODULES, *CELLS)
"""What is hooked."""

Entry = Call | Chain
"""One call of a recurrent module, or one loop."""


@contextmanager
def recording(model: nn.Module, calls: list[Entry], watch: Callable[[Tensor], object] | None = None) -> Iterator[Loops]:
    """Inside the block, what ``model`` does goes to ``calls``.

    Args:
        model: any module.
        calls: where calls and loops are added as they begin.
        watch: is given every tensor of ``outputs`` as it is made.

    Raises:
        InputError: the model hides what it calls, or nothing recurrent was met.
    """
    watch = watch or (lambda tensor: None)
    _refuse_scripted(model)
    loops, hooks = Loops(calls, watch), _Hooks(calls, watch)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, MODULES):
                stack.enter_context(_removing(module.register_forward_pre_hook(hooks.before(name), with_kwargs=True)))
                stack.enter_context(_removing(module.register_forward_hook(hooks.after(name), with_kwargs=True)))
            elif isinstance(module, CELLS):
                stack.enter_context(_removing(module.register_forward_pre_hook(_fits(name), with_kwargs=True)))
                hook = hooks.cell(name or type(module).__name__, loops)
                stack.enter_context(_removing(module.register_forward_hook(hook, with_kwargs=True)))
        if "torch._dynamo" in sys.modules:  # else nothing was compiled; compiled code would not call the hooks
            stack.enter_context(cast(Any, torch.compiler.set_stance)("force_eager"))
        stack.enter_context(listening(loops))
        yield loops
    if not calls and not loops.is_without_graph and not any(isinstance(m, RECURRENT) for m in model.modules()):
        raise _nothing_recurrent(model)


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


class _Hooks:
    def __init__(self, calls: list[Entry], watch: Callable[[Tensor], object]):
        self.calls, self.watch = calls, watch
        self.numbers: Counter[str] = Counter()
        self.states: dict[str, Tensor | None] = {}

    def before(self, name: str):
        """Keep the generator's state where dropout draws from it."""
        fits = _fits(name)

        def hook(module: nn.Module, inputs: tuple, keywords: dict) -> None:
            fits(module, inputs, keywords)
            draws = module.training and getattr(module, "dropout", 0) and getattr(module, "num_layers", 1) > 1
            self.states[name] = torch.get_rng_state() if draws else None

        return hook

    def after(self, name: str):
        """Record a call of a whole module."""

        def hook(module: nn.Module, inputs: tuple, keywords: dict, returned: tuple) -> None:
            assert isinstance(module, MODULES)
            given = _given(inputs, keywords)
            output, last = returned
            call = Call(
                name=name,
                module=module,
                number=self.numbers[name],
                x=_detached(given["input"]),
                hx=given.get("hx"),
                output=output.data if isinstance(output, PackedSequence) else output,
                last=last if isinstance(last, tuple) else (last,),
                rng=self.states.pop(name, None),
                dtype=computed_in(last[0] if isinstance(last, tuple) else last),
            )
            self.numbers[name] += 1
            self.calls.append(call)
            for tensor in call.outputs:
                self.watch(tensor)

        return hook

    def cell(self, name: str, loops: Loops):
        """Record a step of a loop; what goes on is a copy."""

        def hook(module: nn.Module, inputs: tuple, keywords: dict, returned: Any) -> Any:
            assert isinstance(module, CELLS)
            return loops.cell(name, module, _given(inputs, keywords), returned)

        return hook


def _given(inputs: tuple, keywords: dict[str, Any]) -> dict[str, Any]:
    """What a module was called with, by name: ``input``, and ``hx`` where it was given."""
    given = dict(zip(("input", "hx"), inputs, strict=False)) | keywords
    return {"input" if name == "x" else name: value for name, value in given.items()}


def _fits(name: str):
    """Refuse inputs and states of another size before the module does, which does not know its name."""

    def hook(module: nn.Module, inputs: tuple, keywords: dict) -> None:
        assert isinstance(module, RECURRENT)
        given, title = _given(inputs, keywords), name or type(module).__name__
        x, states = given.get("input"), given.get("hx")
        if isinstance(x, Tensor | PackedSequence) and x.data.shape[-1] != module.input_size:
            raise InputError(
                f"the last axis of what {title} reads holds its inputs",
                got=f"{x.data.shape[-1]} of them, input_size = {module.input_size}",
                cause="features were added or left out, or the layer below has another width",
            )
        samples = _samples(module, x)
        sizes = (getattr(module, "proj_size", 0) or module.hidden_size, module.hidden_size)
        for state, size in zip(states if isinstance(states, tuple) else (states,), sizes, strict=False):
            if isinstance(state, Tensor) and state.shape[-1] != size:
                raise InputError(
                    f"the last axis of an initial state of {title} is as long as its states",
                    got=f"hx of shape {tuple(state.shape)}, states of {size} numbers",
                    cause="the state of another layer",
                )
            if isinstance(state, Tensor) and samples is not None and state.dim() > 1 and state.shape[-2] != samples:
                raise InputError(
                    f"an initial state of {title} holds one state for each sample",
                    got=f"hx of shape {tuple(state.shape)}, {samples} samples",
                    cause="the state of another batch, or its axes in another order: hx is never batch first",
                )

    return hook


def _samples(module: nn.Module, x: Any) -> int | None:
    """How many a batch holds; ``None`` for a sequence alone."""
    if isinstance(x, PackedSequence):
        return int(x.batch_sizes[0])
    is_cell = isinstance(module, CELLS)
    if not isinstance(x, Tensor) or x.dim() != (2 if is_cell else 3):
        return None
    return x.shape[0 if is_cell or getattr(module, "batch_first", True) else 1]


def _detached(x: Tensor | PackedSequence) -> Tensor | PackedSequence:
    return x._replace(data=x.data.detach()) if isinstance(x, PackedSequence) else x.detach()


def _refuse_scripted(model: nn.Module) -> None:
    for name, module in model.named_modules():
        kind = getattr(module, "original_name", "")
        if isinstance(module, torch.jit.ScriptModule) and kind in {known.__name__ for known in RECURRENT}:
            raise InputError(
                "a model to trace is not scripted: a scripted module hides its layers",
                got=f"{name or 'the model'}, a scripted {kind}",
                cure="trace the module before scripting it",
            )


def _nothing_recurrent(model: nn.Module) -> InputError:
    held = sorted({getattr(module, "original_name", type(module).__name__) for module in model.modules()})
    return InputError(
        "a model to trace holds recurrent layers: torch.nn.RNN, LSTM or GRU, their cells, or those of "
        "leadline.recurrent; or a loop that marks its states",
        got=f"a model made of {', '.join(held)}, and no state was marked",
        cure="give the module that holds the recurrent layers; in a loop, h = recurrent.record(h)",
    )
