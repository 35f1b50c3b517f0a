"""Transfer matrices against studies of single targets, and their refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leadline import data
from leadline.autoencoders import Autoencoder, GaussianNoise, ModuleEncoder, pretrain_many
from leadline.data import Dataset
from leadline.errors import InputError, describe
from leadline.probing import TransferMatrix, label_efficiency, transfer_matrix

DIGITS = data.digits()
FLIPPED = Dataset(
    DIGITS.images[..., ::-1].reshape(len(DIGITS), -1), DIGITS.y, "flipped", image_size=(8, 8)
)
SMALL = Dataset(DIGITS.resized((4, 4)), DIGITS.y, "small", image_size=(4, 4))
SEEDS = range(3)
ROLES = [data.split_roles(DIGITS.labels, seed=seed) for seed in SEEDS]


def pretrained(dataset):
    models = [
        Autoencoder(dataset.X.shape[1], (48, 24), corruption=GaussianNoise(0.5), seed=seed)
        for seed in SEEDS
    ]
    rows = [dataset.X[role.pretrain_train] for role in ROLES]
    return [
        one.encoder for one in pretrain_many(models, rows, validation=None, epochs=25, seeds=SEEDS)
    ]


@pytest.fixture(scope="module")
def encoders():
    return {"digits": pretrained(DIGITS), "flipped": pretrained(FLIPPED)}


def transfer(sources, targets=None, **options):
    targets = {"digits": DIGITS, "flipped": FLIPPED} if targets is None else targets
    return transfer_matrix(
        sources, targets, **{"roles": dict.fromkeys(targets, ROLES), "num_subsets": 4, **options}
    )


@pytest.fixture(scope="module")
def found(encoders):
    return transfer(encoders)


def test_each_column_equals_a_study_of_its_target(found, encoders):
    assert found.sources == ("digits", "flipped", "raw", "pca", "untrained")
    assert found.labels == (10, 10)
    for j, dataset in enumerate((DIGITS, FLIPPED)):
        study = label_efficiency(
            encoders, dataset.X, dataset.y, roles=ROLES, labels=[10], num_subsets=4
        )
        assert np.array_equal(found.accuracy[:, j], study.accuracy[:, :, 0])
    assert found.gain("flipped", "digits").interval == study_gain(encoders)
    own, other = (found.interval(name, "digits").estimate for name in ("digits", "flipped"))
    assert own > other > found.interval("untrained", "digits").estimate


def study_gain(encoders):
    study = label_efficiency(encoders, DIGITS.X, DIGITS.y, roles=ROLES, labels=[10], num_subsets=4)
    return study.gain("flipped").interval


def test_an_adapter_changes_the_form_of_the_rows(encoders):
    """Flipping a flipped digit gives the digit, so the encoder of digits has the same accuracy."""
    unflip = {"digits": lambda target: target.images[..., ::-1].reshape(len(target), -1)}
    found = transfer({"digits": encoders["digits"]}, {"flipped": FLIPPED}, adapters=unflip)
    home = transfer({"digits": encoders["digits"]}, {"digits": DIGITS})
    row = found.sources.index("digits")
    assert np.array_equal(found.accuracy[row], home.accuracy[row])
    assert np.array_equal(
        found.accuracy[found.sources.index("untrained")],
        home.accuracy[home.sources.index("untrained")],
    )
    assert found.protocol.settings["adapters"] == ["digits"]


def test_rows_of_another_width_are_refused_early_or_adapted(encoders):
    calls = []
    spy = lambda rows: calls.append(1) or rows  # noqa: E731
    with pytest.raises(InputError) as caught:
        transfer({"spy": spy, "digits": encoders["digits"]}, {"digits": DIGITS, "small": SMALL})
    message = describe(caught.value)
    assert "X has 16 features, the encoder takes 64" in message
    assert "from 'digits' to 'small'; adapters={'digits': …}" in message
    assert not calls
    larger = {name: lambda target: target.resized((8, 8)) for name in ("digits", "mine")}
    module = Autoencoder(64, (5,), seed=0).encoder
    encoders_by_name = {
        "digits": encoders["digits"],
        "mine": module,
        "frozen": ModuleEncoder(module),
    }
    found = transfer(
        encoders_by_name, {"small": SMALL}, adapters={**larger, "frozen": larger["mine"]}
    )
    assert found.accuracy.shape == (6, 1, 3, 4)
    np.testing.assert_allclose(found.accuracy[1], found.accuracy[2], atol=0.01)
    assert (
        found.interval("digits", "small").estimate > found.interval("untrained", "small").estimate
    )


def test_principal_components_are_refused_with_an_adapter():
    """They would be fitted to the encoded rows, which include test rows."""
    with pytest.raises(InputError, match="1 components with an adapter"):
        transfer({"pca": 1}, {"small": SMALL}, adapters={"pca": lambda target: target.X})


def test_seen_rows_are_refused_behind_an_adapter(encoders):
    swapped = {"digits": [encoders["digits"][i] for i in (1, 0, 2)]}
    with pytest.raises(InputError, match="has seen") as caught:
        transfer(swapped, {"digits": DIGITS})
    assert "on the target 'digits'" in describe(caught.value)
    unflip = {"digits": lambda target: target.images[..., ::-1].reshape(len(target), -1)}
    with pytest.raises(InputError, match="has seen"):
        transfer(swapped, {"flipped": FLIPPED}, adapters=unflip)


def test_resized_images_equal_those_of_pillow():
    for size in ((4, 4), (12, 6)):
        theirs = [
            Image.fromarray(image[0]).resize((size[1], size[0]), Image.Resampling.BILINEAR)
            for image in DIGITS.images
        ]
        expected = np.stack([np.asarray(image).ravel() for image in theirs])
        np.testing.assert_allclose(DIGITS.resized(size), expected, atol=2e-2 * np.ptp(DIGITS.X))
    with pytest.raises(InputError, match="holds no images"):
        replace(DIGITS, image_size=None).resized((4, 4))


def test_transfer_matrix_is_a_sounding(found, tmp_path: Path):
    assert len(found.table()) == 10
    assert "gain over untrained low" in found.table().columns
    (heat,) = found.figure().data
    drawn: Any = heat
    assert list(drawn.y) == list(found.sources)
    assert drawn.z[1][0] == found.gain("flipped", "digits").interval.estimate
    assert list(drawn.z[2]) == [0, 0]
    assert f"{found.interval('raw', 'digits').estimate:.1f} %" in drawn.text[2][0]
    pairs = ("digits", "flipped"), ("flipped", "digits")
    gains = [found.gain(*pair, over="untrained").interval for pair in pairs]
    best = max((found.gain(*pair).interval for pair in pairs), key=lambda gain: gain.estimate)
    assert f"gains {best:+.1f} points over raw inputs on " in str(found)
    assert "with 10 labels over 3 seeds, the best of 2 transfers" in str(found)
    num_gains = sum(gain.low > 0 for gain in gains)
    assert f"Over untrained, {num_gains} of 2 transfers gain" in " ".join(found.findings)
    found.save(tmp_path)
    assert str(TransferMatrix.load(tmp_path)) == str(found)


def test_findings_table_and_figure_show_the_largest_class(found):
    share = 100 * np.mean(
        [np.bincount(DIGITS.labels[role.test]).max() / len(role.test) for role in ROLES]
    )
    assert f"always predicting the largest class reaches {share:.1f} %" in found.findings[0]
    assert found.table()["largest class"].to_numpy() == pytest.approx(share)
    (heat,) = found.figure().data
    assert f"(10 labels, largest class {share:.1f} %)" in heat.x[0]


def test_two_seeds_give_no_interval(encoders):
    two = transfer({"pca 3": 3}, {"digits": DIGITS}, roles={"digits": ROLES[:2]})
    assert "(no interval: 2 seeds)" in str(two)
    assert "[" not in str(two)
    assert not any("transfers gain" in finding for finding in two.findings)
    assert two.table()["gain low"].isna().all()
    drawn: Any = two.figure().data[0]
    assert "nan" not in drawn.text[0][0]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda e: transfer({}), "0 sources, 2 targets"),
        (lambda e: transfer(e, roles={"digits": ROLES}), "no roles for 'flipped'"),
        (lambda e: transfer(e, labels_per_class=0), "labels_per_class must be"),
        (lambda e: transfer(e, {"digits": DIGITS.X}), r"targets\['digits'\] must be a Dataset"),
        (lambda e: transfer(e, adapters={"digit": lambda target: target.X}), "'digit' in adapters"),
        (lambda e: transfer(e, adapters={"digits": 3}), r"adapters\['digits'\] must be a function"),
        (lambda e: DIGITS.resized((4, 0)), r"image_size\[1\]"),
        (lambda e: transfer({"digits": e["digits"][:2]}), "'digits' lists 2 for 3 seeds"),
        (lambda e: transfer(e, {"digits": replace(DIGITS, y=None)}), "digits must be labelled"),
        (lambda e: transfer(e).gain("letters", "digits"), "the source was not measured"),
        (lambda e: transfer(e).interval("digits", "letters"), "the target was not measured"),
    ],
)
def test_transfer_matrix_refuses_invalid_arguments(make, text, encoders):
    with pytest.raises(InputError, match=text):
        make(encoders)
