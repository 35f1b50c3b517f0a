import numpy as np
import pytest

from leadline import data
from leadline.data import Dataset
from leadline.errors import InputError
from leadline.worksheet import Setting
from leadline.worksheet.measurements.autoencoders import patches


def by_brute_force(image, hidden):
    """Return, for each hidden pixel, the values of all nearest visible pixels."""
    visible = np.argwhere(~hidden)
    found = {}
    for pixel in np.argwhere(hidden):
        distances = ((visible - pixel) ** 2).sum(1)
        found[tuple(pixel)] = (
            [image[:, *near].tolist() for near in visible[distances == distances.min()]],
            distances.min() ** 0.5,
        )
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_visible_pixel_is_copied(seed):
    rng = np.random.default_rng(seed)
    image, hidden = rng.random((3, 7, 9)), rng.random((7, 9)) < 0.7
    copied = patches.nearest_visible(image, hidden)
    assert (copied[:, ~hidden] == image[:, ~hidden]).all()
    for pixel, (candidates, _) in by_brute_force(image, hidden).items():
        assert copied[:, *pixel].tolist() in candidates


def test_the_mean_distance_equals_brute_force():
    mask = patches.PatchMask(0.5, 2, (6, 8))
    hidden = patches._hidden(mask, patches.PROBED_MASKS, seed=0)
    distances = [
        distance
        for where in hidden
        for _, distance in by_brute_force(np.zeros((1, 6, 8)), where).values()
    ]
    assert patches.mean_distance(mask) == pytest.approx(np.mean(distances))
    assert (hidden.mean((1, 2)) == 0.5).all()


@pytest.fixture
def source(short):
    return patches.characters(short)


def test_single_pixels_can_match_the_distance_of_patches(source):
    assert (source.patch, source.sides) == (7, (28, 28))
    far = patches.equally_distant(source)
    assert far.ratio > 0.8
    assert patches.mean_distance(far) == pytest.approx(
        patches.mean_distance(source.mask(7)), rel=0.05
    )
    assert patches.mean_distance(source.mask(1)) < 1.2


def test_copying_error_is_zero_on_constant_images_and_two_variances_on_noise(source):
    rng = np.random.default_rng(0)
    X = rng.random((400, 28 * 28)).astype(np.float32)
    roles = [data.split_roles(400, seed=0)]
    noise = patches.Source(Dataset(X, np.arange(400) % 2, image_size=(28, 28)), roles, "")
    assert patches.copying_error(noise, roles[0], noise.mask(7), 0) == pytest.approx(2, rel=0.05)
    even = np.repeat(X[:, :1], 28 * 28, axis=1)
    flat = patches.Source(Dataset(even, np.arange(400) % 2, image_size=(28, 28)), roles, "")
    assert patches.copying_error(flat, roles[0], flat.mask(7), 0) == 0


def test_roles_of_photographs_share_no_strip(short):
    source = patches.photographs(short)
    for role in source.roles:
        strips = [
            set(np.unique(rows // (patches.NUM // patches.STRIPS)).tolist())
            for rows in (
                role.pretrain_train,
                role.pretrain_validation,
                role.probe_pool,
                role.probe_validation,
                role.test,
            )
        ]
        assert [len(part) for part in strips] == [4, 1, 2, 1, 2]
        assert set.union(*strips) == set(range(patches.STRIPS))
    first, second = source.roles
    assert set(first.test.tolist()) != set(second.test.tolist())


@pytest.mark.parametrize(("size", "patch"), [((28, 28), 7), ((32, 48), 8), ((30, 42), 6)])
def test_patches_divide_both_sides(size, patch):
    images = Dataset(np.zeros((4, size[0] * size[1])), np.array([0, 1, 0, 1]), image_size=size)
    assert patches.Source(images, [], "").patch == patch


@pytest.mark.parametrize("size", [(8, 8), (29, 31)])
def test_small_images_and_sides_without_a_common_divisor_are_rejected(size, short):
    images = Dataset(
        np.zeros((4, size[0] * size[1])), np.array([0, 1, 0, 1]), "mine", image_size=size
    )
    with pytest.raises(InputError, match="mine: images of"):
        patches.characters(Setting("quick", images))


def test_ae_g_is_measured(short, monkeypatch):
    monkeypatch.setattr(patches, "NUM", 300)
    answer = patches.patches_against_pixels(short)
    assert answer.effects["copying_is_harder_on_photographs"].interval.estimate > 0.02
    assert answer.effects["copying_is_harder_on_glyphs"].interval.estimate > 0.1
    assert {"photographs", "glyphs", "digits"} == set(answer.soundings)
    assert "transformer that drops patches" not in answer.soundings["glyphs"].names  # pyright: ignore[reportAttributeAccessIssue]


def test_the_full_budget_adds_a_transformer_that_drops_patches(short, monkeypatch):
    monkeypatch.setattr(patches, "NUM", 300)
    monkeypatch.setattr(patches, "TRANSFORMER_EPOCHS", 2)
    arms = patches._arms(patches.characters(short), short, with_transformer=True)
    assert arms.names[3:] == ("transformer that drops patches", "raw")
