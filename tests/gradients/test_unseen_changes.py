"""Changes of weights that autograd does not count are refused if the loss used these weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from leadline import InputError, gradients


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.loop = nn.LSTM(3, 4)
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.loop(x)[0])


class Steps(Whole):
    def __init__(self):
        super().__init__()
        self.loop = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[1], 4)
        states = []
        for x_t in x:
            h = self.loop(x_t, h)
            states.append(h)
        return self.head(torch.stack(states))


class Marked(Whole):
    def __init__(self):
        super().__init__()
        self.loop = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[1], 4)
        states = []
        for x_t in x:
            h = gradients.record(torch.tanh(self.loop(h) + x_t.sum(-1, keepdim=True)))
            states.append(h)
        return self.head(torch.stack(states))


def fused_step(module: nn.Module) -> None:
    """The step is smaller than the tolerance of the replay, which would not notice it."""
    parameters = list(module.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    torch.optim.Adam(parameters, 1e-6, fused=True).step()


def through_data(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data.add_(1e-5)


@pytest.mark.parametrize("kind", [Whole, Steps, Marked])
@pytest.mark.parametrize("change", [fused_step, through_data])
@pytest.mark.parametrize("part", ["loop", "head", "unused"])
def test_a_change_that_autograd_does_not_count_is_refused(
    kind: Callable[[], Whole], change: Callable[[nn.Module], None], part: str
):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = kind(), torch.randn(5, 2, 3)
    with gradients.trace(model) as tape:
        loss = model(x).square().mean()
    before = tape.gradient_flow(loss).layers[0].total
    change(getattr(model, part))
    if part == "unused":
        assert (tape.gradient_flow(loss).layers[0].total == before).all()
        return
    with pytest.raises(InputError, match=f"{part}.* has changed since the block"):
        tape.gradient_flow(loss)
