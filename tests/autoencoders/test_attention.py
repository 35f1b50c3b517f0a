import pytest
import torch

from leadline.autoencoders import attention
from leadline.autoencoders.attention import Block, linear_layer


@pytest.mark.parametrize("wanted", [None, [[0, 2, 3], [4, 1, 0]]])
def test_what_is_quicker_by_hand_is_what_autograd_gives(monkeypatch: pytest.MonkeyPatch, wanted):
    """The same block in training, and by ``scaled_dot_product_attention`` and layers: outputs and all gradients."""
    block = Block(8, 2, torch.Generator().manual_seed(0)).double()
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    chosen = None if wanted is None else torch.tensor(wanted)

    def run(by_hand: bool, few_tokens: int = 5) -> list[torch.Tensor]:
        monkeypatch.setattr(attention, "FEW_TOKENS", few_tokens)
        monkeypatch.setattr(attention, "_in_training", lambda _: by_hand)
        out = block(x, wanted=chosen)
        return [out, *torch.autograd.grad(out.sin().sum(), [x, *block.parameters()])]

    for ours, many, theirs in zip(run(True), run(True, few_tokens=4), run(False), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(many, theirs, rtol=1e-12, atol=1e-12)


def test_its_gradients_are_finite_differences():
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    h, keyed = drawn(2, 2, 4), drawn(2, 3, 4)
    projections = (drawn(6, 4), drawn(6), drawn(12, 4), drawn(12))
    assert torch.autograd.gradcheck(
        lambda h, keyed, W, b, V, c: attention.attention(2, 3, [(h, W, b), (keyed, V, c)]), (h, keyed, *projections)
    )
    layer = linear_layer(4, 5, generator).double()
    assert torch.autograd.gradcheck(lambda x, h: attention.add_linear(x, h, layer), (drawn(2, 3, 5), drawn(2, 3, 4)))


def test_a_second_derivative_is_refused_rather_than_wrong():
    block = Block(8, 2, torch.Generator().manual_seed(0))
    x = torch.ones(1, 3, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_layers_begin_with_xaviers_spread_and_no_bias():
    layer = linear_layer(300, 100, torch.Generator().manual_seed(0))
    assert layer.weight.detach().var().item() == pytest.approx(2 / 400, rel=0.05)
    assert not layer.bias.detach().any()
