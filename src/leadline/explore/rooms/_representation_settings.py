"""Settings of the representation room, and their data, roles, corruption and code."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from leadline import autoencoders, data
from leadline.errors import InputError
from leadline.explore.page._settings import Between, Draw, Kind, Label
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

LABELS_PER_CLASS = (1, 2, 5, 10)
"""Label counts for each class at which the codes are probed."""


@dataclass(frozen=True)
class Name(Kind):
    """The name of a run or of an upload. A button creates it; it has no visible control."""

    letters: int

    def read(self, value: Any) -> str:
        """Return the hexadecimal digits, or an empty text."""
        if value is None:
            return ""
        if (
            not isinstance(value, str)
            or len(value) not in (0, self.letters)
            or set(value) - set("0123456789abcdef")
        ):
            raise ValueError
        return value

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
    """Data set. digits: handwritten digits. glyphs: drawn letters. photographs: crops of
    photographs. upload: your own rows. Crops overlap, so a probe would be tested on pixels of its
    training set. Therefore photographs have no labels, and no probe is trained."""
    rows: Annotated[int, Between(200, 2000, 100), Label("maximum number of rows")] = 1800
    """Largest number of rows. Half of them pretrain the autoencoder; the probe uses the others."""
    kind: Annotated[
        Literal["vanilla", "denoising", "masked pixels", "masked patches"], Label("corruption")
    ] = "denoising"
    """Corruption of the encoder's input in training. vanilla: none. denoising: Gaussian noise.
    masked pixels, masked patches: hidden pixels or hidden square patches."""
    noise: Annotated[float, Between(0, 2, 0.05)] = 0.5
    """Standard deviation of the noise. The built-in data have values between 0 and 1."""
    ratio: Annotated[float, Between(0, 0.95, 0.05), Label("hidden share")] = 0.5
    """Share of the pixels or patches that are hidden."""
    patch: Annotated[Literal["1", "2", "4", "7", "8"], Label("side of a patch")] = "2"
    """Side of a patch in pixels. It must divide the height and the width of the images."""
    hidden: Annotated[int, Between(8, 512, 8), Label("hidden units")] = 128
    """Number of units of the layer between input and bottleneck."""
    bottleneck: Annotated[int, Between(1, 256), Label("code size")] = 32
    """Number of units of the bottleneck, so the number of values in a code."""
    epochs: Annotated[int, Between(1, 300), Label("maximum number of epochs")] = 100
    """Largest number of passes over the training rows. Early stopping may end training before."""
    seeds: Annotated[int, Between(2, 3)] = 3
    """Number of runs with different splits, weights and corruptions. With three seeds the intervals
    are wide; with two seeds there is no interval."""
    examples: Annotated[int, Draw("new corruption"), Label("corruption seed")] = 0
    """Seed of the corruption of the examples above the curves."""
    upload: Annotated[str, Name(16)] = ""
    """Fingerprint of the uploaded rows."""
    job: Annotated[str, Name(12)] = ""
    """Name of the run."""


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
        counts = [classes * per_class for per_class in LABELS_PER_CLASS]
        return [*(count for count in counts if count < pool), "all"]


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
    dataset = _dataset(name, rows, Path(path))
    chosen = np.random.default_rng(0).permutation(len(dataset))[:rows]
    X = dataset.X[chosen]
    y = None if dataset.y is None or name == "photographs" else dataset.y[chosen]
    groups = data.row_fingerprints(X)
    labels_or_count = len(X) if y is None else y
    roles = tuple(
        data.split_roles(labels_or_count, seed=seed, groups=groups) for seed in range(seeds)
    )
    return Material(X, y, dataset.image_size, dataset.channels, roles)


def _dataset(name: str, rows: int, path: Path) -> data.Dataset:
    """Return a built-in data set, or the data set in the file at ``path``."""
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
            "masked patches need images",
            got="rows without height and width",
            cure="choose masked pixels",
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


def run_settings(settings: Settings) -> Settings:
    """Return the settings with the defaults for the fields that do not affect training."""
    return replace(
        settings, job="", examples=0, upload=settings.upload if settings.data == "upload" else ""
    )


def code(settings: Settings) -> str:
    """Return Python code that makes the same soundings."""
    s = settings
    is_labelled = s.data in ("digits", "glyphs", "upload")
    dataset = {
        "digits": "data.digits()",
        "glyphs": f'data.glyphs("{CHARACTERS}", {s.rows}, {SIDE}, seed=0)',
        "photographs": f"data.photograph_patches({s.rows}, {SIDE}, seed=0)",
        "upload": f'data.load("upload.npz")  # fingerprint {s.upload}',
    }[s.data]
    corrupt = {
        "vanilla": "autoencoders.Nothing()",
        "denoising": f"autoencoders.GaussianNoise({s.noise})",
        "masked pixels": f"autoencoders.PixelMask({s.ratio})",
        "masked patches": f"autoencoders.PatchMask({s.ratio}, {s.patch}, dataset.image_size, "
        "dataset.channels)",
    }[s.kind]
    lines = [
        "import numpy as np",
        f"from leadline import autoencoders, data{', probing' if is_labelled else ''}",
        "",
    ]
    lines += [
        f"dataset = {dataset}",
        f"chosen = np.random.default_rng(0).permutation(len(dataset))[:{s.rows}]",
        "X = dataset.X[chosen]",
    ]
    if s.data == "upload":
        lines.append("y = None if dataset.y is None else dataset.y[chosen]")
    elif is_labelled:
        lines.append("y = dataset.y[chosen]")
    else:
        lines.append(
            "y = None  # Crops overlap, so a probe would be tested on its training pixels."
        )
    lines += [
        "labels_or_count = len(X) if y is None else y",
        "groups = data.row_fingerprints(X)",
        "roles = [",
        "    data.split_roles(labels_or_count, seed=seed, groups=groups)",
        f"    for seed in range({s.seeds})",
        "]",
        "",
        f"corruption = {corrupt}",
        "models = [",
        "    autoencoders.Autoencoder(",
        f"        X.shape[1], ({s.hidden}, {s.bottleneck}), corruption=corruption, seed=seed",
        "    )",
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
        "    image_size=dataset.image_size,",
        "    channels=dataset.channels,",
        ")",
        "for sounding in (strip, curves):",
        "    print(sounding)",
    ]
    if is_labelled:
        lines += [
            "",
            "if y is not None:",
            "    pool = min(len(role.probe_pool) for role in roles)",
            f"    counts = [len(np.unique(y)) * per_class for per_class in {LABELS_PER_CLASS}]",
            "    efficiency = probing.label_efficiency(",
            f'        {{"{s.kind}": [pretrained.encoder for pretrained in trained]}},',
            "        X,",
            "        y,",
            "        roles=roles,",
            '        labels=[*(count for count in counts if count < pool), "all"],',
            f"        num_subsets={SUBSETS},",
            "    )",
            "    print(efficiency)",
        ]
    return "\n".join(lines) + "\n"
