"""Settings of the representation room, and their data, roles, corruption and code."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from leadline import autoencoders, data
from leadline.errors import InputError
from leadline.explore.page._settings import Between, Draw, Kind
from leadline.explore.server._uploads import uploads

if TYPE_CHECKING:
    from dash import dcc

SIDE = 16
"""Side of glyphs and of crops of photographs, in pixels."""

CHARACTERS = "abcdefghij"
"""Characters of the glyphs."""

SHOWN = 12
"""Number of examples in the strip."""

SUBSETS = 5
"""Number of label subsets for each label count and seed."""


@dataclass(frozen=True)
class Name(Kind):
    """The name of an object that a button creates, such as a run; only the address contains it."""

    letters: int

    def read(self, given: Any) -> str:
        """Return the hexadecimal digits, or an empty text."""
        if given is None:
            return ""
        if (
            not isinstance(given, str)
            or len(given) not in (0, self.letters)
            or set(given) - set("0123456789abcdef")
        ):
            raise ValueError
        return given

    def control(self, at: str, value: str) -> "dcc.Input":
        """Return a hidden input that holds the name."""
        # The process of a run imports this module but does not need Dash.
        from dash import dcc

        return dcc.Input(id=at, type="hidden", value=value)

    @property
    def rule(self) -> str:
        """The number of digits, for error messages."""
        return f"{self.letters} hexadecimal digits"


@dataclass(frozen=True)
class Settings:
    """Settings of the rows, the autoencoder, its corruption and its training."""

    data: Literal["digits", "glyphs", "photographs", "upload"] = "digits"
    """Handwritten digits, drawn letters, crops of photographs, or your own. The crops overlap, so that a probe would be
    tested on pixels that it was trained on: they go without labels, and nothing is probed."""
    rows: Annotated[int, Between(200, 2000, 100)] = 1800
    """Rows at most; half of them pretrain, the others are for the probe and the report."""
    kind: Literal["vanilla", "denoising", "masked pixels", "masked patches"] = "denoising"
    """What the encoder is shown in training: the row itself, with noise, or with pixels or patches hidden."""
    noise: Annotated[float, Between(0, 2, 0.05)] = 0.5
    """Standard deviation of the noise; the built-in data lie between 0 and 1."""
    ratio: Annotated[float, Between(0, 0.95, 0.05)] = 0.5
    """Share of the pixels or patches that are hidden."""
    patch: Literal["1", "2", "4", "7", "8"] = "2"
    """Side of a patch in pixels; it must divide the image's sides."""
    hidden: Annotated[int, Between(8, 512, 8)] = 128
    """Units of the layer between rows and bottleneck."""
    bottleneck: Annotated[int, Between(1, 256)] = 32
    """Numbers in a representation."""
    epochs: Annotated[int, Between(1, 300)] = 100
    """Passes over the rows at most; training stops early where nothing is gained any more."""
    seeds: Annotated[int, Between(2, 3)] = 3
    """Splits, weights and corruptions that are tried; three are few, and intervals wide; two give none."""
    examples: Annotated[int, Draw("corrupt anew")] = 0
    """Seed of the corruption that the strip shows."""
    upload: Annotated[str, Name(16)] = ""
    """Fingerprint of the uploaded rows."""
    job: Annotated[str, Name(12)] = ""
    """The run that is shown."""


@dataclass(frozen=True, eq=False)
class Material:
    """Rows, and for each seed the role of every row."""

    X: np.ndarray
    y: np.ndarray | None
    image_size: tuple[int, int] | None
    channels: int
    roles: tuple[data.Roles, ...]

    @property
    def shown(self) -> np.ndarray:
        """Rows for the strip: test rows of the first seed, which its autoencoder does not see."""
        return self.X[self.roles[0].test[:SHOWN]]

    @property
    def labels(self) -> list[int | Literal["all"]]:
        """Label counts for probing: 1, 2, 5 and 10 for each class, and all labels."""
        assert self.y is not None
        classes = len(np.unique(self.y))
        pool = min(len(role.probe_pool) for role in self.roles)
        return [*(classes * many for many in (1, 2, 5, 10) if classes * many < pool), "all"]


def material(settings: Settings) -> Material:
    """Return the rows for the settings.

    Raises:
        InputError: the server does not hold the upload, or its rows cannot be split into roles.
    """
    path = str(uploads().path(settings.upload)) if settings.data == "upload" else ""
    return material_at(settings.data, settings.rows, settings.seeds, path)


@lru_cache(maxsize=8)
def material_at(name: str, rows: int, seeds: int, path: str) -> Material:
    """Return the rows of a built-in data set, or of the file at ``path``."""
    given = _given(name, rows, Path(path))
    few = np.random.default_rng(0).permutation(len(given))[:rows]
    X = given.X[few]
    y = None if given.y is None or name == "photographs" else given.y[few]
    groups = data.row_fingerprints(X)
    by = len(X) if y is None else y
    roles = tuple(data.split_roles(by, seed=seed, groups=groups) for seed in range(seeds))
    return Material(X, y, given.image_size, given.channels, roles)


def _given(name: str, rows: int, path: Path) -> data.Dataset:
    if name == "digits":
        return data.digits()
    if name == "glyphs":
        return data.glyphs(CHARACTERS, rows, SIDE, seed=0)
    return data.photograph_patches(rows, SIDE, seed=0) if name == "photographs" else data.load(path)


def corruption(settings: Settings, image_size: Any, channels: int) -> autoencoders.Corruption:
    """Return the corruption for rows of this image size and number of channels.

    Raises:
        InputError: patches need images, and must divide the sides of the images.
    """
    s = settings
    if s.kind == "vanilla":
        return autoencoders.Nothing()
    if s.kind == "denoising":
        return autoencoders.GaussianNoise(s.noise)
    if s.kind == "masked pixels":
        return autoencoders.PixelMask(s.ratio)
    if image_size is None:
        raise InputError(
            "patches are hidden from images",
            got="rows without height and width",
            cure="kind: masked pixels",
        )
    return autoencoders.PatchMask(s.ratio, int(s.patch), image_size, channels)


def silent(settings: Settings) -> Sequence[str]:
    """Return the settings that have no effect on this kind of corruption."""
    unused = {
        "vanilla": ["noise", "ratio", "patch"],
        "denoising": ["ratio", "patch"],
        "masked pixels": ["noise", "patch"],
    }
    return unused.get(settings.kind, ["noise"])


def of_run(settings: Settings) -> Settings:
    """Return the settings with the defaults for the fields that do not affect training."""
    return replace(
        settings, job="", examples=0, upload=settings.upload if settings.data == "upload" else ""
    )


def code(settings: Settings) -> str:
    """Return Python code that makes the same soundings."""
    s = settings
    labelled = s.data in ("digits", "glyphs", "upload")
    given = {
        "digits": "data.digits()",
        "glyphs": f'data.glyphs("{CHARACTERS}", {s.rows}, {SIDE}, seed=0)',
        "photographs": f"data.photograph_patches({s.rows}, {SIDE}, seed=0)",
        "upload": f'data.load("upload.npz")  # fingerprint {s.upload}',
    }[s.data]
    corrupt = {
        "vanilla": "autoencoders.Nothing()",
        "denoising": f"autoencoders.GaussianNoise({s.noise})",
        "masked pixels": f"autoencoders.PixelMask({s.ratio})",
        "masked patches": f"autoencoders.PatchMask({s.ratio}, {s.patch}, given.image_size, given.channels)",
    }[s.kind]
    lines = [
        "import numpy as np",
        f"from leadline import autoencoders, data{', probing' if labelled else ''}",
        "",
    ]
    lines += [
        f"given = {given}",
        f"few = np.random.default_rng(0).permutation(len(given))[:{s.rows}]",
    ]
    labels = "None if given.y is None else given.y[few]" if s.data == "upload" else "given.y[few]"
    lines += [
        f"X, y = given.X[few], {labels}"
        if labelled
        else "X, y = given.X[few], None  # crops overlap: no probe"
    ]
    lines += [
        "by = len(X) if y is None else y",
        "groups = data.row_fingerprints(X)",
        f"roles = [data.split_roles(by, seed=seed, groups=groups) for seed in range({s.seeds})]",
        "",
        f"corruption = {corrupt}",
        "models = [",
        f"    autoencoders.Autoencoder(X.shape[1], ({s.hidden}, {s.bottleneck}), corruption=corruption, seed=seed)",
        f"    for seed in range({s.seeds})",
        "]",
        "epochs = []",
        "trained = autoencoders.pretrain_many(",
        "    models,",
        "    [X[role.pretrain_train] for role in roles],",
        "    validation=[X[role.pretrain_validation] for role in roles],",
        f"    seeds=range({s.seeds}),",
        f"    epochs={s.epochs},",
        "    progress=epochs.append,",
        ")",
        "curves = autoencoders.TrainingCurves.from_epochs(epochs)",
        "strip = autoencoders.corrupt_examples(",
        f"    X[roles[0].test[:{SHOWN}]],",
        "    corruption,",
        "    trained[0],",
        f"    seed={s.examples},",
        "    image_size=given.image_size,",
        "    channels=given.channels,",
        ")",
        "for sounding in (strip, curves):",
        "    print(sounding)",
    ]
    if labelled:
        lines += [
            "",
            "if y is not None:",
            "    pool, classes = min(len(role.probe_pool) for role in roles), len(np.unique(y))",
            "    labels = [classes * many for many in (1, 2, 5, 10) if classes * many < pool]",
            "    efficiency = probing.label_efficiency(",
            f'        {{"{s.kind}": [one.encoder for one in trained]}},',
            "        X,",
            "        y,",
            "        roles=roles,",
            '        labels=[*labels, "all"],',
            f"        num_subsets={SUBSETS},",
            "    )",
            "    print(efficiency)",
        ]
    return "\n".join(lines) + "\n"
