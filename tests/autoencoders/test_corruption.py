import pytest
import torch

from leadline.autoencoders import Autoencoder, GaussianNoise, Nothing, PixelMask
from leadline.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "corruption", [Nothing(), GaussianNoise(0.3), PixelMask(0.4), PixelMask(0.4, loss="masked")]
)
def test_corruptions_draw_only_from_their_generator_and_keep_the_batch(corruption):
    x = torch.rand(20, 8, generator=generator(1))
    before = x.clone()
    first, second, other = (corruption.corrupt(x, generator(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert torch.equal(first, other) == isinstance(corruption, Nothing)
    assert torch.equal(x, before)


def test_noise_has_the_given_standard_deviation():
    x = torch.full((400, 50), 3.0)
    seen, loss_mask = GaussianNoise(std=0.25).corrupt(x, generator())
    assert loss_mask is None
    assert seen.mean().item() == pytest.approx(3, abs=0.01)
    assert seen.std().item() == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.75, 0.99])
def test_a_pixel_mask_hides_its_share_uniformly(ratio):
    x = torch.ones(4000, 10)
    seen, loss_mask = PixelMask(ratio, loss="visible").corrupt(x, generator())
    assert loss_mask is not None
    assert torch.equal(seen, loss_mask)
    assert (1 - seen).mean(0).numpy() == pytest.approx([ratio] * 10, abs=0.03)
    assert (seen[0] == seen).all(1).all() == (ratio == 0)


@pytest.mark.parametrize("loss", ["masked", "visible"])
def test_no_gradient_where_the_loss_does_not_count(loss):
    x = torch.rand(6, 8, generator=generator(1)) + 0.1
    seen, loss_mask = PixelMask(0.5, loss=loss).corrupt(x, generator())
    model = Autoencoder(8, (4,), seed=0, corruption=PixelMask(0.5, loss=loss))
    reconstruction = model(seen).detach().requires_grad_()
    ((reconstruction - x).square() * loss_mask).sum(1).mean().backward()
    counted = (seen == 0) if loss == "masked" else (seen != 0)
    assert torch.equal(reconstruction.grad != 0, counted)


def test_all_masked_and_visible_losses_add_up():
    x = torch.rand(6, 8, generator=generator(1))
    losses = {
        loss: Autoencoder(8, (4,), seed=0, corruption=PixelMask(0.5, loss=loss))
        .loss(x, generator())
        .item()
        for loss in ("all", "masked", "visible")
    }
    assert losses["masked"] + losses["visible"] == pytest.approx(losses["all"])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PixelMask(1.0), r"ratio must lie in \[0, 1\)\n  got:   ratio = 1.0"),
        (lambda: PixelMask(-0.1), "ratio = -0.1"),
        (
            lambda: PixelMask(0.5, loss="hidden"),  # pyright: ignore[reportArgumentType]
            "must be 'all', 'masked' or 'visible'\n  got:   loss = 'hidden'",
        ),
        (lambda: GaussianNoise(-1), "at least 0\n  got:   std = -1"),
        (lambda: GaussianNoise(float("nan")), "std = nan"),
    ],
)
def test_corruptions_refuse_bad_settings(make, text):
    with pytest.raises(InputError, match=text):
        make()
