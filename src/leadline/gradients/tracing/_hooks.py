"""Hooks on the recurrent modules of a traced model, and on the cells in its loops."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from leadline import checks
from leadline.errors import InputError
from leadline.gradients.tracing._entry import Entry
from leadline.gradients.tracing._loops import Loops
from leadline.gradients.tracing._marks import listening
from leadline.gradients.tracing._missing_graph import why_without_graph
from leadline.gradients.tracing._recorded_call import RecordedCall
from leadline.gradients.tracing._replay import computed_in
from leadline.gradients.tracing._snapshot import Snapshot
from leadline.recurrent import (
    Layer,
    Network,
    is_sequence_module,
    is_step_module,
    sequence_modules,
    step_modules,
)
from leadline.torch_internals import flat_weights, is_compiler_error, is_compiler_loaded


def is_recurrent(module: nn.Module) -> bool:
    """True if the calls of a module are recorded."""
    return is_sequence_module(module) or is_step_module(module)


@contextmanager
def recording(
    model: nn.Module, calls: list[Entry], watch: Callable[[Tensor], object] | None = None
) -> Iterator[Loops]:
    """Record the calls and loops of ``model`` inside the block.

    Args:
        model: any module.
        calls: receives the calls and loops as they begin.
        watch: a function that is called with every tensor of ``outputs`` when it is made.

    Raises:
        InputError: the model hides its calls, or nothing recurrent ran.
    """
    watch = watch or (lambda tensor: None)
    _refuse_scripted(model)
    used = UsedWeights()
    loops = Loops(calls, watch)
    hooks = _Hooks(calls, watch, used)
    with ExitStack() as stack:

        def hook_call(module: nn.Module, before: Any, after: Any) -> None:
            stack.enter_context(
                _removing(module.register_forward_pre_hook(before, with_kwargs=True))
            )
            stack.enter_context(_removing(module.register_forward_hook(after, with_kwargs=True)))

        for name, module in model.named_modules():
            if isinstance(module, Layer) or is_step_module(module):
                stack.enter_context(used.catching(module))
            if isinstance(module, Layer):
                stack.enter_context(_removing(module.register_forward_hook(hooks.layer)))
            if is_sequence_module(module):
                hook_call(module, hooks.before(name), hooks.after(name))
            elif is_step_module(module):
                hook_call(module, _fits(name), hooks.cell(name or type(module).__name__, loops))
            elif _may_mark_states(module):
                stack.enter_context(
                    _removing(module.register_forward_pre_hook(_entering(loops, name)))
                )
                leave = module.register_forward_hook(lambda *_: loops.leave(), always_call=True)
                stack.enter_context(_removing(leave))
        # Compiled code would not call the hooks.
        if is_compiler_loaded():
            stack.enter_context(cast(Any, torch.compiler.set_stance)("force_eager"))
        stack.enter_context(listening(loops))
        with _explaining_compilation():
            yield loops
    if not calls and loops.without_graph is None and not any(map(is_recurrent, model.modules())):
        raise _nothing_recurrent(model, loops)


@contextmanager
def _explaining_compilation() -> Iterator[None]:
    """Explain an error of torch's compiler inside the block."""
    try:
        yield
    except Exception as error:
        if not is_compiler_error(error):
            raise
        raise InputError(
            "trace() needs a model that runs as ordinary Python",
            got=f"torch stopped while it compiled: {str(error).strip().splitlines()[0]}",
            cause="torch.scan, or torch.compile called inside the block",
            cure="compile the model before the block; write a scan as a loop in Python",
        ) from error


OF_LIBRARIES = ("torch.", "leadline.recurrent.")


def _may_mark_states(module: nn.Module) -> bool:
    """True if the module has a class that a user wrote; modules of torch mark no states."""
    # The last class is ``object``.
    kinds = type(module).__mro__[:-1]
    return any(not kind.__module__.startswith(OF_LIBRARIES) for kind in kinds)


def _entering(loops: Loops, path: str):
    def hook(module: nn.Module, inputs: tuple) -> None:
        loops.enter(path)

    return hook


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


class UsedWeights:
    """The weights that modules used in their last calls.

    A parametrized weight is computed whenever it is read, and reading it may change buffers.
    Therefore its value is kept when the module itself reads it.
    """

    def __init__(self):
        self._caught: dict[tuple[int, str], Tensor] = {}

    @contextmanager
    def catching(self, module: nn.Module) -> Iterator[None]:
        """Keep the parametrized weights that a module reads inside the block."""
        with ExitStack() as stack:
            if parametrize.is_parametrized(module):
                for name, parametrizations in cast(nn.ModuleDict, module.parametrizations).items():
                    hook = self._catch((id(module), name))
                    stack.enter_context(_removing(parametrizations.register_forward_hook(hook)))
            yield

    def _catch(self, key: tuple[int, str]):
        def hook(module: nn.Module, inputs: tuple, weight: Tensor) -> None:
            self._caught[key] = weight

        return hook

    def of(self, module: nn.Module, names: Sequence[str]) -> dict[str, Tensor | None]:
        """Return weights by name; ``None`` for a bias that does not exist."""
        caught = self._caught
        if not caught:
            return {name: getattr(module, name) for name in names}
        keys = {name: (id(module), name) for name in names}
        return {
            name: caught[key] if key in caught else getattr(module, name)
            for name, key in keys.items()
        }

    def of_call(self, module: nn.Module) -> dict[str, Tensor]:
        """Return all weights of a recurrent module, by name."""
        # The forward pass of torch's modules keeps the list of weights that it has used.
        if isinstance(module, nn.RNNBase):
            return flat_weights(module)
        assert isinstance(module, Network)
        found = {}
        for index, layer in enumerate(module.layers):
            for name, weight in self.of(layer, ("W_x", "W_h", "b")).items():
                found[f"layers.{index}.{name}"] = weight
        return found


CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Hooks:
    """The hooks of one block, and what they remember between two hooks of a call."""

    def __init__(self, calls: list[Entry], watch: Callable[[Tensor], object], used: UsedWeights):
        self.calls = calls
        self.watch = watch
        self.used = used
        self.numbers: Counter[str] = Counter()
        self.states: dict[str, Tensor | None] = {}
        self.layers: list[Tensor] = []
        """The states of each layer of the network whose forward pass is running."""

    def before(self, name: str):
        """Return a hook that keeps the generator's state if dropout will draw from it."""
        fits = _fits(name)

        def hook(module: nn.Module, inputs: tuple, keywords: dict) -> None:
            fits(module, inputs, keywords)
            draws = (
                module.training
                and getattr(module, "dropout", 0)
                and getattr(module, "num_layers", 1) > 1
            )
            self.states[name] = torch.get_rng_state() if draws else None
            self.layers = []

        return hook

    def layer(self, module: nn.Module, inputs: tuple, returned: Any) -> None:
        """Keep the states of one layer, since a replay of chaotic states would amplify rounding."""
        self.layers.append(returned[0].detach())

    def after(self, name: str):
        """Return a hook that records a call of a recurrent module."""

        def hook(module: nn.Module, inputs: tuple, keywords: dict, returned: Any) -> None:
            assert isinstance(module, nn.RNNBase | Network)
            given = _given(inputs, keywords)
            _check_returned(name, module, returned)
            output, last = returned
            output = output.data if isinstance(output, PackedSequence) else output
            last = last if isinstance(last, tuple) else (last,)
            x = _detached(given["input"])
            hx = given.get("hx")
            weights = self.used.of_call(module)
            starts = () if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
            data = x.data if isinstance(x, PackedSequence) else x
            named = [("output", output), *zip(("h_n", "c_n"), last, strict=False), ("input", data)]
            named += [
                (f"initial state {name}", state.detach())
                for name, state in zip("hc", starts, strict=False)
            ]
            call = RecordedCall(
                name=name,
                module=module,
                number=self.numbers[name],
                x=x,
                hx=hx,
                output=output,
                last=last,
                rng=self.states.pop(name, None),
                dtype=computed_in(last[0]),
                weights=weights,
                seen=Snapshot.of([*named, *weights.items()]),
                without_graph=None
                if output.requires_grad or last[0].requires_grad
                else why_without_graph(),
                lower=tuple(self.layers[:-1]) if isinstance(module, Network) else (),
            )
            self.numbers[name] += 1
            self.calls.append(call)
            for tensor in call.outputs:
                self.watch(tensor)

        return hook

    def cell(self, name: str, loops: Loops):
        """Return a hook that records a step of a loop and returns a copy of the state."""

        def hook(module: nn.Module, inputs: tuple, keywords: dict, returned: Any) -> Any:
            assert isinstance(module, nn.RNNCellBase)
            return loops.cell(
                name, module, _given(inputs, keywords), returned, self.used.of(module, CELL_WEIGHTS)
            )

        return hook


def _check_returned(name: str, module: nn.Module, returned: Any) -> None:
    """Refuse a subclass that does not return what its base class returns."""
    is_pair = isinstance(returned, tuple) and len(returned) == 2
    output, last = returned if is_pair else (None, None)
    parts = last if isinstance(last, tuple) else (last,)
    if not isinstance(output, (Tensor, PackedSequence)) or not all(
        isinstance(part, Tensor) for part in parts
    ):
        kind = next(base for base in sequence_modules() if isinstance(module, base))
        kinds = (
            ", ".join(type(part).__name__ for part in returned)
            if isinstance(returned, tuple)
            else None
        )
        raise InputError(
            f"trace() needs a subclass of {kind.__name__} that returns (output, h_n), as "
            f"{kind.__name__} does",
            got=f"{name or 'the model'}, a {type(module).__name__}, returned "
            f"{f'({kinds})' if kinds is not None else type(returned).__name__}",
            cause="its own forward method",
            cure=f"use a {kind.__name__} as a submodule instead of a base class",
        )


def _given(inputs: tuple, keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name: ``input``, and ``hx`` if there is one."""
    given = dict(zip(("input", "hx"), inputs, strict=False)) | keywords
    return {"input" if name == "x" else name: value for name, value in given.items()}


def _fits(name: str):
    """Return a hook that refuses inputs and states of a wrong size, by the module's name."""

    def hook(module: nn.Module, inputs: tuple, keywords: dict) -> None:
        assert isinstance(module, nn.RNNBase | nn.RNNCellBase | Network)
        given = _given(inputs, keywords)
        title = name or type(module).__name__
        x = given.get("input")
        states = given.get("hx")
        if isinstance(x, Tensor | PackedSequence) and (x.data.is_meta or x.data.is_complex()):
            raise InputError(
                f"trace() needs real numbers in {title}",
                got=f"an input = {checks.shown(x.data)}, on {x.data.device}",
                cause="a tensor on the meta device holds no numbers"
                if x.data.is_meta
                else "complex numbers",
            )
        if isinstance(x, Tensor | PackedSequence) and x.data.shape[-1] != module.input_size:
            raise InputError(
                f"{title} needs inputs whose last axis has the length input_size",
                got=f"length {x.data.shape[-1]}, input_size = {module.input_size}",
                cause="added or missing features, or a layer below of another width",
            )
        samples = _samples(module, x)
        sizes = (getattr(module, "proj_size", 0) or module.hidden_size, module.hidden_size)
        for state, size in zip(
            states if isinstance(states, tuple) else (states,), sizes, strict=False
        ):
            if isinstance(state, Tensor) and state.shape[-1] != size:
                raise InputError(
                    f"{title} needs an initial state hx whose last axis has the size of its states",
                    got=f"hx of shape {tuple(state.shape)}, states of {size} numbers",
                    cause="the state of another layer",
                )
            if (
                isinstance(state, Tensor)
                and samples is not None
                and state.dim() > 1
                and state.shape[-2] != samples
            ):
                raise InputError(
                    f"{title} needs an initial state for each sample",
                    got=f"hx of shape {tuple(state.shape)}, {samples} samples",
                    cause="the state of another batch, or axes in another order: hx is never "
                    "batch first",
                )

    return hook


def _samples(module: nn.Module, x: Any) -> int | None:
    """Return the number of samples; ``None`` for a sequence without a batch axis."""
    if isinstance(x, PackedSequence):
        return int(x.batch_sizes[0])
    is_cell = is_step_module(module)
    if not isinstance(x, Tensor) or x.dim() != (2 if is_cell else 3):
        return None
    return x.shape[0 if is_cell or getattr(module, "batch_first", True) else 1]


def _detached(x: Tensor | PackedSequence) -> Tensor | PackedSequence:
    return x._replace(data=x.data.detach()) if isinstance(x, PackedSequence) else x.detach()


def _refuse_scripted(model: nn.Module) -> None:
    for name, module in model.named_modules():
        kind = getattr(module, "original_name", "")
        if isinstance(module, torch.jit.ScriptModule) and kind in {
            known.__name__ for known in (*sequence_modules(), *step_modules())
        }:
            raise InputError(
                "trace() cannot see the layers of a scripted module",
                got=f"{name or 'the model'}, a scripted {kind}",
                cure="trace the original Python module; TorchScript alone cannot be traced",
            )


def _nothing_recurrent(model: nn.Module, loops: Loops) -> InputError:
    if loops.is_marked_elsewhere:
        return InputError(
            "trace() records the states that its own thread marks",
            got="recorded states in another thread, and none in this one",
            cause="the model ran in a thread that was started inside the block",
            cure="call trace() in the thread that runs the model",
        )
    held = sorted(
        {getattr(module, "original_name", type(module).__name__) for module in model.modules()}
    )
    return InputError(
        "trace() needs a model with recurrent layers (torch.nn.RNN, LSTM or GRU, their cells, or "
        "those of "
        "leadline.recurrent) or with a loop that marks its states",
        got=f"a model made of {', '.join(held)}, and no state was marked",
        cure="pass the module that holds the recurrent layers; in a loop, use h = "
        "gradients.record(h)",
    )
