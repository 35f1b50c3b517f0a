import pytest
import torch

from leadline.autoencoders.models import _attention as attention
from leadline.autoencoders.models._attention import Block, linear_layer


@pytest.fixture
def block() -> Block:
    return Block(8, 2, torch.Generator().manual_seed(0)).double()


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True
    )


def test_plain_products_give_the_same_attention_as_the_blocked_kernel(
    monkeypatch: pytest.MonkeyPatch, block: Block
):
    """Outputs and gradients of plain products and of ``scaled_dot_product_attention`` agree."""
    x = drawn(2, 5, 8)

    def run(few_tokens: int) -> list[torch.Tensor]:
        monkeypatch.setattr(attention, "FEW_TOKENS", few_tokens)
        out = block(x)
        return [out, *torch.autograd.grad(out.sin().sum(), [x, *block.parameters()])]

    for ours, theirs in zip(run(5), run(4), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_second_backward_pass_gives_the_same_gradients(block: Block):
    x = drawn(2, 5, 8)
    out = block(x).sin().sum()
    kept, again, last = (
        torch.autograd.grad(out, [x, *block.parameters()], retain_graph=keep)
        for keep in (True, True, False)
    )
    for ours in (again, last):
        torch.testing.assert_close(ours, kept, rtol=0, atol=0)


def test_a_table_of_distinct_tokens_gives_the_same_result_as_copies(block: Block):
    rows, places, chosen = (
        drawn(4, 8),
        torch.tensor([[0, 2, 3], [1, 2, 0]]),
        torch.tensor([[2, 0], [1, 1]]),
    )
    wanted = places.gather(1, chosen)
    once = block(rows, places=places, wanted=wanted)
    copied = block(rows[places]).gather(1, chosen.unsqueeze(2).expand(-1, -1, 8))
    for ours, theirs in zip(
        *(
            [out, *torch.autograd.grad(out.sin().sum(), [rows, *block.parameters()])]
            for out in (once, copied)
        ),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_of_a_block_match_finite_differences(block: Block):
    x, names = drawn(2, 3, 8), [name for name, _ in block.named_parameters()]

    def run(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *block.parameters()), fast_mode=True)
    with torch.no_grad():
        plain = block(x)
    torch.testing.assert_close(block(x), plain, rtol=1e-12, atol=1e-12)


def test_gradients_of_attention_match_finite_differences():
    generator = torch.Generator().manual_seed(0)
    q, kv = (
        torch.randn(2, tokens, parts * 6, generator=generator).double()
        for tokens, parts in ((2, 1), (3, 2))
    )
    inputs = (q.requires_grad_(), kv.requires_grad_())
    assert torch.autograd.gradcheck(lambda q, kv: attention.attention(2, 3, [q, kv]), inputs)


def test_layers_start_with_xavier_weights_and_zero_biases():
    layer = linear_layer(300, 100, torch.Generator().manual_seed(0))
    assert layer.weight.detach().var().item() == pytest.approx(2 / 400, rel=0.05)
    assert not layer.bias.detach().any()
