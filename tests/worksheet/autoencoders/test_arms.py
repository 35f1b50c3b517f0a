import numpy as np
import pytest

from leadline import data
from leadline.data import Dataset
from leadline.errors import InputError
from leadline.sounding import Protocol
from leadline.worksheet.measurements.autoencoders import (
    loss_order,
    other_data,
    overcomplete,
    worse_than_raw,
)
from leadline.worksheet.measurements.autoencoders.arms import compared


@pytest.fixture
def digits():
    return data.digits()


def test_arms_share_labels_and_differences_are_paired(short, digits):
    roles = [data.split_roles(digits.labels, seed=seed) for seed in short.seeds]
    arms = compared(
        "",
        {"same": "raw", "half": lambda X: X[:, :32]},
        digits,
        roles,
        short,
        labels=50,
        settings={},
    )
    assert arms.names == ("same", "half", "raw"), "no baseline is probed in vain"
    values, label, unit = arms.difference("same", "raw")
    assert (values == 0).all(), "equal rows, equal labels, equal accuracy"
    assert (label, unit) == ("same minus raw, 50 labels", "points")
    assert (arms.difference("half", "raw")[0] < -3).all()
    table = arms.table().set_index("representation")
    assert table.loc["half", "gain"] == pytest.approx(arms.difference("half", "raw")[0].mean())
    assert [trace["name"] for trace in arms.figure().to_dict()["data"] if "name" in trace] == [
        "half",
        "same",
    ]


def test_ae_j_counts_tokens(short):
    growth = overcomplete.tokens_of_images(short)
    by_hand = [(height // 8) * (width // 8) for height, width in overcomplete.SIZES]
    assert growth.tokens.tolist() == by_hand == growth.expected.tolist()
    assert len(set(by_hand)) > 4
    wrong = overcomplete.Growth(
        growth.protocol, growth.sizes, growth.patch, growth.tokens * 0 + 4, growth.width
    )
    assert (wrong.tokens != wrong.expected).any()


def test_ae_j_compares_a_wide_and_a_narrow_code(short):
    answer = overcomplete.codes_need_not_be_small(short)
    assert "256 units for 64 inputs instead of 32" in str(answer)
    assert answer.facts["grows_with_the_image"].holds


def test_unlike_rows_share_only_width_mean_and_spread(digits):
    rows = worse_than_raw.unlike(digits, 4000, seed=0)
    assert rows.shape == (4000, 64)
    assert rows.mean() == pytest.approx(digits.X.mean(), abs=0.01)
    assert rows.std() == pytest.approx(digits.X.std(), rel=0.02)
    share = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    assert share[:12].sum() > 0.65 * share.sum(), (
        "a fifth of the directions carry most of the variance"
    )


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 1), ((9, 14), 3), ((20, 6), 1)])
def test_letters_and_photographs_have_the_shape_of_the_data(size, channels):
    features = channels * size[0] * size[1]
    own = Dataset(
        np.zeros((4, features)), np.array([0, 1, 0, 1]), "own", image_size=size, channels=channels
    )
    letters, photographs = (
        other_data.letters_like(own, 52, 0),
        other_data.photographs_like(own, 5, 0),
    )
    assert letters.shape == (52, features)
    assert photographs.shape == (5, features)
    images = letters.reshape(52, channels, *size)
    assert (images == images[:, :1]).all(), "letters are grey"
    assert images.max(axis=(1, 2, 3)).min() == 1
    ink = np.argwhere(images.sum(axis=(0, 1)) > 0)
    assert np.abs(ink.mean(0) - (np.array(size) - 1) / 2).max() <= 1, "in the middle"


def test_no_letter_looks_like_a_digit():
    assert not set(other_data.LETTERS_UNLIKE_DIGITS) & set("0123456789OoQDIiljJLftTZzSsGbBgqdAy")


@pytest.mark.parametrize(("size", "channels"), [((2, 30), 1), ((6, 6), 2)])
def test_images_of_unsupported_shapes_are_rejected(size, channels):
    features = channels * size[0] * size[1]
    own = Dataset(
        np.zeros((4, features)), np.array([0, 1, 0, 1]), "own", image_size=size, channels=channels
    )
    with pytest.raises(InputError, match="sides of 4 to 427"):
        other_data.check_geometry(own)


def test_rank_agreement_within_and_across_kinds():
    """In each kind a low loss goes with high accuracy; the kind with higher losses is better."""
    loss = np.array([[[1.0], [2.0]], [[3.0], [4.0]]]).repeat(2, axis=2)
    accuracy = np.array([[[50.0], [40.0]], [[90.0], [80.0]]]).repeat(2, axis=2)
    order = loss_order.LossOrder(
        Protocol(), "heaps", ("a", "b"), np.array([5, 9]), loss, accuracy, 10
    )
    assert order.tau(within=True).tolist() == [1, 1]
    # Two of the six pairs are within a kind and agree; the four between kinds do not.
    assert order.tau(within=False) == pytest.approx([-2 / 6] * 2)
    assert "the lowest validation loss is that of a, 5 units (50.0 %" in str(order)
    flat = loss_order.LossOrder(
        Protocol(), "heaps", ("a", "b"), np.array([5, 9]), loss, 0 * accuracy, 10
    )
    assert flat.tau(within=True).tolist() == [0, 0]


def test_ae_b_judges_pairs_by_both_loss_and_accuracy(short):
    answer = loss_order.loss_against_probe(short)
    order = answer.soundings["digits"]
    assert isinstance(order, loss_order.LossOrder)
    assert order.widths.tolist() == [12, 64, 128]
    difference = order.loss[0, 1] - order.loss[1, 1]
    assert answer.effects[
        "loss_vanilla_minus_denoising_on_digits"
    ].interval.estimate == pytest.approx(difference.mean())
    difference = order.accuracy[0, 2] - order.accuracy[0, 0]
    assert answer.effects[
        "accuracy_wide_minus_narrow_on_digits"
    ].interval.estimate == pytest.approx(difference.mean())
