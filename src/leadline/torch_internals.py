"""Private names of torch that Leadline uses, all in this file.

Torch may rename or remove a private name in any release, so no other file of Leadline may use one.
``tests/test_torch_internals.py`` checks each name and names those that are missing.
"""

import sys
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
