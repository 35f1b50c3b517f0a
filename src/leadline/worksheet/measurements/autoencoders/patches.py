"""Measurement of ``ae.g``: masks of patches against masks of single pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt

from leadline import data
from leadline.autoencoders import Corruption, MaskedPatchTransformer, PatchMask, pretrain_many
from leadline.data import Dataset, Roles
from leadline.errors import InputError
from leadline.randomness import numpy_generator, torch_generator
from leadline.statistics import AT_LEAST_ZERO
from leadline.worksheet._answer import Answer, Measured, effects_of
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders.arms import Arms, compared
from leadline.worksheet.measurements.autoencoders.pretraining import (
    label_count,
    layers,
    pretrained_on_own_rows,
)

HIDDEN_SIZES = (64, 64)

RATIO = 0.5
"""Share of the pixels that is hidden, in patches or individually."""

SIZE = 28
"""Side of the images in pixels; smaller images of a user are rejected."""

NUM = 1200

STRIPS = 10
"""Number of vertical strips per photograph; crops of different strips share no pixel."""

LABELS_PER_CLASS = 10

PATCHES = "patches"
PIXELS = "pixels"
FAR_PIXELS = "pixels, equal distance"
"""Names of the masks."""

TRANSFORMER_EPOCHS = 100

IMAGES = ("photographs", "glyphs")
"""Images that the criterion uses; the digits are reported in addition."""

PROBED_MASKS = 128
"""Number of masks over which copying errors and distances are averaged."""


@dataclass(frozen=True, eq=False)
class Source:
    """Images, the roles of their rows for each seed, and the patch size."""

    images: Dataset
    roles: Sequence[Roles]
    label: str
    """Name of the label that the probe predicts."""

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        assert self.images.image_size is not None
        return self.images.image_size

    @property
    def patch(self) -> int:
        """The largest patch size with at least four patches along each side."""
        common = gcd(*self.sides)
        return max(p for p in range(1, min(self.sides) // 4 + 1) if common % p == 0)

    def mask(self, patch: int, ratio: float = RATIO) -> PatchMask:
        """Return a mask of squares with side ``patch``; 1 masks single pixels."""
        return PatchMask(ratio, patch, self.sides, self.images.channels)


def patches_against_pixels(setting: Setting) -> Answer:
    """``ae.g``: copying the nearest visible pixel, and probes, with patches and single pixels."""
    sources = {
        "photographs": photographs(setting),
        "glyphs": characters(setting),
        "digits": handwriting(setting),
    }
    # A transformer needs far more training than the quick budget allows.
    with_transformer = {"glyphs"} if setting.budget == "full" else set()
    arms = {
        name: _arms(source, setting, name in with_transformer) for name, source in sources.items()
    }
    copying = {name: _copying(sources[name], setting) for name in IMAGES}
    effects = effects_of("ae.g", **_measured(sources, arms, copying))
    sentences = [
        f"on {sources[name].images.name} patches instead of pixels change the probe's accuracy by "
        f"{effects[f'patch_minus_pixel_on_{name}'].interval} points, and copying the nearest "
        f"visible one has an error of {effects[f'copying_under_{PATCHES}_on_{name}'].interval:.2f} "
        f"instead of {effects[f'copying_under_{PIXELS}_on_{name}'].interval:.2f} of the variance"
        for name in IMAGES
    ]
    equally_far = " and ".join(
        f"{effects[f'patch_minus_equal_distance_on_{name}'].interval} points on "
        f"{sources[name].images.name}"
        for name in IMAGES
    )
    return Answer(
        protocol=arms["photographs"].protocol,
        statement_id="ae.g",
        sentence="; ".join(sentences) + ".",
        soundings=arms,
        effects=effects,
        findings=(
            *(
                f"On {sources[name].images.name} ({sources[name].label}): {study}."
                for name, study in arms.items()
            ),
            "Instead of pixels hidden so often that a visible one is as far as under patches: "
            f"{equally_far}.",
            f"On handwritten digits of 8 x 8 pixels, patches instead of as many pixels: "
            f"{effects['patch_minus_pixel_on_digits'].interval} points.",
        ),
    )


def _measured(
    sources: Mapping[str, Source],
    arms: Mapping[str, Arms],
    copying: Mapping[str, Float[np.ndarray, "seeds 2"]],
) -> dict[str, Measured]:
    """Return the differences of probes and of copying, by effect and source.

    Args:
        sources: images, by name.
        arms: accuracy of probes, by name.
        copying: error of copying the nearest visible pixel under patches and under pixels, by name;
            not every source has one.
    """
    measured: dict[str, Measured] = {}
    for name, source in sources.items():
        source_name = source.images.name
        for effect, other_mask in (
            ("patch_minus_pixel", PIXELS),
            ("patch_minus_equal_distance", FAR_PIXELS),
        ):
            values, text, unit = arms[name].difference(PATCHES, other_mask)
            measured[f"{effect}_on_{name}"] = (values, f"{text}, on {source_name}", unit)
        if name in copying:
            measured[f"copying_is_harder_on_{name}"] = (
                copying[name][:, 0] - copying[name][:, 1],
                "error of copying the nearest visible pixel, patches minus pixels, on "
                f"{source_name}",
                "of the variance",
            )
            for i, mask in enumerate((PATCHES, PIXELS)):
                measured[f"copying_under_{mask}_on_{name}"] = (
                    copying[name][:, i],
                    f"error of copying the nearest visible pixel under {mask}, on {source_name}",
                    "of the variance",
                    AT_LEAST_ZERO,
                )
    return measured


def _copying(source: Source, setting: Setting) -> Float[np.ndarray, "seeds 2"]:
    """Return the errors of copying, with patches and with single pixels."""
    masks = (source.mask(source.patch), source.mask(1))
    return np.array(
        [
            [copying_error(source, role, mask, seed) for mask in masks]
            for role, seed in zip(source.roles, setting.seeds, strict=True)
        ]
    )


def photographs(setting: Setting) -> Source:
    """Return crops of two photographs, labelled by photograph.

    Each seed assigns whole strips to the five roles.
    """
    each = NUM // STRIPS
    edges = np.linspace(0, 1, STRIPS + 1)
    strips = [
        data.photograph_patches(each, SIZE, seed=i, region=(float(edges[i]), float(edges[i + 1])))
        for i in range(STRIPS)
    ]
    X = np.concatenate([strip.X for strip in strips])
    y = np.concatenate([strip.labels for strip in strips])
    roles = []
    for seed in setting.seeds:
        order = numpy_generator(seed, "worksheet.ae.g").permutation(STRIPS)
        dealt = np.split(order, np.cumsum([4, 1, 2, 1]))
        rows = np.arange(len(X)).reshape(STRIPS, each)
        roles.append(Roles(*(np.sort(rows[part].ravel()) for part in dealt)))
    images = Dataset(X, y, "photographs", (SIZE, SIZE), class_names=strips[0].class_names)
    return Source(images, roles, "which photograph a crop was cut from")


def characters(setting: Setting) -> Source:
    """Return digits drawn in many fonts, or the user's images."""
    own = setting.data
    if own is None:
        drawn = data.glyphs("0123456789", NUM, SIZE, seed=0)
        return Source(drawn, _split(drawn, setting), "which character")
    source = Source(own, [], "their own labels")
    if own.image_size is None or min(own.image_size) < SIZE or source.patch == 1:
        size = (
            "flat rows"
            if own.image_size is None
            else f"images of {own.image_size[0]} x {own.image_size[1]} pixels"
        )
        raise InputError(
            f"patches are hidden in images of at least {SIZE} x {SIZE} pixels whose sides have a "
            "common divisor",
            got=f"{own.name}: {size}",
            cause="on smaller images a patch hides whole strokes"
            if own.image_size
            else "no height and width",
            cure="pass images of shape (n, height, width); the other statements accept these rows",
        )
    return Source(own, _split(own, setting), "their own labels")


def handwriting(setting: Setting) -> Source:
    """Return the handwritten digits, which are too small for the claim."""
    digits = data.digits()
    return Source(digits, _split(digits, setting), "which digit")


def copying_error(source: Source, role: Roles, mask: PatchMask, seed: int) -> float:
    """Return the error of copying the nearest visible pixel into each hidden pixel.

    It is the squared error divided by the variance of the pixels, on pretraining rows. Each row has
    its own mask.
    """
    images = source.images.images[role.pretrain_train[:PROBED_MASKS]]
    hidden = _hidden(mask, len(images), seed)
    copied = np.stack(
        [nearest_visible(image, where) for image, where in zip(images, hidden, strict=True)]
    )
    squares = ((copied - images) ** 2).mean(1)[hidden]
    return float(squares.mean() / images.var(0).mean())


def nearest_visible(
    image: Float[np.ndarray, "channels H W"], hidden: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "channels H W"]:
    """Replace every hidden pixel with the nearest visible one (Euclidean distance)."""
    rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)  # pyright: ignore
    return image[:, rows, columns]


def mean_distance(mask: PatchMask) -> float:
    """Return the mean distance in pixels from a hidden pixel to the nearest visible one."""
    hidden = _hidden(mask, PROBED_MASKS, seed=0)
    return float(np.concatenate([distance_transform_edt(where)[where] for where in hidden]).mean())  # pyright: ignore


def equally_distant(source: Source) -> PatchMask:
    """Return a mask of single pixels with the same mean distance to a visible pixel as patches.

    The number of pixels is found by bisection.
    """
    wanted = mean_distance(source.mask(source.patch))
    low = RATIO
    high = 1 - 1 / np.prod(source.sides)
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if mean_distance(source.mask(1, middle)) < wanted else (low, middle)
        )
    return source.mask(1, (low + high) / 2)


def _hidden(mask: PatchMask, num: int, seed: int) -> Bool[np.ndarray, "num H W"]:
    generator = torch_generator(seed, "worksheet.ae.g")
    spread = mask.grid.spread(mask.hidden(num, generator)).numpy()
    return spread.reshape(num, mask.grid.channels, *mask.grid.sides)[:, 0]


def _split(dataset: Dataset, setting: Setting) -> list[Roles]:
    return [data.split_roles(dataset.labels, seed=seed) for seed in setting.seeds]


def _arms(source: Source, setting: Setting, with_transformer: bool) -> Arms:
    """Probe a dense network under three masks and, optionally, a transformer that drops tokens."""
    epochs = setting.pick(quick=12, full=150)
    far = equally_distant(source)
    kinds: Mapping[str, Corruption] = {
        PATCHES: source.mask(source.patch),
        PIXELS: source.mask(1),
        FAR_PIXELS: far,
    }
    found = pretrained_on_own_rows(
        kinds, source.images, source.roles, setting, HIDDEN_SIZES, epochs
    )
    encoders = {name: [result.encoder for result in results] for name, results in found.items()}
    if with_transformer:
        encoders["transformer that drops patches"] = _transformers(source, setting)
    return compared(
        f"Hiding patches or single pixels: {source.images.name}",
        encoders,
        source.images,
        source.roles,
        setting,
        labels=label_count(source.images, source.roles, per_class=LABELS_PER_CLASS),
        settings={
            "label": source.label,
            "encoder": layers(source.images, HIDDEN_SIZES),
            "epochs": epochs,
            "patch": source.patch,
            "mask ratio": RATIO,
            "mask ratio at equal distance": far.ratio,
            "mean distance": mean_distance(source.mask(source.patch)),
        },
    )


def _transformers(source: Source, setting: Setting) -> list:
    """Return encoders of masked transformers, which receive only the visible patches."""
    models = [
        MaskedPatchTransformer(
            source.sides,
            source.patch,
            source.images.channels,
            width=32,
            depth=1,
            heads=2,
            decoder_width=16,
            mask_ratio=RATIO,
            seed=seed,
        )
        for seed in setting.seeds
    ]
    results = pretrain_many(
        models,
        [source.images.X[role.pretrain_train] for role in source.roles],
        validation=[source.images.X[role.pretrain_validation] for role in source.roles],
        seeds=setting.seeds,
        epochs=TRANSFORMER_EPOCHS,
        batch_size=50,
        learning_rate=3e-3,
    )
    return [result.encoder for result in results]
