import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.autoencoders import (
    Autoencoder,
    Encoder,
    MaskedPatchTransformer,
    Pretrained,
    pretrain,
    pretrain_many,
)
from leadline.autoencoders.models._tokens import sinusoidal_positions
from leadline.autoencoders.training._autograd import AutogradEngine
from leadline.errors import InputError, describe

SMALL = {
    "width": 16,
    "depth": 2,
    "heads": 2,
    "decoder_width": 8,
    "decoder_depth": 1,
    "decoder_heads": 2,
}


def small(
    image_size: Any = (8, 12), patch_size=4, channels=1, *, seed: int | None = 0, **options: Any
) -> Any:
    return MaskedPatchTransformer(
        image_size, patch_size, channels, seed=seed, **{**SMALL, **options}
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, channels=1, size=(8, 12), seed=0):
    return np.random.default_rng(seed).random((n, channels, *size), dtype=np.float32)


def vit_mae(model: Any) -> Any:
    """Return the model of transformers with the same weights, as the oracle."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    a, mask = model.architecture, model.corruption
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = ViTMAEForPreTraining(
            ViTMAEConfig(
                image_size=a.grid.sides[0],
                patch_size=a.grid.patch_sides[0],
                num_channels=a.channels,
                hidden_size=a.width,
                num_hidden_layers=a.depth,
                num_attention_heads=a.heads,
                intermediate_size=4 * a.width,
                decoder_hidden_size=a.decoder_width,
                decoder_num_hidden_layers=a.decoder_depth,
                decoder_num_attention_heads=a.decoder_heads,
                decoder_intermediate_size=4 * a.decoder_width,
                mask_ratio=mask.ratio,
                norm_pix_loss=a.normalise,
                layer_norm_eps=1e-6,
            )
        )

    def layer(prefix, block):
        named = {
            "layernorm_before": block.norm1,
            "layernorm_after": block.norm2,
            "attention.o_proj": block.out,
        }
        named |= {"mlp.fc1": block.up, "mlp.fc2": block.down}
        state = {
            f"{prefix}.{name}.{kind}": getattr(m, kind)
            for name, m in named.items()
            for kind in ("weight", "bias")
        }
        for kind in ("weight", "bias"):
            for name, part in zip("qkv", getattr(block.qkv, kind).chunk(3), strict=True):
                state[f"{prefix}.attention.{name}_proj.{kind}"] = part
        return state

    p, q = a.grid.patch_sides
    encoder, decoder = model.encoder, model.decoder
    last = torch.arange(a.grid.patch_features).view(a.channels, p, q).permute(1, 2, 0).flatten()
    state = {
        "vit.embeddings.cls_token": encoder.class_token.view(1, 1, -1),
        "vit.embeddings.patch_embeddings.projection.weight": encoder.embed.weight.view(
            -1, a.channels, p, q
        ),
        "vit.embeddings.patch_embeddings.projection.bias": encoder.embed.bias,
        "vit.layernorm.weight": encoder.norm.weight,
        "vit.layernorm.bias": encoder.norm.bias,
        "decoder.decoder_embed.weight": decoder.embed.weight,
        "decoder.decoder_embed.bias": decoder.embed.bias,
        "decoder.mask_token": decoder.mask_token.view(1, 1, -1),
        "decoder.decoder_norm.weight": decoder.norm.weight,
        "decoder.decoder_norm.bias": decoder.norm.bias,
        "decoder.decoder_pred.weight": decoder.predict.weight[last],
        "decoder.decoder_pred.bias": decoder.predict.bias[last],
    }
    for i, block in enumerate(encoder.blocks):
        state |= layer(f"vit.layers.{i}", block)
    for i, block in enumerate(decoder.blocks):
        state |= layer(f"decoder.decoder_layers.{i}", block)
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert unexpected == []
    assert set(missing) <= {"vit.embeddings.position_embeddings", "decoder.decoder_pos_embed"}
    for ours, table in (
        (encoder.positions, theirs.vit.embeddings.position_embeddings),
        (decoder.positions, theirs.decoder.decoder_pos_embed),
    ):
        with torch.no_grad():
            table[0, 0], table[0, 1:] = 0, ours
    return theirs


@pytest.mark.parametrize(
    ("channels", "normalise", "depths", "ratio"),
    [(1, False, (2, 1), 0.75), (3, True, (1, 2), 0.75), (3, False, (2, 2), 0.5)],
)
def test_loss_and_gradients_match_vit_mae(channels, normalise, depths, ratio):
    model = small(
        12,
        3,
        channels,
        normalise=normalise,
        depth=depths[0],
        decoder_depth=depths[1],
        mask_ratio=ratio,
    )
    with torch.no_grad():  # away from zero, so that no bias and no scale could be left out
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator(2))
    theirs = vit_mae(model)
    x = torch.from_numpy(images(6, channels, (12, 12)))
    noise = torch.rand(6, 16, generator=generator(5))
    expected = theirs(x, noise=noise).loss
    hidden = model.architecture.grid.num_patches - model.corruption.num_visible
    loss = model.loss(x, generator(5)) / (hidden * model.architecture.grid.patch_features)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    pairs = [
        (
            model.encoder.embed.weight.grad,
            theirs.vit.embeddings.patch_embeddings.projection.weight.grad.flatten(1),
        ),
        (model.encoder.class_token.grad, theirs.vit.embeddings.cls_token.grad.flatten()),
        (model.decoder.mask_token.grad, theirs.decoder.mask_token.grad.flatten()),
        (
            model.encoder.blocks[0].qkv.weight.grad[:16],
            theirs.vit.layers[0].attention.q_proj.weight.grad,
        ),
        (
            model.decoder.blocks[-1].up.weight.grad,
            theirs.decoder.decoder_layers[-1].mlp.fc1.weight.grad,
        ),
    ]
    for ours, other in pairs:
        np.testing.assert_allclose(ours, other, rtol=1e-3, atol=1e-6)


def test_positions_match_vit_mae():
    from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

    theirs = build_2d_sinusoidal_position_embedding(
        3, 5, 16
    )  # its first half is for rows, ours for columns
    np.testing.assert_allclose(
        sinusoidal_positions((3, 5), 16), torch.cat([theirs[:, 8:], theirs[:, :8]], 1), atol=1e-6
    )


def test_hidden_patches_never_enter_the_encoder():
    model = small((16, 12), mask_ratio=0.75)
    lengths = []
    model.encoder.blocks[0].register_forward_hook(
        lambda _, args, __: lengths.append(args[0].shape[1])
    )
    x = torch.from_numpy(images(5, size=(16, 12))).flatten(1)
    seen, _ = model.corruption.corrupt(x, generator())
    other = torch.where(seen.isnan(), torch.rand(x.shape, generator=generator(9)), x)
    assert torch.equal(model(seen), model(model.corruption.corrupt(other, generator())[0]))
    assert lengths == [4, 4]  # 3 of 12 patches, and the class token
    model.encode(x)
    assert lengths[-1] == 13


@pytest.mark.parametrize("loss", ["all", "masked", "visible"])
@pytest.mark.parametrize("decoder_depth", [1, 2])
def test_uncounted_patches_are_not_predicted_and_change_nothing(loss, decoder_depth):
    model = small(loss=loss, mask_ratio=0.5, decoder_depth=decoder_depth).double()
    x = torch.from_numpy(images(5)).flatten(1).double()
    seen, loss_mask = model.corruption.corrupt(x, generator())
    target = x.clone().requires_grad_()
    error = model.squared_error(seen, target, loss_mask)
    slow = model(seen) - x  # predicts everything
    expected = (slow.square() * (1 if loss_mask is None else loss_mask)).sum()
    assert error.item() == pytest.approx(expected.item(), rel=1e-12)
    (of_target,) = torch.autograd.grad(error, target)
    hidden = seen.isnan()
    counted = {"all": torch.ones_like(hidden), "masked": hidden, "visible": ~hidden}[loss]
    assert torch.equal(of_target != 0, counted)


def test_images_may_show_different_numbers_of_patches():
    """A batch of images with different masks equals the single images."""
    model = small().double()
    x = torch.from_numpy(images(6)).flatten(1).double()
    hidden = torch.zeros(6, 6, dtype=torch.bool)
    for i in range(6):
        hidden[i, torch.randperm(6, generator=generator(i))[:i]] = True
    spread = model.architecture.grid.spread(hidden)
    seen = x.masked_fill(spread, float("nan"))
    together = model(seen)
    alone = torch.cat([model(row[None]) for row in seen])
    np.testing.assert_allclose(together.detach(), alone.detach(), atol=1e-12)
    error = model.squared_error(seen, x, spread.double())
    assert error.item() == pytest.approx(((together - x).square() * spread).sum().item(), rel=1e-12)
    error.backward()
    assert all(
        torch.isfinite(parameter.grad).all()
        for parameter in model.parameters()
        if parameter.grad is not None
    )


@pytest.mark.parametrize("pooling", ["mean", "class", "none"])
def test_padding_changes_no_representation(pooling):
    model = small(channels=3, pooling=pooling)
    sizes = [(8, 12), (4, 4), (16, 8), (20, 24)]
    different = [torch.from_numpy(images(1, 3, size, i)[0]) for i, size in enumerate(sizes)]
    with torch.no_grad():
        padded = model.encode(different)
        for code, image in zip(padded, different, strict=True):
            alone = model.encode(image[None])[0]
            if pooling == "none":
                assert not code[len(alone) :].any()
                code = code[: len(alone)]
            np.testing.assert_allclose(code, alone, atol=2e-6)


def test_pooling_averages_patch_tokens():
    tokens = small(pooling="none").encode(torch.from_numpy(images(3)))
    assert tokens.shape == (3, 6, 16)
    torch.testing.assert_close(
        small(pooling="mean").encode(torch.from_numpy(images(3))), tokens.mean(1)
    )
    first = small(pooling="class").encode(torch.from_numpy(images(3)))
    assert first.shape == (3, 16)
    assert not torch.isclose(first[:, None], tokens).all(2).any()


def test_masking_is_off_without_a_generator_even_in_training_mode():
    x = torch.from_numpy(images(4))
    half, none = small(mask_ratio=0.5).train(), small(mask_ratio=0.0)
    assert torch.equal(half.encode(x), none.encode(x))
    assert torch.equal(half(x), none(x))
    assert half.loss(x).item() == none.loss(x).item() == none.loss(x, generator()).item()
    assert half.loss(x, generator()).item() != half.loss(x).item()


def test_constant_patches_can_be_normalised():
    x = torch.full((3, 1, 8, 12), 0.7)
    loss = small(normalise=True).loss(x, generator())
    assert loss.isfinite()
    target = small(normalise=True).target(torch.from_numpy(images(3)).flatten(1))
    np.testing.assert_allclose(target.mean(2), 0, atol=1e-5)
    np.testing.assert_allclose(target.std(2), 1, atol=1e-3)


def test_the_seed_determines_the_weights():
    one, same, other = small(seed=1), small(seed=1), small(seed=2)
    for name, parameter in one.state_dict().items():
        assert torch.equal(parameter, same.state_dict()[name])
    assert not torch.equal(one.encoder.embed.weight, other.encoder.embed.weight)
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(small(seed=None).encoder.embed.weight, one.encoder.embed.weight)


def test_a_step_of_the_autograd_engine_matches_adam_of_pytorch():
    model = small().double()
    x = torch.from_numpy(images(7)).flatten(1).double()
    engine = AutogradEngine(model, model.architecture, 1e-3, 0, torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    for i in range(4):
        seen, loss_mask = model.corruption.corrupt(x, generator(i))
        summed = engine.step(seen[None], x[None], loss_mask[None])
        optimizer.zero_grad()
        loss = model.loss(x, generator(i))
        assert (summed / 7).item() == pytest.approx(loss.item(), rel=1e-9)
        loss.backward()
        optimizer.step()
    for ours, theirs in zip(engine.module.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=1e-7, atol=1e-9)


X = images(70)
TRAINED = pretrain(small(channels=1), X, epochs=3)


@pytest.mark.parametrize("loss", ["all", "masked"])
@pytest.mark.parametrize("normalise", [False, True])
def test_training_lowers_the_error_and_centring_keeps_the_model(loss, normalise):
    model = small(loss=loss, normalise=normalise)
    x = torch.from_numpy(X)
    pretrained = pretrain(model, X, validation=X[:20], epochs=15, batch_size=20, learning_rate=3e-3)
    assert pretrained.own_error[-1] < 0.97 * pretrained.own_error[0]
    with torch.no_grad():
        now = float(model.loss(x[:20]))
    assert now == pytest.approx(pretrained.clean_error[pretrained.best_epoch], rel=1e-3)
    np.testing.assert_allclose(
        pretrained.model.encode(x).detach(), model.encode(x).detach(), rtol=1e-6
    )


def test_a_mask_ratio_of_zero_gives_no_nan():
    pretrained = pretrain(small(mask_ratio=0.0), X, epochs=2)
    assert np.isfinite(pretrained.own_error).all()
    np.testing.assert_allclose(pretrained.own_error, pretrained.clean_error)


def test_a_population_may_mix_models_without_changing_results():
    def make():
        return [small(seed=0), Autoencoder(96, (8,), seed=0), small(seed=1, mask_ratio=0.5)]

    together = pretrain_many(make(), X.reshape(70, -1), seeds=[0, 1, 2], epochs=2)
    assert [pretrained.protocol.settings["learning_rate"] for pretrained in together] == [
        1e-3,
        5e-3,
        1e-3,
    ]
    for i, (model, pretrained) in enumerate(zip(make(), together, strict=True)):
        alone = pretrain(model, X.reshape(70, -1), seed=i, epochs=2)
        assert all(
            np.array_equal(alone.weights[name], pretrained.weights[name]) for name in alone.weights
        )
        assert np.array_equal(alone.own_error, pretrained.own_error)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 69), min_size=1, max_size=40))
def test_a_code_does_not_depend_on_other_images(rows):
    whole = TRAINED.encoder.encode(X)
    assert whole.shape == (70, 16)
    assert np.array_equal(TRAINED.encoder.encode(X[rows]), whole[rows])


def test_the_encoder_takes_images_of_other_sizes_and_lists():
    encoder = TRAINED.encoder
    larger = images(20, size=(16, 20))
    codes = encoder.encode(larger)
    assert codes.shape == (20, 16)
    assert np.array_equal(encoder.encode(larger[3:5]), codes[3:5])
    tokens = encoder.with_pooling("none").encode(larger)
    assert tokens.shape == (20, 20, 16)
    np.testing.assert_allclose(tokens.mean(1), codes, atol=1e-6)
    assert encoder.with_pooling("class").encode(larger).shape == (20, 16)
    mixed = [larger[0], X[0], larger[1]]
    assert np.array_equal(
        encoder.encode(mixed), np.stack([codes[0], encoder.encode(X[:1])[0], codes[1]])
    )
    assert np.array_equal(encoder.encode(X.reshape(70, -1)), encoder.encode(X))
    assert np.array_equal(encoder.encode(X[:, 0]), encoder.encode(X))
    with torch.no_grad():
        np.testing.assert_allclose(TRAINED.model.encode(torch.from_numpy(larger)), codes, atol=1e-5)
    assert encoder.has_seen(X).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saving_and_loading_keeps_every_bit(tmp_path: Path, dtype):
    pretrained = pretrain(small(pooling="class").to(dtype), X, epochs=1)
    pretrained.encoder.save(tmp_path / "images.encoder")
    back = Encoder.load(tmp_path / "images.encoder")
    assert back.architecture == pretrained.architecture
    assert np.array_equal(back.encode(X), pretrained.encoder.encode(X))
    assert b"decoder." not in (tmp_path / "images.encoder").read_bytes()
    pretrained.save(tmp_path / "sounding")
    again = Pretrained.load(tmp_path / "sounding")
    assert again.model.corruption == pretrained.corruption
    assert np.array_equal(again.encoder.encode(X), pretrained.encoder.encode(X))
    control = back.untrained(3)
    assert np.array_equal(control.encode(X), back.untrained(3).encode(X))
    assert not np.allclose(control.encode(X), back.encode(X))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: small(10), "height 10, patches of 4"),
        (lambda: small(mask_ratio=1.0), r"\[0, 1\)\n  got:   ratio = 1.0"),
        (lambda: small(mask_ratio=-0.1), "ratio = -0.1"),
        (lambda: small(loss="hidden"), "loss = 'hidden'"),
        (lambda: small(width=18), "width = 18, heads = 2\n  cure:  width=16"),
        (lambda: small(width=16, heads=3), "width=12"),
        (lambda: small(decoder_width=10), "decoder_width must be a multiple of 4"),
        (lambda: small(depth=0), "depth must be a whole number of at least 1"),
        (lambda: small(pooling="max"), "pooling = 'max'"),
        (lambda: small(4, 1, normalise=True), "patches of two or more numbers"),
        (lambda: pretrain(small(), X[:, :, :, :8]), r"X of 8 x 8 pixels, the model takes 8 x 12"),
        (
            lambda: pretrain(small(), X.reshape(70, -1)[:, 1:]),
            "X has 95 features, the model takes 1 x 8 x 12 = 96",
        ),
        (
            lambda: pretrain(small(), X * 300),
            "must lie between 0 and 1 if it holds floating-point images",
        ),
        (lambda: TRAINED.encoder.encode(images(2, size=(8, 10))), "width 10, patches of 4"),
        (lambda: TRAINED.encoder.encode(images(2, channels=3)), r"shape \(2, 3, 8, 12\)"),
        (
            lambda: TRAINED.encoder.with_pooling("none").encode([X[0], images(1, size=(4, 4))[0]]),
            "images of one size",
        ),
        (
            lambda: pretrain(
                Autoencoder(96, (4,), seed=0), X.reshape(70, -1), epochs=1
            ).encoder.with_pooling("class"),
            "for a DenseArchitecture",
        ),
    ],
)
def test_bad_arguments_are_refused_before_any_work(make, text):
    with pytest.raises(InputError) as caught:
        make()
    assert re.search(text, describe(caught.value))
