"""represent(): its choice, its numbers, its encoder, and resuming."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

import leadline
from leadline import data
from leadline.autoencoders import Encoder
from leadline.autoencoders.training._settings import PretrainingSettings
from leadline.errors import InputError
from leadline.representation import Progress, RepresentationStudy, _run, represent
from leadline.representation._choice import choose
from leadline.representation._views import Patches, Whole

DIGITS = data.digits()
X, Y = DIGITS.X[:240], DIGITS.labels[:240]
MORE = DIGITS.X[300:900]
QUICK = {"seeds": 2, "num_subsets": 1, "labels": [10, 40]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = property(lambda self: PretrainingSettings(5e-3, epochs=6, batch_size=150))
    monkeypatch.setattr(Whole, "settings", settings)
    monkeypatch.setattr(Patches, "number", 1500)


def study(x=X, y: Any = Y, more: Any = MORE, **settings) -> RepresentationStudy:
    return represent(x, y, X_unlabelled=more, **{**QUICK, **settings})


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patches, "width", 16)


def roles(y: np.ndarray, seed: int) -> data.Roles:
    """Return the roles of labelled rows that do not repeat."""
    return data.split_roles(y, seed=seed, fractions=(0, 0, 0.6, 0.15, 0.25))


def enlarged(rows: np.ndarray, side: int) -> np.ndarray:
    """Return digits as images with a side of a multiple of 8 pixels."""
    return rows.reshape(-1, 8, 8).repeat(side // 8, axis=1).repeat(side // 8, axis=2)


def test_a_study_reports_its_choice_and_its_numbers(tmp_path: Path):
    found = study(kinds=("denoising", "vanilla"))
    assert found.efficiency is not None
    assert found.efficiency.names == ("denoising", "vanilla", "pca", "raw", "untrained")
    assert found.efficiency.budgets.tolist() == [10, 40]
    assert found.held_out is not None
    assert found.held_out.shape == (2, 2, 5)
    assert found.chosen == choose(found.kinds, found.held_out.reshape(2, -1))
    assert found.choices == tuple(choose(found.kinds, found.held_out[:, seed]) for seed in range(2))
    places = [found.kinds.index(kind) for kind in found.choices]
    tested = found.efficiency.accuracy[:2, :, -1].mean(axis=2)
    honest = tested[places, range(2)]
    assert found.accuracy().estimate == pytest.approx(100 * honest.mean())
    raw = found.efficiency.interval("raw", 40).estimate
    assert str(found).startswith(f"{found.chosen} is chosen; the choice gains ")
    assert "points over raw inputs with 40 of 240 labels (no interval: 2 seeds): " in str(found)
    assert str(found).endswith(f": {100 * honest.mean():.1f} % against {raw:.1f} %")
    assert found.efficiency.majority is not None
    assert "nan" not in str(found) + " ".join(found.findings)
    assert found.row_counts is not None
    assert found.row_counts.training == (len(roles(Y, 0).probe_pool), len(roles(Y, 1).probe_pool))
    assert f"{found.row_counts}." in found.findings
    assert "There are no intervals: 2 seeds, and an interval needs 3." in found.findings
    assert found.optimism().interval.estimate == pytest.approx(
        100 * (tested.max(axis=0) - honest).mean()
    )
    assert found.table()["chosen"].sum() == pytest.approx(2)  # at each of two label counts
    assert "Choosing a kind on the test rows would" in " ".join(found.findings)
    rows: Any = found.table().set_index(["representation", "labels"])
    assert rows.loc[("raw", 40), "choice"] == pytest.approx(100 * honest.mean())
    assert "0 [0, 0]" not in " ".join(found.findings)
    assert found.encoder.has_seen(MORE).all()
    assert not found.encoder.has_seen(X).any()
    own = found.curves[found.chosen].own
    kept = int(np.nanmin(own, axis=1).argmin())
    assert f"The encoder of seed {kept} was pretrained on 600 rows" in found.findings[0]
    found.save(tmp_path)
    again = RepresentationStudy.load(tmp_path)
    assert str(again) == str(found)
    assert again.findings == found.findings
    assert again.table().equals(found.table())
    np.testing.assert_array_equal(again.encoder.encode(X), found.encoder.encode(X))
    assert len(list[Any](found.figure().data)) == 10
    axis = found.drawing()["layout"]["xaxis"]
    most = min(found.row_counts.training)
    assert axis["title"]["text"] == f"labels that train the probe, at most {most} of 240"
    assert len(found.training_drawing()["data"]) == 6
    assert found.examples_drawing() is None
    assert leadline.represent is represent


def test_equal_calls_give_equal_studies_and_labels_change_no_weight():
    first, second = study(kinds="denoising"), study(kinds="denoising")
    assert first.table().equals(second.table())
    permuted = study(y=np.random.default_rng(0).permutation(Y), kinds="denoising")
    poisoned = study(x=X + 3 * (np.arange(240) % 7 == 0)[:, None], kinds="denoising")
    for other in (second, permuted, poisoned):
        for name, weights in first.encoder.weights.items():
            np.testing.assert_array_equal(other.encoder.weights[name], weights)
        np.testing.assert_array_equal(other.curves["denoising"].own, first.curves["denoising"].own)


def test_the_encoder_accepts_rows_in_their_units():
    unit = np.linspace(0.001, 1000, 64)
    offset = np.linspace(-50, 50, 64)
    first, rescaled = (
        study(kinds="denoising"),
        study(x=X * unit + offset, more=MORE * unit + offset, kinds="denoising"),
    )
    assert rescaled.encoder.encode(X * unit + offset).shape == first.encoder.encode(X).shape
    assert np.abs(rescaled.encoder.encode(X * unit + offset)).max() < 100
    pixels = study(x=X * 16, more=MORE * 16, kinds="denoising")
    np.testing.assert_allclose(pixels.encoder.encode(X * 16), first.encoder.encode(X), atol=2e-2)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("side", [8, 16])
def test_the_encoder_accepts_images_in_their_form(side: int):
    """Small images are whole rows, larger ones patches; whole numbers are divided by 255."""
    pixels, more = (
        (240 * enlarged(rows, side)[..., None]).astype(np.uint8) for rows in (X[:120], MORE[:150])
    )
    found = study(x=pixels, y=Y[:120], more=more, kinds="denoising", labels=[10])
    codes = found.encoder.encode(pixels)
    np.testing.assert_array_equal(found.encoder.encode(np.moveaxis(pixels, -1, 1)), codes)
    np.testing.assert_allclose(found.encoder.encode(pixels / 255), codes, atol=1e-5)
    assert found.encoder.has_seen(more).all()
    assert not found.encoder.has_seen(pixels).any()


def test_without_unlabelled_rows_the_encoder_is_pretrained_again_on_all_rows():
    found = study(x=DIGITS.X[:300], y=DIGITS.labels[:300], more=None, kinds="vanilla", labels=[10])
    assert found.encoder.has_seen(DIGITS.X[:300]).all()
    assert "pretrained again on all 300 rows" in found.findings[0]
    rows = found.protocol.settings["rows"]
    assert abs(rows["labelled"] - 150) <= 5  # each class in proportion
    assert rows["pretrained on"] + rows["labelled"] == 300
    assert f"{rows['pretrained on']} rows lost their labels" in found.notes[0]


def test_without_labels_nothing_is_probed(tmp_path: Path):
    found = represent(MORE, kinds=("vanilla", "masked"), seeds=2)
    assert found.efficiency is None
    assert found.strength is None
    assert found.chosen == found.kinds[int(found.ranks.mean(1).argmax())]
    assert str(found).startswith("nothing was probed, because no row has a label")
    assert found.table()["chosen"].tolist() == [kind == found.chosen for kind in found.kinds]
    found.save(tmp_path)
    assert RepresentationStudy.load(tmp_path).table().equals(found.table())
    assert found.encoder.has_seen(MORE).all()


def test_images_are_learned_in_patches_and_drawn():
    glyphs = data.glyphs("abc", 150, 14, seed=0)
    images = glyphs.X.reshape(-1, 14, 14)
    found = represent(
        images[:60],
        glyphs.labels[:60],
        X_unlabelled=images[60:],
        kinds=["masked"],
        seeds=2,
        num_subsets=1,
    )
    assert found.view == found.protocol.settings["view"] == "patches"
    assert found.examples["masked"].rows.shape == (10, 25)
    assert found.examples["masked"].image_size == (5, 5)
    strip = found.examples_drawing()
    assert strip is not None
    ticks = strip["layout"]["yaxis"]["ticktext"]
    assert ticks == ["input", "masked: shown", "masked: reconstructed"]
    # There are 90 pretraining rows, which have 89 principal components.
    assert found.encoder.encode(images).shape == (150, 89)
    flat = represent(
        glyphs.X[:60],
        glyphs.labels[:60],
        X_unlabelled=glyphs.X[60:],
        kinds=["masked"],
        seeds=2,
        num_subsets=1,
    )
    assert flat.table().equals(found.table())
    assert "taken for images of 14 x 14" in flat.notes[0]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("side", [8, 16])
def test_the_untrained_encoder_only_differs_in_its_weights(
    side: int, monkeypatch: pytest.MonkeyPatch
):
    """Whitening, components and scale are those of a trained encoder.

    If training does not change the weights, the codes are therefore equal.
    """
    still = property(lambda self: PretrainingSettings(1e-12, epochs=1, patience=1, centre=False))
    for view in (Whole, Patches):
        monkeypatch.setattr(view, "settings", still)
    probed = {}
    measure = _run._efficiency
    monkeypatch.setattr(
        _run,
        "_efficiency",
        lambda sources, *rest: probed.update(sources) or measure(sources, *rest),
    )
    rows, more = enlarged(X[:120], side), enlarged(MORE[:150], side)
    study(x=rows, y=Y[:120], more=more, kinds=("vanilla", "masked"), labels=[10])
    unseen = enlarged(DIGITS.X[900:950], side)
    for kind in ("vanilla", "masked"):
        for trained, untrained in zip(probed[kind], probed["untrained"], strict=True):
            np.testing.assert_allclose(trained.encode(unseen), untrained.encode(unseen), atol=1e-3)
    first, second = (encoder.encode(unseen) for encoder in probed["untrained"])
    assert np.abs(first - second).max() > 0.1


def test_random_labels_are_not_learned():
    rng = np.random.default_rng(0)
    found = study(
        y=rng.integers(2, size=240), seeds=6, labels=["all"], kinds=("vanilla", "denoising")
    )
    assert found.efficiency is not None
    accuracy = found.efficiency.interval(found.chosen, int(found.efficiency.budgets[-1]))
    half = (accuracy.high - accuracy.low) / 2 * found.widening
    assert abs(accuracy.estimate - 50) < half
    np.testing.assert_allclose(found.widening, (1 + 6 * 0.25 / 0.6) ** 0.5, rtol=0.02)
    assert f"{found.widening:.1f} times as wide" in " ".join(found.findings)


@pytest.mark.parametrize("stop", [3, 11])
def test_an_interrupted_study_resumes_with_the_same_result(stop: int, tmp_path: Path):
    reports: list[Progress] = []

    def interrupt(progress: Progress) -> None:
        reports.append(progress)
        if len(reports) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(kinds="denoising", checkpoint=tmp_path, progress=interrupt)
    assert any(tmp_path.rglob("checkpoint.safetensors"))
    again = study(kinds="denoising", checkpoint=tmp_path, progress=reports.append)
    whole = study(kinds="denoising")
    assert again.table().equals(whole.table())
    np.testing.assert_array_equal(again.encoder.encode(X), whole.encoder.encode(X))
    assert reports[-1] == Progress("probing", 1, 1)


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match=r"kinds\[0\] must be 'denoising', 'vanilla' or 'masked'"):
        study(kinds=["denoisy"])
    for kinds in ([], None, 3, {"vanilla"}):
        with pytest.raises(InputError, match="kinds must be a list"):
            study(kinds=kinds)
    with pytest.raises(InputError, match="kinds must differ"):
        study(kinds=["masked", "masked"])
    for seeds in (1, [4], "12", None, True, 2.0, {0, 1}, [0, 0], [0, -1], 10**30):
        with pytest.raises(InputError, match="seeds"):
            study(seeds=seeds)
    reports = []
    with pytest.raises(InputError, match="at least the number of classes"):
        study(labels=5, progress=reports.append)
    with pytest.raises(InputError, match="cannot exceed the pool"):
        study(labels=[10, 1000], progress=reports.append)
    assert not reports  # Nothing was pretrained.
    with pytest.raises(InputError, match="num_subsets"):
        study(num_subsets=0)


def test_the_encoder_can_be_saved_and_loaded(tmp_path: Path):
    found = study(kinds="vanilla")
    found.encoder.save(tmp_path / "encoder.safetensors")
    np.testing.assert_array_equal(
        Encoder.load(tmp_path / "encoder.safetensors").encode(X), found.encoder.encode(X)
    )


def test_seeds_of_numpy_are_seeds():
    found = study(kinds="vanilla", seeds=np.int64(2), labels=[10])
    assert found.protocol.seeds == (0, 1)
    assert study(kinds="vanilla", seeds=np.arange(2), labels=[10]).table().equals(found.table())


def test_intervals_stay_within_the_possible_values():
    found = study(kinds="vanilla", seeds=3, labels=[10])
    accuracy = found.accuracy()
    assert accuracy.is_known
    assert 0 <= accuracy.low <= accuracy.estimate <= accuracy.high <= 100
    assert "labels over 3 seeds: " in str(found)


@pytest.mark.parametrize("kind", ["a timestamp", "an offset"])
def test_rows_that_float32_would_blur_are_centred_first(kind: str, tmp_path: Path):
    """The study and the encoder resolve seconds, and small numbers on a large offset."""
    rng = np.random.default_rng(0)
    offset = np.array([1.7e9, 0, 0]) if kind == "a timestamp" else np.full(3, 1e8)
    plain = np.c_[
        rng.permutation(400) if kind == "a timestamp" else rng.normal(size=400),
        rng.normal(size=(400, 2)),
    ]
    y = (plain[:, 0] > plain[:, 0].mean()).astype(int)
    rows, more = plain[:200] + offset, plain[200:] + offset
    found = study(rows, y[:200], more, kinds="vanilla", seeds=3, labels=["all"])
    assert found.efficiency is not None
    most = int(found.efficiency.budgets[-1])
    assert found.efficiency.interval("raw", most).estimate > 97
    usual = study(plain[:200], y[:200], plain[200:], kinds="vanilla", seeds=3, labels=["all"])
    np.testing.assert_allclose(
        found.encoder.encode(rows), usual.encoder.encode(plain[:200]), atol=0.02
    )
    assert found.encoder.has_seen(more).all()
    assert not found.encoder.has_seen(rows).any()
    found.encoder.save(tmp_path / "encoder.safetensors")
    again = Encoder.load(tmp_path / "encoder.safetensors")
    np.testing.assert_array_equal(again.encode(rows), found.encoder.encode(rows))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(again)).encode(rows), again.encode(rows)
    )
    assert again.untrained(0).encode(rows).std() > 0.01


@pytest.mark.parametrize("constant", [1e9, 1e12 + 0.1])
def test_a_large_constant_column_does_not_reduce_precision(constant: float):
    """Codes have unit spread and the probe is right, as with a column of zeros."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(120, 4))
    y = (rows[:, 0] > 0).astype(int)
    rows[:, 2] = constant
    found = study(rows, y, None, kinds="vanilla", labels=[10])
    codes = found.encoder.encode(rows)
    assert np.sqrt(codes.var(axis=0).mean()) == pytest.approx(1, abs=0.2)
    assert found.probe is not None
    assert found.probe.accuracy > 0.9
    assert found.encoder.has_seen(rows).all()


@pytest.mark.parametrize("distance", [350, 1100, 1500])
def test_rows_far_from_zero_are_recognised(distance: float):
    """The distances lie on both sides of the limit for subtracting the mean in float64."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 4)) * [1, 9, 1, 1] + [distance, 0, 0, 0]
    found = study(rows, None, None, kinds="vanilla")
    assert found.encoder.has_seen(rows).all()
    assert not found.encoder.has_seen(rows + 1e-3).any()


def test_wide_rows_create_no_square_matrix(monkeypatch: pytest.MonkeyPatch):
    sides = []
    for name in ("eigh", "svd"):
        original = getattr(np.linalg, name)

        def spy(matrix: Any, *rest: Any, original: Any = original, **more: Any) -> Any:
            sides.append(np.shape(matrix))
            return original(matrix, *rest, **more)

        monkeypatch.setattr(np.linalg, name, spy)
    wide = np.random.default_rng(0).normal(size=(200, 3000)).astype(np.float32)
    found = study(wide, np.arange(200) % 3, None, kinds="vanilla", labels=[6], image_size=None)
    assert found.encoder.encode(wide).shape[0] == 200
    assert all(np.prod(shape) <= 200 * 3000 for shape in sides)


def made(*args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
    rows, y = make_classification(*args, **kwargs)
    return np.asarray(rows), np.asarray(y)


def test_the_kept_probe_has_the_measured_accuracy():
    """The measured accuracy agrees with that on rows that the study never saw.

    The data resemble the sonar data: few rows, many columns, two classes.
    """
    right, claimed, chosen = [], [], []
    for seed in range(3):
        rows, y = made(
            900,
            60,
            n_informative=8,
            n_redundant=20,
            n_clusters_per_class=3,
            flip_y=0.05,
            random_state=seed,
        )
        found = study(rows[:150], y[:150], None, kinds="denoising", seeds=3, labels=["all"])
        assert found.probe is not None
        codes = found.encoder.encode(rows)
        probe = LogisticRegression(C=found.probe.strength, max_iter=5000).fit(codes[:150], y[:150])
        right.append(probe.score(codes[150:], y[150:]))
        claimed.append(found.probe.accuracy)
        chosen.append(found.strength)
        weakest = (
            LogisticRegression(C=1e-3, max_iter=5000)
            .fit(codes[:150], y[:150])
            .score(codes[150:], y[150:])
        )
        assert right[-1] > weakest - 0.03
        sentence = f"this choice predicts {100 * found.probe.accuracy:.1f} % of labels correctly"
        assert sentence in " ".join(found.findings)
        assert f"all {found.probe.labels} labels" in " ".join(found.findings)
        assert found.probe.labels == 150  # including rows that lost their labels
        assert found.probe.majority == np.bincount(y[:150]).max() / 150
    # With 450 held-out labels and 2,250 test rows, the standard error of the difference is about
    # 2.4 points.
    assert np.mean(claimed) == pytest.approx(np.mean(right), abs=0.06)


def test_rare_classes_pass_all_checks_or_fail_the_first():
    """Three rows of a class are enough, with and without rows set aside; two are refused."""
    y = Y.copy()
    y[(y == 9).nonzero()[0][3:]] = 8
    for more in (MORE, None):
        found = study(y=y, more=more, kinds="vanilla", labels=["all"])
        assert found.efficiency is not None
        assert found.class_names == tuple(map(str, range(10)))
    y[(y == 9).nonzero()[0][2:]] = 8
    with pytest.raises(InputError, match="class '9' has 2"):
        study(y=y, kinds="vanilla")


def test_a_rare_class_survives_the_limit_of_probed_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("leadline.representation._plan.MOST_PROBED", 60)
    y = (np.arange(240) % 2).astype(int)
    y[:3] = 2
    found = study(y=y, kinds="vanilla", labels=[6])
    assert "labelled rows were probed" in found.notes[0]


def test_masked_labels_are_missing_and_masked_cells_are_refused():
    y = np.ma.masked_array(Y, mask=np.arange(240) >= 200)
    found = study(y=y, kinds="vanilla", labels=["all"])
    assert found.protocol.settings["rows"] == {"pretrained on": 640, "labelled": 200}
    with pytest.raises(InputError, match=r"X\[0, \d+\] = nan"):
        study(x=np.ma.masked_equal(X, X[0].max()))


@pytest.mark.parametrize("y", [set(range(240)), [[1, 2], [3]], {"a": 1}, "0" * 240, object()])
def test_labels_that_are_not_a_list_are_refused(y: Any):
    with pytest.raises(InputError, match=r"^y must be|^y must have one label"):
        study(y=y)


def test_repeated_rows_are_never_on_both_sides_of_a_split(monkeypatch: pytest.MonkeyPatch):
    """Every row occurs three times with a random label, so a leak would raise the accuracy."""
    rng = np.random.default_rng(0)
    rows = np.repeat(X[:80], 3, axis=0)
    found = study(
        rows, np.repeat(rng.integers(2, size=80), 3), MORE, kinds="vanilla", seeds=4, labels=["all"]
    )
    assert found.efficiency is not None
    most = int(found.efficiency.budgets[-1])
    assert found.efficiency.interval("raw", most).estimate < 65
    assert found.probe is not None
    assert found.probe.accuracy < 0.65
