"""A few rows, what the encoder is shown of them in training, and what the autoencoder makes of that."""

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
    """Rows, what the encoder is shown of them, and what comes back."""

    rows: Float[np.ndarray, "n d"]
    shown: Float[np.ndarray, "n d"]
    """After the corruption; NaN where the encoder is not given a number at all."""
    reconstructed: Float[np.ndarray, "m d"]
    """From what was shown; of no rows where no autoencoder was given."""
    image_size: tuple[int, int] | None = None
    """Height and width, where rows are images."""
    channels: int = 1

    @property
    def stages(self) -> Mapping[str, Float[np.ndarray, "n d"]]:
        """Rows by what they are: ``input``, ``shown``, and ``reconstructed`` where there is an autoencoder."""
        stages = {"input": self.rows, "shown": self.shown}
        return (
            {**stages, "reconstructed": self.reconstructed} if len(self.reconstructed) else stages
        )

    @property
    def verdict(self) -> Verdict:
        """How far what is shown, and what comes back, lie from the rows."""
        changed = (self.shown != self.rows).mean()
        told = "the encoder is shown the rows themselves"
        if changed:
            error = np.square(np.nan_to_num(self.shown) - self.rows).sum(1).mean()
            told = f"{changed:.0%} of what the encoder is shown is changed, at a squared error of {error:.3g} a row"
        if len(self.reconstructed):
            error = np.square(self.reconstructed - self.rows).sum(1).mean()
            told += f"; what comes back has {error:.3g}"
        return Verdict(told)

    def table(self) -> "pd.DataFrame":
        """One row per example and feature: ``input``, ``shown`` and, from an autoencoder, ``reconstructed``."""
        import pandas as pd

        n, d = self.rows.shape
        places = {"example": np.repeat(np.arange(n), d), "feature": np.tile(np.arange(d), n)}
        return pd.DataFrame(places | {name: stage.ravel() for name, stage in self.stages.items()})

    def drawing(self) -> Drawing:
        """Return the examples in columns and the stages in rows; rows without images are stripes."""
        title = "What the encoder is shown, and what comes back"
        return image_strip(pictures(self), title=title)


def pictures(found: Examples) -> dict[str, np.ndarray]:
    """Return the stages as images of shape (n, h, w) or (n, h, w, 3).

    A row without an image becomes a stripe, a third as high as it is long.
    """
    n, d = found.rows.shape
    stages = {}
    for name, rows in found.stages.items():
        if found.image_size is None:
            images = np.broadcast_to(rows[:, None], (n, max(1, d // 3), d))
        else:
            images = rows.reshape(n, found.channels, *found.image_size)
            images = images[:, 0] if found.channels == 1 else np.moveaxis(images, 1, -1)
        stages[name] = np.nan_to_num(images)
    return stages


def examples(
    X: Any,
    corruption: Corruption,
    pretrained: Pretrained | None = None,
    *,
    seed: int,
    image_size: Size | None = None,
    channels: int = 1,
) -> Examples:
    """Corrupt a few rows as training does, and let an autoencoder reconstruct them from what it is shown.

    Args:
        X: rows of shape (n, d).
        corruption: what is done to them.
        pretrained: the autoencoder; without one there is nothing to reconstruct.
        seed: draws the corruption.
        image_size: height and width, where rows are flattened images.
        channels: of the images.

    Raises:
        InputError: rows that are not finite, or of another width than image, corruption or autoencoder.

    >>> from leadline.autoencoders import PixelMask
    >>> found = examples(np.ones((1, 4)), PixelMask(0.5), seed=0)
    >>> found.shown.shape, found.reconstructed.shape
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
            "an image has channels x height x width features",
            got=f"image_size = {size} and channels = {channels} for {rows.shape[1]} features",
        )
    x = torch.from_numpy(np.array(rows))
    shown, _ = corruption.corrupt(x, torch_generator(seed, "autoencoders.examples"))
    reconstructed = np.zeros((0, rows.shape[1]), np.float32)
    if pretrained is not None:
        reconstructed = _reconstructed(pretrained, shown)
    protocol = Protocol(
        {"corruption": storage.pack(corruption, {})}, (seed,), {"rows": fingerprint(rows)}
    )
    return Examples(protocol, rows, shown.numpy(), reconstructed, size, channels)


def _reconstructed(pretrained: Pretrained, shown: torch.Tensor) -> np.ndarray:
    model = pretrained.model.eval()
    try:
        with torch.no_grad():
            found = model(shown.to(next(model.parameters()).dtype))
            return found.flatten(1).float().numpy()
    except InputError:
        raise
    except Exception as error:  # the user's own module may raise any kind
        raise InputError(
            "the autoencoder must take the rows",
            got=f"{type(model).__name__} failed on rows of shape {tuple(shown.shape)}: {error}",
            cure="hand over rows like those of pretraining, flattened",
        ) from error
