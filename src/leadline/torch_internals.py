"""Everything private of torch that Leadline uses: names, names of nodes, and words of messages.

Torch may change any of these in a release, so no other file of Leadline may use one.
``tests/test_torch_internals.py`` checks each of them and names those that are missing.

======================================================= ==========================================
private in torch                                        used by
======================================================= ==========================================
``Tensor._version``                                     :func:`in_place_changes`
``_sequence_nr()`` of a node                            :func:`node_number`
``variable`` of a node                                  :func:`leaf_of`
names of nodes, such as ``StackBackward0``              :func:`joins_tensors`, :func:`writes_buffer`
messages of a backward pass                             :func:`autograd_fault`
``_C._autograd._get_current_graph_task_keep_graph``     :func:`is_graph_kept`
``_C._dispatch_tls_is_dispatch_key_excluded``           :func:`is_inside_operator`
``_C.DispatchKey.AutogradOther``                        :func:`is_inside_operator`
``_C._functorch.is_functorch_wrapped_tensor``           :func:`is_functorch_tensor`
``_dynamo`` and the module of its errors                :func:`is_compiler_loaded`,
                                                        :func:`is_compiler_error`
``_orig_mod`` of a compiled module                      :func:`uncompiled`
``_flat_weights_names``, ``_flat_weights`` of RNNBase   :func:`flat_weights`
``_parameters``, ``_buffers``, ``_modules`` of Module   :func:`buffers_of`, :func:`parts_of`
``_fused_adam_``                                        :func:`adam_step`
``ops.aten.threshold_backward``                         :func:`chain_relu_`
``ops.aten.gelu_backward``                              :func:`chain_gelu_`
``ops.aten._softmax_backward_data``                     :func:`softmax_gradient`
======================================================= ==========================================
"""

import sys
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor


def in_place_changes(tensor: Tensor) -> int:
    """Return the number of in-place changes that autograd has counted; 0 for an inference tensor.

    Autograd counts neither changes through ``.data`` nor the steps of an optimiser with
    ``fused=True``. An inference tensor has no counter.

    >>> h = torch.zeros(2)
    >>> before = in_place_changes(h)
    >>> _ = h[0].add_(1)  # a view shares the counter of its base
    >>> in_place_changes(h) - before
    1
    """
    if tensor.is_inference():
        return 0
    return tensor._version


def node_number(node: Any) -> int:
    """Return the position of an autograd node among all operations of its thread.

    Args:
        node: the ``grad_fn`` of a tensor.

    >>> x = torch.ones(1, requires_grad=True)
    >>> first = x * 2
    >>> second = first + 1
    >>> node_number(first.grad_fn) < node_number(second.grad_fn)
    True
    """
    return node._sequence_nr()


def leaf_of(node: Any) -> Tensor | None:
    """Return the leaf at which an autograd node adds up gradients; ``None`` for any other node.

    >>> x = torch.ones(1, requires_grad=True)
    >>> product = (x * 2).grad_fn
    >>> leaf_of(product) is None, leaf_of(product.next_functions[0][0]) is x
    (True, True)
    """
    return getattr(node, "variable", None)


BUFFER_NODES = ("CopySlices", "IndexPut", "IndexCopy", "SelectScatter", "SliceScatter", "Scatter")
"""Prefixes of the names of autograd nodes that write a tensor into a buffer."""

JOINING_NODES = ("Stack", "Cat", *BUFFER_NODES)
"""Prefixes of the names of autograd nodes that join several tensors into one."""


def joins_tensors(kind: type) -> bool:
    """True if autograd nodes of this class join several tensors, as ``torch.stack`` does.

    >>> joins_tensors(type(torch.stack([torch.ones(1, requires_grad=True)] * 2).grad_fn))
    True
    """
    return kind.__name__.startswith(JOINING_NODES)


def writes_buffer(kind: type) -> bool:
    """True if autograd nodes of this class write a tensor into a buffer, as ``x[0] = y`` does.

    >>> buffer = torch.zeros(2)
    >>> buffer[0] = torch.ones((), requires_grad=True)
    >>> writes_buffer(type(buffer.grad_fn))
    True
    """
    return kind.__name__.startswith(BUFFER_NODES)


class AutogradFault(Enum):
    """The faults of a backward pass for which Leadline knows the cause and the cure.

    Torch raises a plain ``RuntimeError`` for both. The value is a part of its message.
    """

    FREED_GRAPH = "backward through the graph a second time"
    """An earlier backward pass has freed the graph."""
    CHANGED_IN_PLACE = "inplace operation"
    """A tensor that the backward pass needs was changed in place after it was saved."""


def autograd_fault(error: RuntimeError) -> AutogradFault | None:
    """Return the fault that a backward pass of torch reports; ``None`` for any other error.

    >>> loss = torch.ones(1, requires_grad=True).square()
    >>> loss.backward()
    >>> try:
    ...     loss.backward()
    ... except RuntimeError as error:
    ...     print(autograd_fault(error))
    AutogradFault.FREED_GRAPH
    """
    message = str(error)
    return next((fault for fault in AutogradFault if fault.value in message), None)


def is_graph_kept() -> bool:
    """True if the running backward pass was started with ``retain_graph=True``."""
    autograd = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]
    return autograd._get_current_graph_task_keep_graph()


def is_inside_operator() -> bool:
    """True inside an operator that computes its own gradient, such as ``torch.scan``."""
    return torch._C._dispatch_tls_is_dispatch_key_excluded(torch._C.DispatchKey.AutogradOther)


def is_functorch_tensor(tensor: Tensor) -> bool:
    """True for the placeholder that a function sees inside ``torch.func`` or ``torch.vmap``."""
    return is_functorch_wrapped_tensor(tensor)


def is_compiler_loaded() -> bool:
    """True if torch's compiler was imported, so that compiled code may exist in this process."""
    return "torch._dynamo" in sys.modules


def is_compiler_error(error: BaseException) -> bool:
    """True if an error was raised by torch's compiler."""
    return type(error).__module__.startswith("torch._dynamo")


def uncompiled(model: Any) -> Any:
    """Return the module inside ``torch.compile(model)``; any other object is returned as it is."""
    return getattr(model, "_orig_mod", model)


def flat_weights(module: nn.RNNBase) -> dict[str, Tensor]:
    """Return the weights that the last forward pass of a recurrent module used, by name.

    >>> list(flat_weights(nn.GRU(2, 3, bias=False, device="meta")))
    ['weight_ih_l0', 'weight_hh_l0']
    """
    named = zip(module._flat_weights_names, module._flat_weights, strict=True)
    return {name: weight for name, weight in named if weight is not None}


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """Return the dictionary in which a module keeps its own buffers; changes to it take effect."""
    return module._buffers


def parts_of(module: nn.Module) -> list[Any]:
    """Return the parameters, buffers and submodules that a module itself holds, ``None`` included.

    >>> [type(part).__name__ for part in parts_of(nn.Linear(2, 3, bias=False, device="meta"))]
    ['Parameter', 'NoneType']
    """
    return [*module._parameters.values(), *module._buffers.values(), *module._modules.values()]


def adam_step(
    weights: list[Tensor],
    gradients: list[Tensor],
    first_moments: list[Tensor],
    second_moments: list[Tensor],
    steps: Tensor | list[Tensor],
    *,
    learning_rate: float,
    betas: tuple[float, float],
) -> None:
    """Take one step of Adam in place, by the kernel that ``torch.optim.Adam(fused=True)`` calls.

    Calling the kernel itself avoids the bookkeeping of the optimiser, which takes longer than the
    arithmetic of a small network.

    Args:
        weights: tensors to change.
        gradients: the gradient of each.
        first_moments: running means of the gradients, changed in place.
        second_moments: running means of their squares, changed in place.
        steps: the number of steps, this one included; a float32 tensor without dimensions. A list
            holds such a tensor for each of the weights.
        learning_rate: the learning rate, > 0.
        betas: decay of the first and of the second moments, in [0, 1).

    >>> w, g = torch.zeros(1), torch.ones(1)
    >>> m, v, steps = torch.zeros(1), torch.zeros(1), torch.tensor(1.0)
    >>> adam_step([w], [g], [m], [v], steps, learning_rate=0.1, betas=(0.9, 0.99))
    >>> round(w.item(), 4)
    -0.1
    """
    torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
        weights,
        gradients,
        first_moments,
        second_moments,
        [],
        [steps] * len(weights) if isinstance(steps, Tensor) else steps,
        lr=learning_rate,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=0.0,
        eps=1e-8,
        amsgrad=False,
        maximize=False,
    )


def chain_relu_(gradient: Tensor, output: Tensor) -> Tensor:
    """Multiply a gradient in place by the derivative of ReLU, and return it.

    Args:
        gradient: the gradient of the loss with respect to the output, of any shape.
        output: the output of ReLU, of the same shape.

    >>> chain_relu_(torch.tensor([3.0, 3.0]), torch.tensor([0.0, 2.0]))
    tensor([0., 3.])
    """
    return torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=gradient)


def chain_gelu_(gradient: Tensor, x: Tensor) -> Tensor:
    """Multiply a gradient in place by the derivative of GELU at ``x``, and return it.

    Args:
        gradient: the gradient of the loss with respect to ``gelu(x)``, of any shape.
        x: the input of GELU, of the same shape.

    >>> chain_gelu_(torch.tensor([3.0]), torch.tensor([0.0]))
    tensor([1.5000])
    """
    return torch.ops.aten.gelu_backward.grad_input(gradient, x, grad_input=gradient)


def softmax_gradient(gradient: Tensor, chances: Tensor, dim: int) -> Tensor:
    """Return the gradient of the scores, from the gradient of ``softmax(scores, dim)``.

    Args:
        gradient: the gradient of the loss with respect to the softmax, of any shape.
        chances: the softmax, of the same shape and dtype.
        dim: the axis along which the softmax sums to 1.

    >>> softmax_gradient(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]), 0)
    tensor([ 0.2500, -0.2500])
    """
    return torch.ops.aten._softmax_backward_data(gradient, chances, dim, chances.dtype)
