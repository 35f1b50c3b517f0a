import pytest
import torch
from torch import nn

from leadline.autoencoders import Autoencoder, DenseArchitecture, GaussianNoise, PixelMask
from leadline.errors import InputError
from leadline.randomness import torch_generator


def test_an_autoencoder_has_the_weights_of_plain_pytorch_layers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        encoder = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
        decoder = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 6))
        torch.manual_seed(7)
        unseeded = Autoencoder(6, (5, 2))
        torch.manual_seed(torch_generator(7, "autoencoders.weights").initial_seed())
        stream = Autoencoder(6, (5, 2))
    seeded = Autoencoder(6, (5, 2), seed=7)
    expected = [*encoder.parameters(), *decoder.parameters()]
    for model, drawn in ((unseeded, expected), (seeded, list(stream.parameters()))):
        for ours, theirs in zip(model.parameters(), drawn, strict=True):
            assert torch.equal(ours, theirs)
    seeded.load_state_dict(unseeded.state_dict())
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(seeded(x), decoder(encoder(x)))
    assert torch.equal(seeded.encode(x), encoder(x))
    assert seeded.loss(x).item() == pytest.approx(
        ((decoder(encoder(x)) - x) ** 2).sum(1).mean().item()
    )


@pytest.mark.parametrize("corruption", [GaussianNoise(1.0), PixelMask(0.5)])
def test_corruption_is_off_without_a_generator_even_in_training_mode(corruption):
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    vanilla, corrupted = (
        Autoencoder(6, (3,), seed=0),
        Autoencoder(6, (3,), corruption=corruption, seed=0),
    )
    corrupted.train()
    assert torch.equal(vanilla(x), corrupted(x))
    assert torch.equal(vanilla.encode(x), corrupted.encode(x))
    assert vanilla.loss(x).item() == corrupted.loss(x).item()
    assert corrupted.loss(x, torch.Generator().manual_seed(0)).item() != vanilla.loss(x).item()


def test_one_layer_may_be_given_as_a_number():
    assert DenseArchitecture(4, 3) == DenseArchitecture(4, (3,))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((4, ()), r"hidden_sizes = \(\)"),
        ((4, (3, 0)), "one or more numbers of at least 1"),
        ((0, (3,)), "input_size = 0"),
        ((4, (3,), "rleu"), "activation = 'rleu'\n  cure:  use one of relu"),
        ((4, (3,), "relu", "denoising"), "corruption = 'denoising'\n  cause: a name"),
        (
            (4, (3,), "relu", GaussianNoise),
            r"cause: a class instead .*\n  cure:  GaussianNoise\(\)",
        ),
    ],
)
def test_impossible_shapes_are_refused(arguments, text):
    with pytest.raises(InputError, match=text):
        Autoencoder(*arguments)
