import numpy as np
import pytest
import torch

from leadline import data
from leadline.autoencoders import Corruption, GaussianNoise, PixelMask
from leadline.worksheet.measurements.autoencoders import augmentation


@pytest.mark.parametrize("corruption", [GaussianNoise(0.3), PixelMask(0.2)], ids=str)
def test_corruption_is_vanilla_training_on_pairs_bit_for_bit(corruption):
    assert augmentation.equals_vanilla_on_pairs(corruption, data.digits().X[:100], seed=3)


def test_wrongly_recorded_pairs_give_other_weights():
    """The comparison fails for a corruption that trains on rows other than the recorded ones."""

    class Leaky(augmentation.Materialised):
        def corrupt(self, x, generator):
            seen, counts = super().corrupt(x, generator)
            return seen + 1e-3, counts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "Materialised", Leaky)
        assert not augmentation.equals_vanilla_on_pairs(
            GaussianNoise(0.3), data.digits().X[:50], seed=3
        )


def test_the_pairs_contain_corrupted_and_clean_rows():
    shown = augmentation.Materialised(PixelMask(0.5))
    assert isinstance(shown, Corruption)
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))
    seen, counts = shown.corrupt(x, torch.Generator().manual_seed(0))
    expected, _ = PixelMask(0.5).corrupt(x, torch.Generator().manual_seed(0))
    assert counts is None
    assert torch.equal(seen, expected)
    ((kept, clean),) = shown.pairs
    assert torch.equal(kept, expected)
    assert torch.equal(clean, x)


def test_swapped_entries_come_from_other_rows():
    X = np.arange(60_000, dtype=np.float32).reshape(3000, 20)
    swapped = augmentation.with_entries_of_others(X, np.random.default_rng(0))
    assert (swapped % 20 == np.arange(20)).all(), "an entry stays in its column"
    assert (swapped != X).mean() == pytest.approx(augmentation.SWAPPED, abs=0.01)


def test_the_encoder_receives_hidden_patches_only_if_they_are_zero_filled():
    """16 x 16 pixels in patches of 4 give 16 tokens and a class token; 75 % masking shows four."""
    assert augmentation.tokens_in_encoder(drop=True) == 4 + 1
    assert augmentation.tokens_in_encoder(drop=False) == 16 + 1


def test_ae_h_compares_error_and_accuracy(short):
    answer = augmentation.corruption_is_augmentation(short)
    augmented = answer.soundings["augmented"]
    assert isinstance(augmented, augmentation.Augmented)
    assert answer.facts["identical_to_augmented_vanilla"].measured == "equal in 4 of 4 runs"
    lost = 100 * (augmented.accuracy[:, :, 0] - augmented.accuracy[:, :, 1]).mean(1)
    effect = answer.effects["masked_accuracy_lost_minus_vanilla"].interval
    assert effect.estimate == pytest.approx(lost[2] - lost[0])
    assert (lost > 0).all()
