import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.autoencoders import (
    Autoencoder,
    BlockMask,
    MaskedPatchTransformer,
    PatchMask,
    pretrain,
)
from leadline.autoencoders.models._patches import PatchGrid, check_images
from leadline.data._pixels import DIVIDED
from leadline.errors import InputError

GRIDS = [
    PatchGrid(8, 4),
    PatchGrid((4, 6), 2, 3),
    PatchGrid((6, 4), (3, 2), 3),
    PatchGrid((5, 7), 1),
    PatchGrid(6, 6),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_unpatchify_inverts_patchify(grid):
    x = torch.rand(3, grid.features, generator=generator())
    patches = grid.patchify(x)
    assert torch.equal(grid.unpatchify(patches), x)
    images = x.view(3, grid.channels, *grid.sides)
    assert torch.equal(grid.patchify(images), patches)
    (rows, columns), (p, q) = grid.shape, grid.patch_sides
    for i in range(rows):
        for j in range(columns):
            cut = images[:, :, i * p : (i + 1) * p, j * q : (j + 1) * q]
            assert torch.equal(patches[:, i * columns + j], cut.flatten(1))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_spread_repeats_values_of_patches_at_their_numbers(grid):
    chosen = torch.rand(4, grid.num_patches, generator=generator()) < 0.5
    spread = grid.spread(chosen)
    assert torch.equal(
        grid.patchify(spread.float()),
        chosen[:, :, None].float().expand(-1, -1, grid.patch_features),
    )
    assert torch.equal(grid.of_patches(spread.float()) == 1, chosen)


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 8), st.floats(0, 0.999))
def test_equally_many_patches_are_hidden_in_each_image(rows, columns, ratio):
    mask = PatchMask(ratio, 1, (rows, columns))
    total = rows * columns
    hidden = mask.hidden(20, generator()).sum(1)
    assert (hidden == total - mask.num_visible).all()
    assert 1 <= mask.num_visible <= total
    if ratio == 0 or total == 1:
        assert mask.num_visible == total
    else:
        assert mask.num_visible == min(max(round(total * (1 - ratio)), 1), total - 1)


def test_hidden_patches_are_uniform_over_positions_and_differ_between_images():
    hidden = PatchMask(0.75, 2, (4, 8)).hidden(4000, generator())
    assert hidden.float().mean(0).numpy() == pytest.approx([0.75] * 8, abs=0.03)
    pairs = (
        (hidden[:, :, None] & hidden[:, None, :]).float().mean(0)[~torch.eye(8, dtype=torch.bool)]
    )
    assert pairs.numpy() == pytest.approx([6 * 5 / (8 * 7)] * 56, abs=0.04)
    assert len(hidden.unique(dim=0)) == 28  # all ways to hide 6 of 8


@pytest.mark.parametrize("loss", ["all", "masked", "visible"])
@pytest.mark.parametrize("drop", [False, True])
def test_a_patch_mask_hides_whole_patches_in_all_channels(loss, drop):
    mask = PatchMask(0.5, 2, (4, 6), 3, loss, drop)
    x = torch.rand(5, 72, generator=generator(1)) + 0.1
    seen, loss_mask = mask.corrupt(x, generator())
    hidden = mask.grid.spread(mask.hidden(5, generator()))
    assert torch.equal(seen.isnan() if drop else seen == 0, hidden)
    assert torch.equal(seen[~hidden], x[~hidden])
    assert mask.counts_everywhere == (loss == "all") == (loss_mask is None)
    if loss_mask is not None:
        assert torch.equal(loss_mask == 1, hidden if loss == "masked" else ~hidden)


def test_the_loss_counts_everywhere_if_nothing_is_hidden():
    x = torch.rand(5, 16, generator=generator(1))
    for mask in (PatchMask(0.0, 2, 4, loss="masked"), BlockMask(0.0, 4, loss="masked")):
        seen, loss_mask = mask.corrupt(x, generator())
        assert torch.equal(seen, x)
        assert loss_mask is None
        assert mask.counts_everywhere


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(2, 12), st.floats(0.01, 0.99), st.booleans())
def test_a_block_is_one_rectangle_and_smaller_than_the_image(height, width, ratio, tall):
    height, width = (width, height) if tall else (height, width)
    mask = BlockMask(ratio, (height, width), 2, loss="masked")
    x = torch.ones(30, 2 * height * width)
    seen, loss_mask = mask.corrupt(x, generator())
    assert loss_mask is not None
    assert torch.equal(loss_mask, 1 - seen)
    hidden = (seen == 0).view(30, 2, height, width)
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    area = hidden[:, 0].sum((1, 2))
    assert torch.equal(area, hidden[:, 0].any(2).sum(1) * hidden[:, 0].any(1).sum(1))
    assert ((area > 0) & (area < height * width)).all()


def test_blocks_have_their_share_and_cover_all_places():
    seen, _ = BlockMask(0.3, 28).corrupt(torch.ones(2000, 784), generator())
    hidden = (seen == 0).view(-1, 28, 28).float()
    assert hidden.mean((1, 2)).numpy() == pytest.approx(np.full(2000, 0.3), abs=0.02)
    assert (hidden.mean(0) > 0.002).all()
    heights = hidden.amax(2).sum(1)
    assert heights.min() < 13 < 18 < heights.max()


@pytest.mark.parametrize("corruption", [PatchMask(0.5, 2, 4, loss="masked"), BlockMask(0.5, 4)])
def test_dense_autoencoders_train_under_masks(corruption):
    X = np.random.default_rng(0).random((40, 16), dtype=np.float32)
    pretrained = pretrain(Autoencoder(16, (8,), corruption=corruption, seed=0), X, epochs=5)
    assert np.isfinite(pretrained.own_error).all()
    assert pretrained.model.corruption == corruption


GRID = PatchGrid((4, 6), 2, 3)


def test_images_may_be_flat_or_shaped_and_whole_numbers_are_scaled():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    images = check_images(pixels, GRID)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, pixels / 255, rtol=1e-6)
    assert np.array_equal(check_images(images.reshape(5, -1), GRID), images)
    assert np.array_equal(check_images(np.moveaxis(pixels, 1, -1), GRID), images)
    binary = pixels % 2
    assert np.array_equal(check_images(binary, GRID), binary)
    grey = np.zeros((2, 4, 4))
    assert check_images(grey, PatchGrid(4, 2)).shape == (2, 1, 4, 4)
    beyond = np.full((2, 72), -3.0)
    assert check_images(beyond, GRID).min() == -3
    assert check_images(np.zeros((2, 3, 8, 2)), GRID, any_size=True).shape == (2, 3, 8, 2)


def test_the_result_notes_that_pixels_were_divided():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 6), dtype=np.uint8)
    for images, notes in ((pixels, (DIVIDED,)), (pixels / 255, ()), (pixels % 2, ())):
        model = MaskedPatchTransformer(
            (4, 6), 2, width=8, heads=1, depth=1, decoder_width=8, decoder_heads=1, seed=0
        )
        pretrained = pretrain(model, images, epochs=1, batch_size=20)
        assert pretrained.notes == notes
        assert (DIVIDED in str(pretrained)) == bool(notes)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: PatchGrid((28, 30), 4),
            "width 30, patches of 4\n  cure:  crop or pad the images to 28 or 32 pixels",
        ),
        (lambda: PatchGrid(3, 4), "height 3, patches of 4\n  cure:  crop or pad the images to 4"),
        (lambda: PatchGrid((28, 28, 3), 4), r"image_size = \(28, 28, 3\)"),  # pyright: ignore[reportArgumentType]
        (lambda: PatchGrid(28, 0), "patch_size must be at least 1\n  got:   patch_size = 0"),
        (lambda: PatchGrid(28, 2.5), "patch_size = 2.5"),  # pyright: ignore[reportArgumentType]
        (lambda: PatchGrid(28, 4, 0), "channels = 0"),
        (lambda: PatchMask(1.0, 4, 28), r"ratio must lie in \[0, 1\)\n  got:   ratio = 1.0"),
        (lambda: PatchMask(-0.5, 4, 28), "ratio = -0.5"),
        (lambda: PatchMask(float("nan"), 4, 28), "ratio = nan"),
        (lambda: PatchMask(0.5, 5, 28), "height 28, patches of 5"),
        (lambda: PatchMask(0.5, 4, 28, loss="none"), "loss = 'none'"),  # pyright: ignore[reportArgumentType]
        (lambda: BlockMask(1.5, 28), "ratio = 1.5"),
        (lambda: BlockMask(0.5, 1), "two or more pixels"),
        (
            lambda: PatchMask(0.5, 4, 28).corrupt(torch.zeros(2, 64), generator()),
            r"shape \(2, 64\), a mask for 784 features",
        ),
        (
            lambda: BlockMask(0.5, 8).corrupt(torch.zeros(2, 65), generator()),
            "a mask for 64 features",
        ),
        (
            lambda: check_images(np.zeros((2, 70)), GRID),
            "X has 70 features, the model takes 3 x 4 x 6 = 72",
        ),
        (
            lambda: check_images(np.zeros((2, 1, 4, 6)), GRID),
            r"X must have the shape \(n, 3, height, width\)",
        ),
        (
            lambda: check_images(np.zeros((2, 3, 8, 6)), GRID),
            r"build the model with image_size=\(8, 6\)",
        ),
        (
            lambda: check_images(np.zeros((2, 3, 8, 5)), GRID, any_size=True),
            "width 5, patches of 2",
        ),
        (
            lambda: check_images(np.full((2, 3, 4, 6), 7.0), GRID),
            "must lie between 0 and 1 if it holds floating-point images\n  got:   X from 7",
        ),
        (
            lambda: check_images(np.full((2, 3, 4, 6), 256), GRID),
            "must lie between 0 and 255 if it holds images",
        ),
        (lambda: check_images(np.full((2, 3, 4, 6), np.nan), GRID), r"X\[0, 0\] = nan"),
        (lambda: check_images(np.zeros((0, 3, 4, 6)), GRID), r"X of shape \(0, 3, 4, 6\)"),
    ],
)
def test_patches_and_masks_refuse_bad_sizes(make, text):
    with pytest.raises(InputError, match=text):
        make()
