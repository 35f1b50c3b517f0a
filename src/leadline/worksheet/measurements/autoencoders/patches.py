"""Measurement of ``ae.g``: hiding patches against hiding single pixels."""

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
from leadline.worksheet._answer import Answer, effects_of
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders.arms import Arms, compared
from leadline.worksheet.measurements.autoencoders.pretraining import (
    label_count,
    layers,
    pretrained_on_own_rows,
)

HIDDEN_SIZES = (64, 64)

RATIO = 0.5
"""Share of the pixels that is hidden, in patches or one by one."""

SIZE = 28
"""Sides of the images in pixels; smaller ones of a user are refused."""

NUM = 1200

STRIPS = 10
"""Upright strips that each photograph is cut into; crops of different strips share no pixel."""

LABELS_PER_CLASS = 10

PATCHES, PIXELS, FAR_PIXELS = "patches", "pixels", "pixels, equal distance"
"""The masks."""

TRANSFORMER_EPOCHS = 100

IMAGES = ("photographs", "glyphs")
"""What the criterion is about; the handwritten digits are reported beside it."""

PROBED_MASKS = 128
"""Masks over which copying and distances are averaged."""


@dataclass(frozen=True, eq=False)
class Source:
    """Images, who may see which of them, and the patches that they are cut into."""

    images: Dataset
    roles: Sequence[Roles]
    label: str
    """What the probe is asked."""

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        assert self.images.image_size is not None
        return self.images.image_size

    @property
    def patch(self) -> int:
        """The largest patch of which at least four lie along each side."""
        common = gcd(*self.sides)
        return max(p for p in range(1, min(self.sides) // 4 + 1) if common % p == 0)

    def mask(self, patch: int, ratio: float = RATIO) -> PatchMask:
        """Hides a share of the image in squares of this side; 1 for single pixels."""
        return PatchMask(ratio, patch, self.sides, self.images.channels)


def patches_against_pixels(setting: Setting) -> Answer:
    """``ae.g``: copying the nearest visible pixel, and probes, under patches and under single pixels."""
    sources = {
        "photographs": photographs(setting),
        "glyphs": characters(setting),
        "digits": handwriting(setting),
    }
    # A transformer needs far more training than a quick budget has for it.
    with_transformer = {"glyphs"} if setting.budget == "full" else set()
    arms = {
        name: _arms(source, setting, name in with_transformer) for name, source in sources.items()
    }
    copying = {name: _copying(sources[name], setting) for name in IMAGES}
    measured = {}
    for name, source in sources.items():
        called = source.images.name
        for effect, other in (
            ("patch_minus_pixel", PIXELS),
            ("patch_minus_equal_distance", FAR_PIXELS),
        ):
            values, text, unit = arms[name].difference(PATCHES, other)
            measured[f"{effect}_on_{name}"] = (values, f"{text}, on {called}", unit)
        if name in copying:
            measured[f"copying_is_harder_on_{name}"] = (
                copying[name][:, 0] - copying[name][:, 1],
                f"error of copying the nearest visible pixel, patches minus pixels, on {called}",
                "of the variance",
            )
            for i, mask in enumerate((PATCHES, PIXELS)):
                measured[f"copying_under_{mask}_on_{name}"] = (
                    copying[name][:, i],
                    f"error of copying the nearest visible pixel under {mask}, on {called}",
                    "of the variance",
                    AT_LEAST_ZERO,
                )
    effects = effects_of("ae.g", **measured)
    told = [
        f"on {sources[name].images.name} patches instead of pixels change the probe's accuracy by "
        f"{effects[f'patch_minus_pixel_on_{name}'].interval} points, and copying the nearest visible one has an error "
        f"of {effects[f'copying_under_{PATCHES}_on_{name}'].interval:.2f} instead of "
        f"{effects[f'copying_under_{PIXELS}_on_{name}'].interval:.2f} of the variance"
        for name in IMAGES
    ]
    equally_far = " and ".join(
        f"{effects[f'patch_minus_equal_distance_on_{name}'].interval} points on {sources[name].images.name}"
        for name in IMAGES
    )
    return Answer(
        protocol=arms["photographs"].protocol,
        statement_id="ae.g",
        sentence="; ".join(told) + ".",
        soundings=arms,
        effects=effects,
        findings=(
            *(
                f"On {sources[name].images.name} ({sources[name].label}): {study}."
                for name, study in arms.items()
            ),
            f"Instead of pixels hidden so often that a visible one is as far as under patches: {equally_far}.",
            f"On handwritten digits of 8 x 8 pixels, patches instead of as many pixels: "
            f"{effects['patch_minus_pixel_on_digits'].interval} points.",
        ),
    )


def _copying(source: Source, setting: Setting) -> Float[np.ndarray, "seeds 2"]:
    """Errors of copying under patches and under single pixels."""
    masks = (source.mask(source.patch), source.mask(1))
    return np.array(
        [
            [copying_error(source, role, mask, seed) for mask in masks]
            for role, seed in zip(source.roles, setting.seeds, strict=True)
        ]
    )


def photographs(setting: Setting) -> Source:
    """Crops of two photographs; the probe is asked which one. Each seed deals whole strips to the five roles."""
    each = NUM // STRIPS
    edges = np.linspace(0, 1, STRIPS + 1)
    strips = [
        data.photograph_patches(each, SIZE, seed=i, region=(float(edges[i]), float(edges[i + 1])))
        for i in range(STRIPS)
    ]
    X, y = (
        np.concatenate([strip.X for strip in strips]),
        np.concatenate([strip.labels for strip in strips]),
    )
    roles = []
    for seed in setting.seeds:
        order = numpy_generator(seed, "worksheet.ae.g").permutation(STRIPS)
        dealt = np.split(order, np.cumsum([4, 1, 2, 1]))
        rows = np.arange(len(X)).reshape(STRIPS, each)
        roles.append(Roles(*(np.sort(rows[part].ravel()) for part in dealt)))
    images = Dataset(X, y, "photographs", (SIZE, SIZE), class_names=strips[0].class_names)
    return Source(images, roles, "which photograph a crop was cut from")


def characters(setting: Setting) -> Source:
    """Digits drawn from many fonts, or the user's images."""
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
            f"patches are hidden in images of at least {SIZE} x {SIZE} pixels whose sides have a common divisor",
            got=f"{own.name}: {size}",
            cause="on smaller images a patch hides whole strokes"
            if own.image_size
            else "no height and width",
            cure="hand images over with their shape, (n, height, width); the other statements take what there is",
        )
    return Source(own, _split(own, setting), "their own labels")


def handwriting(setting: Setting) -> Source:
    """The handwritten digits, which are too small for the claim."""
    digits = data.digits()
    return Source(digits, _split(digits, setting), "which digit")


def copying_error(source: Source, role: Roles, mask: PatchMask, seed: int) -> float:
    """Squared error of copying the nearest visible pixel into each hidden one, over the variance of the pixels.

    On pretraining rows, each under a mask of its own.
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
    """The image with every hidden pixel replaced by the visible one that is nearest to it (Euclidean distance)."""
    rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)  # pyright: ignore
    return image[:, rows, columns]


def mean_distance(mask: PatchMask) -> float:
    """Mean distance of a hidden pixel to the nearest visible one, in pixels."""
    hidden = _hidden(mask, PROBED_MASKS, seed=0)
    return float(np.concatenate([distance_transform_edt(where)[where] for where in hidden]).mean())  # pyright: ignore


def equally_distant(source: Source) -> PatchMask:
    """Hides single pixels, so many that the mean distance to a visible one is that under patches; by bisection."""
    wanted = mean_distance(source.mask(source.patch))
    low, high = RATIO, 1 - 1 / np.prod(source.sides)
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
    """Probes of the same dense network under three masks, and of a transformer that drops tokens where wanted."""
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
    """Encoders of masked transformers, whose encoders are given the visible patches only."""
    models = [
        MaskedPatchTransformer(
            source.sides, source.patch, source.images.channels, width=32, depth=1, heads=2, decoder_width=16,
            mask_ratio=RATIO, seed=seed,
        )
        for seed in setting.seeds
    ]  # fmt: skip
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
