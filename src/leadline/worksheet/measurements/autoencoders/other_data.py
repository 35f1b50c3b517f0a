"""Measurement of ``ae.e``: encoders that are pretrained on letters and probed on digits."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from leadline import data
from leadline.autoencoders import GaussianNoise, Pretrained
from leadline.data import LETTERS_UNLIKE_DIGITS, Dataset, Roles
from leadline.errors import InputError
from leadline.randomness import numpy_generator
from leadline.worksheet._answer import Answer, effects_of, finding
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders.arms import compared
from leadline.worksheet.measurements.autoencoders.pretraining import (
    layers,
    pretrained_on,
    pretrained_on_own_rows,
    spread,
)

HIDDEN_SIZES = (256,)
"""The encoder. It and its noise were chosen on probe-validation rows of other seeds."""

NOISE = 0.3

ROWS = 2000
"""Number of letters, or crops, for pretraining each encoder; more could be drawn."""

HELD_OUT = 100
"""Number of additional letters or crops for early stopping."""

ONE_FONT = "DejaVuSans"


def letters_help_digits(setting: Setting) -> Answer:
    """``ae.e``: encoders trained on letters, photographs and the data, at one label per class."""
    dataset = setting.data or data.digits()
    check_geometry(dataset)
    roles = [data.split_roles(dataset.labels, seed=seed) for seed in setting.seeds]
    noise = GaussianNoise(NOISE * spread(dataset))
    epochs = setting.pick(quick=15, full=100)

    sources = ("letters", "letters of one font", "photographs", "own data")
    arms = compared(
        f"Encoders for {dataset.name}, by what they were pretrained on",
        {
            source: [
                result.encoder
                for result in _pretrained(source, dataset, roles, setting, noise, epochs)
            ]
            for source in sources
        },
        dataset,
        roles,
        setting,
        labels=dataset.num_classes,
        settings={
            "encoder": layers(dataset, HIDDEN_SIZES),
            "noise": noise.std,
            "rows": ROWS,
            "epochs": epochs,
            "letters": LETTERS_UNLIKE_DIGITS,
            "one font": ONE_FONT,
        },
        baselines=("raw", "untrained"),
    )
    effects = effects_of(
        "ae.e",
        letters_minus_raw=arms.difference("letters", "raw"),
        letters_minus_untrained=arms.difference("letters", "untrained"),
        many_fonts_minus_one=arms.difference("letters", "letters of one font"),
        photographs_minus_raw=arms.difference("photographs", "raw"),
        own_minus_letters=arms.difference("own data", "letters"),
    )
    return Answer(
        protocol=arms.protocol,
        statement_id="ae.e",
        sentence=f"with one label per class, an encoder that learned on letters gains "
        f"{effects['letters_minus_raw'].interval} points over raw input and "
        f"{effects['letters_minus_untrained'].interval} over an untrained one.",
        soundings={"arms": arms},
        effects=effects,
        findings=(
            finding(arms),
            f"Many fonts instead of one: {effects['many_fonts_minus_one'].interval} points; own "
            f"data instead of letters: {effects['own_minus_letters'].interval}; photographs over "
            f"raw input: {effects['photographs_minus_raw'].interval}.",
        ),
    )


def _pretrained(
    source: str,
    dataset: Dataset,
    roles: Sequence[Roles],
    setting: Setting,
    noise: GaussianNoise,
    epochs: int,
) -> list[Pretrained]:
    """Return autoencoders that learned on one source, one per seed.

    On the user's own rows they train for as many steps as on the other sources.
    """
    if source == "own data":
        as_many_steps = round(epochs * ROWS / len(roles[0].pretrain_train))
        return pretrained_on_own_rows(
            {"own": noise}, dataset, roles, setting, HIDDEN_SIZES, as_many_steps
        )["own"]
    pool = _pool(source, dataset)
    orders = [
        numpy_generator(seed, "worksheet.ae.e").permutation(len(pool)) for seed in setting.seeds
    ]
    rows = [(pool[order[:ROWS]], pool[order[ROWS : ROWS + HELD_OUT]]) for order in orders]
    return pretrained_on(rows, noise, setting, HIDDEN_SIZES, epochs)


def check_geometry(dataset: Dataset) -> None:
    """Raise if letters and photographs cannot be drawn in the shape of the rows."""
    sides = dataset.image_size
    if sides is None or dataset.channels not in (1, 3) or min(sides) < 4 or max(sides) > 427:
        size = (
            "no images"
            if sides is None
            else f"images of {dataset.channels} x {sides[0]} x {sides[1]}"
        )
        raise InputError(
            "this statement needs images with 1 or 3 channels and sides of 4 to 427 pixels",
            got=f"{dataset.name}: {size}",
            cause="flat rows, whose height and width are not known" if sides is None else None,
            cure="hand images over with their shape, (n, height, width); the other statements take "
            "flat rows",
        )


def letters_like(
    dataset: Dataset, num: int, seed: int, fonts: Sequence[str] | None = None
) -> Float[np.ndarray, "num d"]:
    """Draw letters that cannot be mistaken for digits, centred in images of the data's shape."""
    assert dataset.image_size is not None
    size = min(dataset.image_size)
    drawn = data.glyphs(LETTERS_UNLIKE_DIGITS, max(2, num), size, seed=seed, fonts=fonts).images[
        :num
    ]
    room = [side - size for side in dataset.image_size]
    margins = [(0, 0), (0, 0), *((extra // 2, extra - extra // 2) for extra in room)]
    return np.pad(drawn, margins).repeat(dataset.channels, axis=1).reshape(num, -1)


def photographs_like(dataset: Dataset, num: int, seed: int) -> Float[np.ndarray, "num d"]:
    """Return crops of photographs with the data's height, width and channels."""
    assert dataset.image_size is not None
    height, width = dataset.image_size
    channels = 3 if dataset.channels == 3 else 1
    crops = data.photograph_patches(
        max(2, num), max(height, width), seed=seed, channels=channels
    ).images
    return crops[:num, :, :height, :width].reshape(num, -1)


def _pool(source: str, dataset: Dataset) -> Float[np.ndarray, "num d"]:
    """Return rows of another source; each seed uses its own part of them."""
    num = 2 * ROWS
    if source == "photographs":
        return photographs_like(dataset, num, seed=0)
    return letters_like(
        dataset, num, seed=0, fonts=[ONE_FONT] if source == "letters of one font" else None
    )
