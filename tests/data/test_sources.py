"""Images, glyphs, vectors, sequences and text agree with known facts about each source."""

import hashlib
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline import InputError
from leadline.data import (
    FONTS,
    LETTERS_UNLIKE_DIGITS,
    Dataset,
    digits,
    glyphs,
    high_variance_vectors,
    manual_text,
    photograph_patches,
    random_rotation,
    row_fingerprints,
    running_average,
)
from leadline.data._glyphs import _MARGIN, COMPUTER_MODERN, _bends, _draw, _folder, _place
from leadline.data._images import PHOTOGRAPHS


def test_digits_equal_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data, (X, y) = digits(), load_digits(return_X_y=True)
    assert np.array_equal(data.X * 16, np.asarray(X))
    assert np.array_equal(data.labels, np.asarray(y))
    assert (data.X.min(), data.X.max(), data.class_names) == (0, 1, tuple("0123456789"))


def test_crops_are_parts_of_their_photograph():
    from sklearn.datasets import load_sample_image

    data = photograph_patches(8, 100, seed=1, channels=3)
    assert np.bincount(data.labels).tolist() == [4, 4]
    for image, label in zip(data.images, data.labels, strict=True):
        photograph = load_sample_image(f"{PHOTOGRAPHS[label]}.jpg")
        crop = np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)
        corners = np.argwhere((photograph[:-99, :-99] == crop[0, 0]).all(axis=-1))
        assert any(np.array_equal(photograph[i : i + 100, j : j + 100], crop) for i, j in corners)


def test_grey_is_the_luma_of_the_same_crop():
    grey, colour = (photograph_patches(5, 9, seed=2, channels=channels) for channels in (1, 3))
    expected = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], colour.images)
    np.testing.assert_allclose(grey.images[:, 0], expected, atol=1e-6)


def test_crops_of_different_halves_share_no_pixel():
    regions = ("left", "right", (0.5, 0.6), (0.6, 0.7))
    parts = [photograph_patches(2000, 4, seed=0, region=region, channels=3) for region in regions]
    left, right, first, second = (
        row_fingerprints(data.X[data.X.std(axis=1) > 0.05]) for data in parts
    )
    assert not np.isin(right, left).any()
    assert not np.isin(first, second).any()
    assert np.isin(first, right).any(), (
        "of 2,000 crops in a strip some also came from the half that it lies in"
    )
    assert (
        photograph_patches(50, 4, seed=0, region=(0, 0.5)).X
        == photograph_patches(50, 4, seed=0, region="left").X
    ).all()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size": 428}, "size = 428 in a region of 427 x 640"),
        ({"size": 321, "region": "left"}, "427 x 320 pixels\n.*at most 320"),
        ({"size": 0}, "size must be a whole number of at least 1"),
        ({"num": 1}, "num must be a whole number of at least 2"),
        ({"channels": 2}, r"1 \(grey\) or 3 \(colour\)"),
        ({"region": "top"}, "region = 'top'"),
        ({"region": (0.5, 0.5)}, r"region = \(0.5, 0.5\)"),
        ({"region": (0.5, 1.5)}, "0 <= start < stop <= 1"),
    ],
)
def test_impossible_crops_raise_an_error(change, text):
    with pytest.raises(InputError, match=text):
        photograph_patches(**({"num": 4, "size": 8} | change), seed=0)


@settings(max_examples=15)
@given(
    st.sampled_from(["0123456789", LETTERS_UNLIKE_DIGITS, "äß", ".-|_"]),
    st.integers(4, 40),
    st.integers(0, 99),
)
def test_glyphs_are_images_in_the_unit_interval(characters, size, seed):
    data = glyphs(characters, 2 * len(characters), size, seed=seed)
    assert data.images.shape == (2 * len(characters), 1, size, size)
    assert (data.X >= 0).all()
    assert (data.X.max(axis=1) == 1).all()
    assert np.bincount(data.labels).tolist() == [2] * len(characters)
    assert np.array_equal(data.X, glyphs(characters, 2 * len(characters), size, seed=seed).X)
    assert not np.array_equal(
        data.X, glyphs(characters, 2 * len(characters), size, seed=seed + 100).X
    )


def test_ink_is_not_clipped_at_the_edges():
    rng, size, fine = np.random.default_rng(0), 28, 4
    bends, fills, shifts = _bends(rng, 200), rng.uniform(0.75, 1, 200), rng.uniform(-1, 1, (200, 2))
    for i, font in enumerate(np.resize(FONTS, 200)):
        master = _draw(font, "kWgQ@"[i % 5], size * fine)
        ink = np.array(master.size) - 2 * _MARGIN
        scale = fills[i] * size * fine / (np.abs(bends[i]) @ ink).max()
        expected = np.asarray(master, float).sum() * scale**2 * np.linalg.det(bends[i]) / fine**2
        image = _place(master, bends[i], fills[i], shifts[i], size, fine)
        assert image.sum() == pytest.approx(expected, rel=0.02)


def test_a_classifier_distinguishes_the_glyphs():
    from sklearn.neighbors import KNeighborsClassifier

    for size, least in ((8, 0.85), (28, 0.9)):
        train, test = (
            glyphs("0123456789", num, size, seed=seed) for seed, num in ((0, 2000), (1, 300))
        )
        assert KNeighborsClassifier(1).fit(train.X, train.y).score(test.X, test.y) > least


def test_computer_modern_is_used_only_for_characters_that_it_draws_correctly():
    from matplotlib.ft2font import FT2Font

    reference = FT2Font(str(_folder() / "DejaVuSans.ttf"))
    names = {c: reference.get_glyph_name(reference.get_char_index(ord(c))) for c in COMPUTER_MODERN}
    for font in ("cmr10", "cmss10", "cmtt10"):
        face = FT2Font(str(_folder() / f"{font}.ttf"))
        for character, name in names.items():
            assert face.get_glyph_name(face.get_char_index(ord(character))) == name


def test_the_fonts_are_text_fonts():
    assert len(set(FONTS)) == 19
    assert all((_folder() / f"{font}.ttf").exists() for font in FONTS)
    assert not any(
        word in font
        for font in FONTS
        for word in ("Display", "NonUni", "Siz", "cmsy", "cmex", "Last")
    )
    assert not set(LETTERS_UNLIKE_DIGITS) & set("0123456789OoQDIilJjZzSsGbBgq")


@pytest.mark.parametrize(
    ("characters", "fonts", "texts"),
    [
        (
            "ab<{",
            ["DejaVuSans", "cmr10"],
            ["cmr10 lacks '<', '{'", "Computer Modern has ASCII letters"],
        ),
        ("aé", ["cmss10"], ["cmss10 lacks 'é'"]),
        ("a\ue123", None, ["must all be in one font", "lacks '\\ue123'"]),
        (
            "ab",
            ["DejaVuSan"],
            ["names of matplotlib's text fonts", "'DejaVuSan'", "choose from DejaVuSans,"],
        ),
        ("ab", ["cmex10"], ["'cmex10'"]),
        ("ab", "cmr10", ["fonts must be a list of names"]),
        ("ab", [], ["list of names, not empty"]),
        ("aba", None, ["'a' occurs more than once"]),
        ("a", None, ["characters must be at least two"]),
        ("a ", None, ["' ' is blank in DejaVuSans"]),
    ],
)
def test_characters_that_cannot_be_drawn_raise_an_error(characters, fonts, texts):
    with pytest.raises(InputError) as caught:
        glyphs(characters, 4, 8, seed=0, fonts=fonts)
    for text in texts:
        assert text in str(caught.value)


def test_characters_beyond_computer_modern_come_from_the_other_fonts():
    assert glyphs("<>", 40, 12, seed=0).X.shape == (40, 144)


def test_the_vectors_have_the_stated_spectrum():
    n = 20_000
    data = high_variance_vectors(n, seed=1)
    assert isinstance(data, Dataset)
    sample = np.cov(data.X.T.astype(np.float64))
    # Variance of a sample variance: 2 v^2 / n. Five standard errors.
    along = np.diag(data.rotation.T @ sample @ data.rotation)
    assert (np.abs(along / data.variances - 1) < 5 * np.sqrt(2 / n)).all()
    # Sample eigenvalues spread over v (1 ± sqrt(p / n))^2 (Marchenko and Pastur, 1967).
    eigenvalues = np.linalg.eigvalsh(sample)[::-1]
    for part, variance in ((eigenvalues[:20], 10), (eigenvalues[20:], 1)):
        spread = np.sqrt(100 / n)
        assert (part < variance * (1 + spread) ** 2 * 1.02).all()
        assert (part > variance * (1 - spread) ** 2 * 0.98).all()
    np.testing.assert_allclose(
        np.linalg.eigvalsh(data.covariance), np.sort(data.variances), atol=1e-9
    )
    assert abs(data.labels.mean() - 0.5) < 5 * 0.5 / np.sqrt(n)


def test_the_label_is_the_sign_along_the_known_direction():
    data = high_variance_vectors(1000, seed=3, rotation_seed=8)
    margin = data.X.astype(np.float64) @ data.direction
    assert np.linalg.norm(data.direction) == pytest.approx(1)
    assert (((margin > 0) == data.labels) | (np.abs(margin) < 1e-4)).all()


def test_training_and_test_vectors_share_only_the_rotation():
    a, b, c = (
        high_variance_vectors(50, seed=s, rotation_seed=r) for s, r in ((0, 0), (1, 0), (0, 1))
    )
    assert np.array_equal(a.rotation, b.rotation)
    assert not np.array_equal(a.rotation, c.rotation)
    assert not np.isin(row_fingerprints(a.X), row_fingerprints(b.X)).any()
    np.testing.assert_allclose(a.X @ a.rotation, c.X @ c.rotation, atol=1e-4)
    assert np.array_equal(a.labels, c.labels)


@given(st.integers(1, 12), st.integers(0, 1000))
def test_rotations_are_orthogonal_with_determinant_one(dimensions, seed):
    Q = random_rotation(dimensions, seed=seed)
    np.testing.assert_allclose(Q.T @ Q, np.eye(dimensions), atol=1e-12)
    assert np.linalg.det(Q) == pytest.approx(1)


def test_rotations_prefer_no_direction():
    entries = np.array([random_rotation(3, seed=seed) for seed in range(3000)])
    # Under the Haar measure each entry has mean 0, variance 1/3 and fourth moment 1/5.
    assert np.abs(entries.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / 3000)
    assert np.abs((entries**2).mean(axis=0) - 1 / 3).max() < 5 * np.sqrt((1 / 5 - 1 / 9) / 3000)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num": 1}, "num must be"),
        ({"dimensions": 10}, "dimensions must be a whole number of at least 20"),
        ({"high": 0}, "high must be"),
        ({"high_variance": 0.0}, "high_variance = 0.0"),
        ({"low_variance": np.inf}, "low_variance = inf"),
    ],
)
def test_impossible_vectors_raise_an_error(change, text):
    with pytest.raises(InputError, match=text):
        high_variance_vectors(**({"num": 4} | change), seed=0)


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 100))
def test_targets_are_the_mean_so_far(batch, time, seed):
    x, y = running_average(batch, time, seed=seed, dtype=np.float64)
    assert x.shape == y.shape == (batch, time, 1)
    slow = [[x[b, : t + 1].mean() for t in range(time)] for b in range(batch)]
    np.testing.assert_allclose(y[..., 0], slow, atol=1e-12)
    single = running_average(batch, time, seed=seed)
    assert single[0].dtype == single[1].dtype == np.float32
    assert np.array_equal(single[0], x.astype(np.float32))


def test_inputs_are_standard_normal():
    from scipy.stats import kstest

    x, _ = running_average(200, 50, seed=0, dtype=np.float64)
    assert kstest(x.ravel(), "norm").pvalue > 0.001
    with pytest.raises(InputError, match="time must be a whole number of at least 1"):
        running_average(2, 0, seed=0)


def test_the_manual_is_long_english_text_with_a_hash(monkeypatch: pytest.MonkeyPatch):
    manual = manual_text()
    assert manual.sha256 == hashlib.sha256(manual.text.encode()).hexdigest()
    assert manual == manual_text()
    assert "assert" in manual.text
    assert set(manual.alphabet) == set(manual.text)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(InputError, match=r"no pydoc_data\.topics"):
        manual_text()
