"""A few rows, their corrupted forms, and their reconstructions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from leadline import checks, storage
from leadline.autoencoders._corruption import Corruption, check_corruption
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders.models._patches import Size, check_size, pair
from leadline.autoencoders.training._pretrained import Pretrained
from leadline.data import check_features, fingerprint
from leadline.errors import InputError
from leadline.figures import Drawing, image_strip
from leadline.randomness import torch_generator
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


@record("autoencoders.Examples")
@dataclass(frozen=True, eq=False)
class Examples(Sounding):
    """A few rows, their corrupted forms, and their reconstructions."""

    rows: Float[np.ndarray, "n d"]
    """The clean rows."""
    shown: Float[np.ndarray, "n d"]
    """The corrupted rows; NaN where a number never enters the encoder."""
    reconstructed: Float[np.ndarray, "m d"]
    """The reconstructions of the corrupted rows; empty without an autoencoder."""
    image_size: tuple[int, int] | None = None
    """Height and width if rows are images."""
    channels: int = 1
    """Channels of the images."""

    @property
    def stages(self) -> Mapping[str, Float[np.ndarray, "n d"]]:
        """The rows by stage: ``input``, ``shown``, and ``reconstructed`` if not empty."""
        stages = {"input": self.rows, "shown": self.shown}
        if len(self.reconstructed):
            stages["reconstructed"] = self.reconstructed
        return stages

    @property
    def verdict(self) -> Verdict:
        """The squared errors of the corrupted rows and of their reconstructions."""
        changed_share = (self.shown != self.rows).mean()
        sentence = "the encoder sees the clean rows"
        if changed_share:
            error = np.square(np.nan_to_num(self.shown) - self.rows).sum(1).mean()
            sentence = (
                f"corruption changes {changed_share:.0%} of the numbers, "
                f"a squared error of {error:.3g} per row"
            )
        if len(self.reconstructed):
            error = np.square(self.reconstructed - self.rows).sum(1).mean()
            sentence += f"; the reconstruction has {error:.3g}"
        return Verdict(sentence)

    def table(self) -> "pd.DataFrame":
        """Return one row per example and feature, with one column per stage."""
        import pandas as pd

        n, d = self.rows.shape
        places = {"example": np.repeat(np.arange(n), d), "feature": np.tile(np.arange(d), n)}
        return pd.DataFrame(places | {name: stage.ravel() for name, stage in self.stages.items()})

    def drawing(self) -> Drawing:
        """Return the examples in columns and the stages in rows; flat rows are stripes."""
        title = "Corrupted rows and their reconstructions"
        return image_strip(pictures(self), title=title)


def pictures(examples: Examples) -> dict[str, np.ndarray]:
    """Return the stages as images of shape (n, h, w) or (n, h, w, 3).

    A row without an image becomes a stripe, a third as high as it is long.
    """
    n, d = examples.rows.shape
    stages = {}
    for name, rows in examples.stages.items():
        if examples.image_size is None:
            images = np.broadcast_to(rows[:, None], (n, max(1, d // 3), d))
        else:
            images = rows.reshape(n, examples.channels, *examples.image_size)
            images = images[:, 0] if examples.channels == 1 else np.moveaxis(images, 1, -1)
        stages[name] = np.nan_to_num(images)
    return stages


def corrupt_examples(
    X: Any,
    corruption: Corruption,
    pretrained: Pretrained | None = None,
    *,
    seed: int,
    image_size: Size | None = None,
    channels: int = 1,
) -> Examples:
    """Corrupt a few rows as in training, and reconstruct them with an autoencoder.

    Args:
        X: Rows of shape (n, d).
        corruption: The corruption, such as ``pretrained.corruption``.
        pretrained: The autoencoder; without one nothing is reconstructed.
        seed: Seed of the corruption.
        image_size: Height and width if rows are flattened images.
        channels: Channels of the images.

    Raises:
        InputError: Rows that are not finite, or whose width does not match the image, the
            corruption or the autoencoder.

    >>> from leadline.autoencoders import PixelMask
    >>> examples = corrupt_examples(np.ones((1, 4)), PixelMask(0.5), seed=0)
    >>> examples.shown.shape, examples.reconstructed.shape
    ((1, 4), (0, 4))
    """
    corruption = check_corruption(corruption)
    if pretrained is not None:
        checks.instance(pretrained, "pretrained", Pretrained, wanted="the result of pretrain()")
    seed = checks.seed(seed)
    channels = check_size(channels, "channels")
    form = RowForm.of(X) if pretrained is None or pretrained.form is None else pretrained.form
    rows = check_features(form.apply(X))
    size = None if image_size is None else pair(image_size, "image_size")
    if size is not None and rows.shape[1] != channels * size[0] * size[1]:
        raise InputError(
            "X must have channels x height x width features",
            got=f"image_size = {size} and channels = {channels} for {rows.shape[1]} features",
        )
    x = torch.from_numpy(np.array(rows))
    shown, _ = corruption.corrupt(x, torch_generator(seed, "autoencoders.examples"))
    reconstructed = np.zeros((0, rows.shape[1]), np.float32)
    if pretrained is not None:
        reconstructed = _reconstructed(pretrained, shown)
    settings = {"corruption": storage.pack(corruption, {})}
    protocol = Protocol(settings, (seed,), {"rows": fingerprint(rows)})
    return Examples(protocol, rows, shown.numpy(), reconstructed, size, channels)


def _reconstructed(pretrained: Pretrained, shown: torch.Tensor) -> np.ndarray:
    """Return the reconstructions of corrupted rows."""
    model = pretrained.model.eval()
    try:
        with torch.no_grad():
            output = model(shown.to(next(model.parameters()).dtype))
            return output.flatten(1).float().numpy()
    except InputError:
        raise
    except Exception as error:  # the user's own module may raise any type
        raise InputError(
            "X must be rows that the autoencoder takes",
            got=f"{type(model).__name__} failed on rows of shape {tuple(shown.shape)}: {error}",
            cure="pass rows like those of pretraining, flattened",
        ) from error
