import pytest
import torch

from leadline.autoencoders import attention
from leadline.autoencoders.attention import Block, linear_layer


@pytest.mark.parametrize("wanted", [None, [[0, 2, 3], [4, 1, 0]]])
def test_attention_between_few_tokens_is_that_between_many(monkeypatch: pytest.MonkeyPatch, wanted):
    """The same block by plain products and by ``scaled_dot_product_attention``: outputs and all gradients."""
    block = Block(8, 2, torch.Generator().manual_seed(0)).double()
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    chosen = None if wanted is None else torch.tensor(wanted)

    def run(few_tokens: int) -> list[torch.Tensor]:
        monkeypatch.setattr(attention, "FEW_TOKENS", few_tokens)
        out = block(x, wanted=chosen)
        return [out, *torch.autograd.grad(out.sin().sum(), [x, *block.parameters()])]

    for ours, theirs in zip(run(5), run(4), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_its_gradients_are_finite_differences():
    generator = torch.Generator().manual_seed(0)
    q, kv = (torch.randn(2, tokens, parts * 6, generator=generator).double() for tokens, parts in ((2, 1), (3, 2)))
    inputs = (q.requires_grad_(), kv.requires_grad_())
    assert torch.autograd.gradcheck(lambda q, kv: attention.attention(2, 3, [q, kv]), inputs)


def test_layers_begin_with_xaviers_spread_and_no_bias():
    layer = linear_layer(300, 100, torch.Generator().manual_seed(0))
    assert layer.weight.detach().var().item() == pytest.approx(2 / 400, rel=0.05)
    assert not layer.bias.detach().any()
