"""The private names of torch and transformers exist, and a single file uses each of them."""

import ast
import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest
import torch

from leadline import torch_internals

SOURCE = Path(torch_internals.__file__).parent

PRIVATE_NAMES = {
    "Tensor._version": "in_place_changes()",
    "_C._autograd._get_current_graph_task_keep_graph": "is_graph_kept()",
    "_C._dispatch_tls_is_dispatch_key_excluded": "is_inside_operator()",
    "_C.DispatchKey.AutogradOther": "is_inside_operator()",
    "_C._functorch.is_functorch_wrapped_tensor": "is_functorch_tensor()",
    "_dynamo.exc.TorchDynamoException": "is_compiler_loaded() and is_compiler_error()",
    "_dynamo.eval_frame.OptimizedModule": "uncompiled()",
    "_fused_adam_": "adam_step()",
}
"""Private names under ``torch``, and the function of Leadline that uses each."""

PRIVATE_PATTERN = re.compile(
    r"torch\._(?!_)|from torch[\w.]*\._| _C\b|\._version\b|_sequence_nr|_flat_weights|_orig_mod"
    r"|\._(parameters|buffers|modules)\b(?!\()|[\"']_(parameters|buffers|modules)[\"']"
)


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_torch_has_each_private_name(name):
    import_module("torch._dynamo")  # torch does not load this module by itself.
    try:
        reduce(getattr, name.split("."), torch)
    except AttributeError:
        user = f"leadline.torch_internals.{PRIVATE_NAMES[name]}"
        pytest.fail(f"torch {torch.__version__} has no torch.{name}, which {user} uses")


@pytest.mark.parametrize("name", ["_flat_weights", "_flat_weights_names"])
def test_recurrent_modules_have_each_private_name(name):
    assert hasattr(torch.nn.LSTM(2, 3, device="meta"), name), (
        f"flat_weights() uses torch.nn.RNNBase.{name}"
    )


@pytest.mark.parametrize("name", ["_parameters", "_buffers", "_modules"])
def test_modules_have_each_private_name(name):
    assert isinstance(getattr(torch.nn.Linear(2, 3, device="meta"), name), dict), (
        f"parts_of() uses {name}"
    )


def test_no_other_file_uses_a_private_name_of_torch():
    uses = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name == "torch_internals.py":
            continue
        place = path.relative_to(SOURCE)
        lines = ast.unparse(ast.parse(path.read_text(encoding="utf-8"))).splitlines()
        uses += [f"{place}: {line.strip()}" for line in lines if PRIVATE_PATTERN.search(line)]
    assert not uses, "move these to leadline/torch_internals.py:\n" + "\n".join(uses)


def test_in_place_changes_are_counted_and_inference_tensors_have_none():
    tensor = torch.zeros(2)
    before = torch_internals.in_place_changes(tensor)
    tensor.add_(1)
    assert torch_internals.in_place_changes(tensor) == before + 1
    with torch.inference_mode():
        assert torch_internals.in_place_changes(torch.zeros(2).add_(1)) == 0


@pytest.mark.parametrize("is_kept", [False, True])
def test_backward_knows_if_the_graph_is_kept(is_kept):
    seen = []
    x = torch.ones(1, requires_grad=True)
    x.register_hook(lambda _: seen.append(torch_internals.is_graph_kept()))
    (2 * x).sum().backward(retain_graph=is_kept)
    assert seen == [is_kept]


def test_placeholders_of_vmap_are_recognised():
    seen = []

    def function(x):
        seen.append(torch_internals.is_functorch_tensor(x))
        return x

    torch.vmap(function)(torch.zeros(3, 2))
    assert seen == [True]
    assert not torch_internals.is_functorch_tensor(torch.zeros(2))


def test_code_outside_an_operator_is_recognised():
    assert not torch_internals.is_inside_operator()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_module_is_unwrapped():
    module = torch.nn.Linear(2, 2, device="meta")
    assert torch_internals.uncompiled(torch.compile(module)) is module
    assert torch_internals.uncompiled(module) is module
    assert torch_internals.is_compiler_loaded()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_failure_of_the_compiler_is_recognised():
    @torch.compile(fullgraph=True, backend="eager")
    def cannot_compile(x):
        print(x)
        return x

    with pytest.raises(Exception) as caught:  # noqa: PT011  the class is a private one of torch
        cannot_compile(torch.zeros(2))
    assert torch_internals.is_compiler_error(caught.value)
    assert not torch_internals.is_compiler_error(ValueError())


def test_adam_step_agrees_with_the_optimiser():
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(5, generator=generator)
    theirs = torch.nn.Parameter(ours.clone())
    optimizer = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99), fused=True)
    first, second, steps = torch.zeros(5), torch.zeros(5), torch.tensor(0.0)
    for _ in range(3):
        theirs.grad = torch.randn(5, generator=generator)
        optimizer.step()
        steps += 1
        torch_internals.adam_step(
            [ours], [theirs.grad], [first], [second], steps, learning_rate=0.1, betas=(0.9, 0.99)
        )
    assert torch.equal(ours, theirs.detach())


def test_parts_of_a_module_are_its_own():
    norm = torch.nn.BatchNorm1d(2)
    parts = torch_internals.parts_of(norm)
    assert any(part is norm.weight for part in parts)
    assert any(part is norm.running_mean for part in parts)
    outer = torch.nn.Sequential(norm)
    assert torch_internals.parts_of(outer) == [norm]


def test_flat_weights_are_the_parameters_by_name():
    lstm = torch.nn.LSTM(2, 3, device="meta")
    found = torch_internals.flat_weights(lstm)
    assert all(found[name] is parameter for name, parameter in lstm.named_parameters())
