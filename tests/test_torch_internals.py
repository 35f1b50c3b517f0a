"""The private names of torch and transformers exist, and a single file uses each of them."""

import ast
import inspect
import re
from collections.abc import Callable
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor

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
    "ops.aten.threshold_backward.grad_input": "chain_relu_()",
    "ops.aten.gelu_backward.grad_input": "chain_gelu_()",
    "ops.aten._softmax_backward_data": "softmax_gradient()",
}
"""Private names under ``torch``, and the function of Leadline that uses each."""


def names_of_functions() -> list[str]:
    """Return the names of all functions of the file."""
    functions = inspect.getmembers(torch_internals, inspect.isfunction)
    return [name for name, value in functions if value.__module__ == torch_internals.__name__]


PRIVATE_PATTERN = re.compile(
    r"torch\._(?!_)|from torch[\w.]*\._| _C\b|\._version\b|_sequence_nr|_flat_weights|_orig_mod"
    r"|\._(parameters|buffers|modules)\b(?!\(| import)|[\"']_(parameters|buffers|modules)[\"']"
    r"|torch\.(ops|nn\.modules)\.|[\"']variable[\"']|\.variable\b|Backward0"
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


@pytest.mark.parametrize("name", names_of_functions())
def test_the_list_of_private_names_holds_each_function(name):
    assert f":func:`{name}`" in str(torch_internals.__doc__)


def test_nodes_are_numbered_in_the_order_of_the_operations():
    x = torch.ones(2, requires_grad=True)
    results = [x + 1, x * 2, x.sum()]
    numbers = [torch_internals.node_number(result.grad_fn) for result in results]
    assert numbers == sorted(set(numbers))


def test_the_leaf_of_a_node_is_the_parameter_itself():
    weight = torch.nn.Parameter(torch.ones(2))
    product = 2 * weight
    assert product.grad_fn is not None
    assert torch_internals.leaf_of(product.grad_fn) is None
    leaves = [torch_internals.leaf_of(node) for node, _ in product.grad_fn.next_functions if node]
    assert len(leaves) == 1
    assert leaves[0] is weight


def changed(change: Callable[[Tensor], object]) -> Tensor:
    """Return a buffer of three zeros after a change in place."""
    buffer = torch.zeros(3)
    change(buffer)
    return buffer


X = torch.ones(1, requires_grad=True)
INDEX = torch.tensor([0])

BUFFERS = {
    "assignment": lambda: changed(lambda buffer: buffer.__setitem__(0, X[0])),
    "index_put": lambda: torch.zeros(3).index_put((INDEX,), X),
    "index_copy": lambda: torch.zeros(3).index_copy(0, INDEX, X),
    "select_scatter": lambda: torch.zeros(3).select_scatter(X[0], 0, 1),
    "slice_scatter": lambda: torch.zeros(3).slice_scatter(X, 0, 1, 2),
    "scatter": lambda: torch.zeros(3).scatter(0, INDEX, X),
}
JOINS = {"stack": lambda: torch.stack([X, X]), "cat": lambda: torch.cat([X, X])}
OTHERS = {"sum": lambda: X.sum(), "expand": lambda: X.expand(3), "select": lambda: X[0]}


@pytest.mark.parametrize("name", BUFFERS | JOINS | OTHERS)
def test_nodes_that_join_tensors_or_write_buffers_are_recognised(name):
    kind = type((BUFFERS | JOINS | OTHERS)[name]().grad_fn)
    assert torch_internals.writes_buffer(kind) == (name in BUFFERS)
    assert torch_internals.joins_tensors(kind) == (name not in OTHERS)


def fault_of(loss: Tensor) -> torch_internals.AutogradFault | None:
    """Return the fault of a backward pass, which must fail."""
    with pytest.raises(RuntimeError) as caught:
        loss.sum().backward()
    return torch_internals.autograd_fault(caught.value)


def test_a_second_backward_pass_through_a_freed_graph_is_recognised():
    loss = torch.ones(2, requires_grad=True).square().sum()
    loss.backward()
    assert fault_of(loss) is torch_internals.AutogradFault.FREED_GRAPH


@pytest.mark.parametrize("change", [Tensor.relu_, lambda h: h[0].mul_(2), lambda h: h.add_(1)])
def test_a_backward_pass_that_needs_a_changed_tensor_is_recognised(change):
    h = torch.ones(2, requires_grad=True).exp()
    change(h)
    assert fault_of(h) is torch_internals.AutogradFault.CHANGED_IN_PLACE


def test_other_failures_of_a_backward_pass_have_no_known_fault():
    assert fault_of(torch.zeros(2)) is None


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_of_relu_gelu_and_softmax_are_those_of_autograd(dtype):
    generator = torch.Generator().manual_seed(0)
    x, gradient = torch.randn(2, 4, 5, generator=generator, dtype=dtype)
    relu, gelu = torch.nn.functional.relu, torch.nn.functional.gelu

    def by_autograd(function: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(function(leaf), leaf, gradient)[0]

    assert torch.equal(torch_internals.chain_relu_(gradient.clone(), relu(x)), by_autograd(relu))
    assert torch.equal(torch_internals.chain_gelu_(gradient.clone(), x), by_autograd(gelu))
    by_hand = torch_internals.softmax_gradient(gradient, x.softmax(1), 1)
    assert torch.equal(by_hand, by_autograd(lambda scores: scores.softmax(1)))


def test_chain_rules_change_their_gradient_in_place():
    gradient = torch.ones(3)
    assert torch_internals.chain_relu_(gradient, torch.zeros(3)) is gradient
    assert gradient.tolist() == [0, 0, 0]
    assert torch_internals.chain_gelu_(gradient, torch.zeros(3)) is gradient


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
