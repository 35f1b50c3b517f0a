"""Images of characters in matplotlib's text fonts, each distorted at random."""

import string
from collections.abc import Sequence
from functools import cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.data._dataset import Dataset
from leadline.data._memory import refuse_too_large
from leadline.errors import InputError, nearest

if TYPE_CHECKING:
    from PIL import Image

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *(
        "DejaVuSansMono",
        "DejaVuSansMono-Bold",
        "DejaVuSansMono-Oblique",
        "DejaVuSansMono-BoldOblique",
    ),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmss10", "cmtt10"),
)
"""The text fonts of matplotlib. Symbol, extension and fallback fonts are left out."""

LETTERS_UNLIKE_DIGITS = "CEFHKMNPRUVWXYacehkmnpruvwx"
"""Letters that neither readers nor a nearest-neighbour classifier at 8 x 8 pixels confuse with a
digit.

These letters are left out: O, o, Q, D (0), I, i, l, j, J, f, t, T, L (1 and 7), Z, z (2), A, y (4),
S, s (5), G, b, d (6), B (8), g, q (9).
"""

COMPUTER_MODERN = frozenset(string.ascii_letters + string.digits + "!#$%&()*+,-./:;=?@[]")
"""Characters that Computer Modern draws correctly.

Its tables use TeX's encoding: ``<`` would be drawn as an inverted exclamation mark, and ``{`` as a
dash.
"""

ROTATION = 15.0
"""Largest rotation to either side, in degrees."""
SHEAR = 0.2
"""Largest shear to either side, as the tangent of the slant."""
STRETCH = 1.2
"""Largest ratio between the scales of the two axes."""
FILL = (0.75, 1.0)
"""Smallest and largest length of the glyph's longer side, as a share of the image."""
LARGEST = 2048
"""Largest side of an image in pixels. Fonts cannot be drawn at arbitrary sizes."""
SHIFT = 0.1
"""Largest shift from the centre along either axis, as a share of the image.

The shift is smaller if the ink would be clipped.
"""


def glyphs(
    characters: str, num: int, size: int, *, seed: int, fonts: Sequence[str] | None = None
) -> Dataset:
    """Draw characters in text fonts with random distortions.

    Each image is rotated, sheared, stretched, scaled and shifted at random.

    The ink fills 75 to 100 % of the image, whatever the size of the character in its font, as in
    most data sets of handwriting. It is never clipped, and the contrast is stretched so that it
    reaches 1. All characters are equally frequent.

    Args:
        characters: at least two different characters.
        num: number of images, at least 2.
        size: side of an image in pixels, 4 to 2048.
        seed: seed of characters, fonts and distortions.
        fonts: names from :data:`FONTS`; by default all fonts that have every character.

    Returns:
        A data set with ``X`` of shape (num, size * size) in [0, 1], where ink is 1. ``y`` is the
        index in ``characters``.

    Raises:
        InputError: a character is repeated or blank, a font is unknown, or a font lacks a
            character.

    >>> data = glyphs("xyz", 30, 8, seed=0)
    >>> data.X.shape, data.class_names, np.bincount(data.y).tolist()
    ((30, 64), ('x', 'y', 'z'), [10, 10, 10])
    """
    characters = _check_characters(characters)
    num = checks.whole_number(num, "num", least=2)
    size = checks.whole_number(size, "size", least=4, most=LARGEST)
    seed = checks.seed(seed)
    what = f"glyphs() of {num} images of {size} x {size} pixels"
    refuse_too_large(
        16 * (num + len(characters)) * size**2, what, cure="ask for fewer or smaller images"
    )
    chosen = _check_fonts(characters, fonts)
    # Each image is drawn this many times larger and then averaged.
    fine = max(2, ceil(64 / size))
    master_of = cache(lambda font, label: _draw(chosen[font], characters[label], fine * size))

    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(num) % len(characters))
    font_of = rng.integers(len(chosen), size=num)
    bends = _bends(rng, num)
    fills = rng.uniform(*FILL, size=num)
    shifts = rng.uniform(-1, 1, size=(num, 2))
    X = np.empty((num, size * size), dtype=np.float32)
    for i in range(num):
        X[i] = _place(
            master_of(font_of[i], y[i]), bends[i], fills[i], shifts[i], size, fine
        ).ravel()
    X /= X.max(axis=1, keepdims=True)
    return Dataset(X, y, "glyphs", image_size=(size, size), class_names=tuple(characters))


def _bends(rng: np.random.Generator, num: int) -> Float[np.ndarray, "num 2 2"]:
    """Return products of a rotation, a shear and a stretch, up to an overall scale."""
    angle = np.deg2rad(rng.uniform(-ROTATION, ROTATION, size=num))
    shear = rng.uniform(-SHEAR, SHEAR, size=num)
    stretch = np.exp(rng.uniform(-1, 1, size=num) * np.log(STRETCH) / 2)
    ones = np.ones(num)
    zeros = np.zeros(num)
    rotations = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shears = np.array([[ones, shear], [zeros, ones]])
    stretches = np.array([[stretch, zeros], [zeros, 1 / stretch]])
    return np.einsum("abn,bcn,cdn->nad", rotations, shears, stretches)


def _place(
    master: "Image.Image", bend: np.ndarray, fill: float, shift: np.ndarray, size: int, fine: int
) -> Float[np.ndarray, "size size"]:
    """Distort the master, scale it to ``fill`` of the image, shift it at random, and shrink it."""
    from PIL import Image

    side = size * fine
    ink = np.array(master.size) - 2 * _MARGIN
    box = np.abs(bend) @ ink
    scale = fill * side / box.max()
    centre = side / 2 + shift * np.minimum(side * SHIFT, (side - scale * box) / 2)
    inverse = np.linalg.inv(scale * bend)
    offset = np.array(master.size) / 2 - inverse @ centre
    matrix = (*inverse[0], offset[0], *inverse[1], offset[1])
    large = master.transform(
        (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.asarray(large.reduce(fine), dtype=np.float32)


_MARGIN = 2
"""Blank pixels around the ink of a master, for the interpolation."""


def _draw(font: str, character: str, height: int) -> "Image.Image":
    """Draw a character as large as the finely sampled image, and crop it to its ink."""
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(
        _folder() / f"{font}.ttf", height, layout_engine=ImageFont.Layout.BASIC
    )
    left, top, right, bottom = face.getbbox(character)
    canvas = Image.new("L", (ceil(right - left) + 8, ceil(bottom - top) + 8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), character, font=face, fill=255)
    ink = canvas.getbbox()
    if ink is None:
        raise InputError(
            "characters must not be blank",
            got=f"{character!r} is blank in {font}",
            cure="leave it out",
        )
    tight = canvas.crop(ink)
    master = Image.new("L", (tight.width + 2 * _MARGIN, tight.height + 2 * _MARGIN))
    master.paste(tight, (_MARGIN, _MARGIN))
    return master


def _check_characters(characters: Any) -> str:
    plain = checks.text(characters, "characters")
    if len(set(plain)) < len(plain):
        repeated = next(character for character in plain if plain.count(character) > 1)
        raise InputError(
            "characters must differ from one another", got=f"{repeated!r} occurs more than once"
        )
    if len(plain) < 2:
        raise InputError("characters must be at least two", got=f"characters = {plain!r}")
    return plain


def _check_fonts(characters: str, fonts: Any) -> tuple[str, ...]:
    if fonts is None:
        complete = tuple(font for font in FONTS if not _lacking(font, characters))
        if complete:
            return complete
        widest = min(FONTS, key=lambda font: len(_lacking(font, characters)))
        raise InputError(
            "characters must all be in one font",
            got=f"the most complete, {widest}, lacks {_listed(_lacking(widest, characters))}",
            cure="leave these characters out",
        )
    if isinstance(fonts, str):
        raise InputError(
            "fonts must be a list of names",
            got=f"fonts = {fonts!r}",
            cure='fonts=["DejaVuSans"]',
        )
    names = checks.items(fonts, "fonts", least=1, of="names")
    chosen = tuple(checks.text(name, f"fonts[{i}]") for i, name in enumerate(names))
    for font in chosen:
        if font not in FONTS:
            known = ", ".join(nearest(str(font), list(FONTS)))
            raise InputError(
                "fonts must be names of matplotlib's text fonts",
                got=checks.shown(font),
                cure=f"choose from {known}",
            )
        if lacking := _lacking(font, characters):
            raise InputError(
                "fonts must have all characters",
                got=f"{font} lacks {_listed(lacking)}",
                cause="Computer Modern has ASCII letters, digits and some punctuation"
                if font[:2] == "cm"
                else None,
                cure="leave the font or the characters out",
            )
    return chosen


def _listed(characters: str) -> str:
    return ", ".join(repr(character) for character in characters)


def _lacking(font: str, characters: str) -> str:
    return "".join(character for character in characters if ord(character) not in _charmap(font))


@cache
def _charmap(font: str) -> frozenset[int]:
    """Return the code points that the font draws correctly."""
    from matplotlib.ft2font import FT2Font

    known = frozenset(FT2Font(str(_folder() / f"{font}.ttf")).get_charmap())
    return known & frozenset(map(ord, COMPUTER_MODERN)) if font.startswith("cm") else known


@cache
def _folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"
