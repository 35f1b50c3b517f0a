"""Corruptions: the only difference between vanilla, denoising and masked autoencoders.

A corruption defines what the encoder sees in training and where the loss counts. It draws all
random numbers from the generator that it receives. It applies to training only: a frozen encoder
never corrupts. A new corruption takes one class.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leadline import checks
from leadline.autoencoders._tensors import check_tensor, needed_generator
from leadline.autoencoders.models._patches import MOST_NUMBERS, PatchGrid, Size, pair
from leadline.errors import InputError
from leadline.storage import record

CountedLoss = Literal["all", "masked", "visible"]
"""The entries where a masked autoencoder's loss counts: all, the hidden, or the visible ones."""


@dataclass(frozen=True)
class LinearEffect:
    """The effect of a corruption on the mean m and the covariance S of the rows.

    The corrupted rows have the mean ``kept m`` and the covariance
    ``kept^2 S + noise_variance I + mask_variance diag(S + m m^T)``. Their covariance with the clean
    rows is ``kept S``.
    """

    kept: float = 1.0
    noise_variance: float = 0.0
    mask_variance: float = 0.0


@dataclass(frozen=True)
class Corruption(ABC):
    """The corruption of a batch before the encoder sees it. Subclasses add settings as fields."""

    changes_rows: ClassVar[bool] = True
    """False if the encoder sees the rows themselves."""

    @property
    def counts_everywhere(self) -> bool:
        """True if the loss counts on every entry: :meth:`corrupt` returns no second tensor."""
        return True

    @property
    def linear_effect(self) -> LinearEffect | None:
        """The effect on mean and covariance; ``None`` if no closed form is known."""
        return None

    @abstractmethod
    def corrupt(
        self, x: Float[Tensor, "batch features"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, "batch features"] | None]:
        """Corrupt a batch.

        Args:
            x: The clean batch, shape (batch, features); it is not changed.
            generator: The only source of random numbers, on the device of ``x``.

        Returns:
            The input of the encoder, and the entries where the loss counts: 1 where it counts, 0
            elsewhere, ``None`` if it counts everywhere.
        """


@record("autoencoders.Nothing")
@dataclass(frozen=True)
class Nothing(Corruption):
    """No corruption, as in the vanilla autoencoder: the encoder sees the clean batch."""

    changes_rows: ClassVar[bool] = False

    @property
    def linear_effect(self) -> LinearEffect:
        """Mean and covariance are unchanged."""
        return LinearEffect()

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        """Return the batch itself; nothing is drawn."""
        _check(x, generator)
        return x, None


@record("autoencoders.GaussianNoise")
@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """Independent normal noise on every entry, as in the denoising autoencoder.

    Formula: ``x + std * n``, n standard normal.

    Args:
        std: Standard deviation of the noise in the units of the data, at least 0.

    >>> GaussianNoise(std=0.1).corrupt(torch.zeros(1, 3), torch.Generator().manual_seed(0))[0]
    tensor([[ 0.1541, -0.0293, -0.2179]])

    Reference: Vincent et al., *Extracting and composing robust features with denoising
    autoencoders*, 2008.
    """

    std: float = 0.5

    def __post_init__(self):
        cure = "give it in the units of the data; 0.5 suits features between 0 and 1"
        object.__setattr__(self, "std", checks.number(self.std, "std", least=0, cure=cure))

    @property
    def linear_effect(self) -> LinearEffect:
        """The noise adds its variance."""
        return LinearEffect(noise_variance=self.std**2)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        """Return the batch with noise added."""
        _check(x, generator)
        noise = torch.empty_like(x).normal_(generator=generator)
        return noise.mul_(self.std).add_(x), None


@record("autoencoders.PixelMask")
@dataclass(frozen=True)
class PixelMask(Corruption):
    """Single entries set to zero independently, as in the masked autoencoder.

    Formula: ``x * keep``, where keep is 0 with probability ``ratio`` and 1 otherwise. Visible
    entries are not rescaled.

    Args:
        ratio: Probability that an entry is hidden, in [0, 1).
        loss: Entries where the loss counts: ``"all"``, ``"masked"`` or ``"visible"``.

    >>> mask = PixelMask(0.5, loss="masked")
    >>> seen, loss_mask = mask.corrupt(torch.ones(1, 4), torch.Generator().manual_seed(0))
    >>> seen, loss_mask
    (tensor([[0., 1., 0., 0.]]), tensor([[1., 0., 1., 1.]]))

    Reference: Vincent et al., *Stacked denoising autoencoders*, 2010 (masking noise).
    """

    ratio: float = 0.25
    loss: CountedLoss = "all"

    def __post_init__(self):
        object.__setattr__(self, "ratio", _check_mask(self.ratio, self.loss))

    @property
    def counts_everywhere(self) -> bool:
        """True if the loss counts on every entry."""
        return self.loss == "all"

    @property
    def linear_effect(self) -> LinearEffect | None:
        """The mask scales the rows and adds variance; known if the loss counts everywhere."""
        if self.loss != "all":
            return None
        kept = 1 - self.ratio
        return LinearEffect(kept=kept, mask_variance=kept * self.ratio)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return the batch with entries hidden."""
        _check(x, generator)
        keep = torch.empty_like(x).uniform_(generator=generator).ge_(self.ratio)
        loss_mask = {"all": None, "masked": 1 - keep, "visible": keep}[self.loss]
        return keep * x, loss_mask


@record("autoencoders.PatchMask")
@dataclass(frozen=True)
class PatchMask(Corruption):
    """Random patches of each image hidden, equally many in each, as in the masked autoencoder.

    Formula: of T patches, ``T - round((1 - ratio) T)`` are hidden. For ``ratio > 0`` at least one
    patch is hidden, and at least one of two or more stays visible.

    Args:
        ratio: Share of the patches to hide, in [0, 1).
        patch_size: Height and width of a patch in pixels, or one number for both.
        image_size: Height and width of the image in pixels, or one number for both; multiples of
            those of the patch.
        channels: Channels of the image, which is flattened in the order (channels, height, width).
        loss: Entries where the loss counts: ``"all"``, ``"masked"`` or ``"visible"``; all if
            nothing is hidden.
        drop: True to set hidden entries to NaN instead of zero. :class:`MaskedPatchTransformer`
            needs this: hidden patches never enter its encoder.

    >>> mask = PatchMask(0.5, patch_size=1, image_size=(1, 4))
    >>> mask.corrupt(torch.ones(2, 4), torch.Generator().manual_seed(0))[0]
    tensor([[0., 0., 1., 1.],
            [1., 0., 1., 0.]])

    Reference: He et al., *Masked autoencoders are scalable vision learners*, 2022.
    """

    ratio: float
    patch_size: Size
    image_size: Size
    channels: int = 1
    loss: CountedLoss = "all"
    drop: bool = False

    def __post_init__(self):
        object.__setattr__(self, "ratio", _check_mask(self.ratio, self.loss))
        grid = PatchGrid(self.image_size, self.patch_size, self.channels)
        object.__setattr__(self, "image_size", grid.sides)
        object.__setattr__(self, "patch_size", grid.patch_sides)
        object.__setattr__(self, "channels", grid.channels)
        object.__setattr__(self, "drop", checks.flag(self.drop, "drop"))

    @property
    def grid(self) -> PatchGrid:
        """The patches of an image."""
        return PatchGrid(self.image_size, self.patch_size, self.channels)

    @property
    def num_visible(self) -> int:
        """Number of visible patches."""
        total = self.grid.num_patches
        if self.ratio == 0:
            return total
        return max(1, min(total - 1, round(total * (1 - self.ratio))))

    @property
    def counts_everywhere(self) -> bool:
        """True if the loss counts on every entry."""
        return self.loss == "all" or self.num_visible == self.grid.num_patches

    def hidden(self, num: int, generator: torch.Generator) -> Bool[Tensor, "num patches"]:
        """Draw the hidden patches of ``num`` images; true where a patch is hidden."""
        num = checks.whole_number(num, "num", least=0, most=MOST_NUMBERS)
        needed_generator(generator, getattr(generator, "device", torch.device("cpu")))
        noise = torch.rand(num, self.grid.num_patches, generator=generator, device=generator.device)
        chosen = noise.topk(self.grid.num_patches - self.num_visible, 1, sorted=False).indices
        return torch.zeros_like(noise, dtype=torch.bool).scatter_(1, chosen, True)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return the batch with patches hidden."""
        _check(x, generator)
        _check_width(x, self.grid.features)
        hidden = self.grid.spread(self.hidden(len(x), generator))
        loss = "all" if self.counts_everywhere else self.loss
        fill = float("nan") if self.drop else 0.0
        return _masked(x, hidden, loss, fill)


@record("autoencoders.BlockMask")
@dataclass(frozen=True)
class BlockMask(Corruption):
    """One random rectangle of each image hidden, as in the masked autoencoder on blocks.

    The area of the rectangle is ``ratio`` of the image's, up to whole pixels. Its aspect ratio is
    between half and twice that of the image. Its corner is uniform over all places where it fits,
    so the centre of the image is hidden more often than the border.

    Args:
        ratio: Share of the image to hide, in [0, 1).
        image_size: Height and width of the image in pixels, or one number for both; at least two
            pixels in all.
        channels: Channels of the image, which is flattened in the order (channels, height, width).
        loss: Entries where the loss counts: ``"all"``, ``"masked"`` or ``"visible"``; all if
            nothing is hidden.

    >>> mask = BlockMask(0.5, image_size=(2, 4))
    >>> seen, _ = mask.corrupt(torch.ones(1, 8), torch.Generator().manual_seed(1))
    >>> seen.view(2, 4)
    tensor([[1., 0., 0., 1.],
            [1., 0., 0., 1.]])

    Reference: Pathak et al., *Context encoders: feature learning by inpainting*, 2016.
    """

    ratio: float
    image_size: Size
    channels: int = 1
    loss: CountedLoss = "all"

    def __post_init__(self):
        object.__setattr__(self, "ratio", _check_mask(self.ratio, self.loss))
        grid = PatchGrid(self.image_size, 1, self.channels)
        object.__setattr__(self, "image_size", grid.sides)
        object.__setattr__(self, "channels", grid.channels)
        if self.image_size == (1, 1):
            raise InputError("BlockMask needs images of two or more pixels", got="image_size = 1")

    @property
    def counts_everywhere(self) -> bool:
        """True if the loss counts on every entry."""
        return self.loss == "all" or self.ratio == 0

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return the batch with one rectangle hidden in each image."""
        _check(x, generator)
        height, width = pair(self.image_size, "image_size")
        _check_width(x, self.channels * height * width)
        if self.ratio == 0:
            return x, None
        shape, top, left = torch.rand(3, len(x), 1, generator=generator, device=generator.device)
        stretch = 2 ** (shape - 0.5)  # square root of an aspect ratio between 1/2 and 2
        h = (self.ratio**0.5 * height * stretch).clamp(self.ratio * height, height)
        h = h.round().clamp(1, height if width > 1 else height - 1)
        w = (self.ratio * height * width / h).round().clamp(min=1)
        # At least one pixel stays visible.
        w = torch.minimum(w, torch.where((h == height) & (width > 1), width - 1, width))
        top = (top * (height - h + 1)).floor()
        left = (left * (width - w + 1)).floor()
        row = torch.arange(height, device=x.device)
        column = torch.arange(width, device=x.device)
        in_rows = (row >= top) & (row < top + h)
        in_columns = (column >= left) & (column < left + w)
        block = in_rows[:, None, :, None] & in_columns[:, None, None, :]
        hidden = block.expand(-1, self.channels, -1, -1).reshape(len(x), -1)
        return _masked(x, hidden, "all" if self.counts_everywhere else self.loss, 0.0)


def check_corruption(corruption: Any) -> Corruption:
    """Return a corruption; refuse names and classes.

    Raises:
        InputError: ``corruption`` is not an object of a corruption's class.
    """
    if not isinstance(corruption, Corruption):
        is_class = isinstance(corruption, type)
        examples = (
            "Nothing(), GaussianNoise(0.5), PixelMask(0.25), PatchMask(...) or BlockMask(...)"
        )
        raise InputError(
            "corruption must be an object such as GaussianNoise(0.5)",
            got=f"corruption = {checks.shown(corruption)}",
            cause="a class instead of an object" if is_class else "a name",
            cure=f"{corruption.__name__}()" if is_class else examples,
        )
    return corruption


def _masked(
    x: Tensor, hidden: Tensor, loss: CountedLoss, fill: float
) -> tuple[Tensor, Tensor | None]:
    """Return the batch with hidden entries filled, and the entries where the loss counts."""
    seen = x.masked_fill(hidden, fill)
    if loss == "all":
        return seen, None
    counted = hidden if loss == "masked" else ~hidden
    return seen, counted.to(x.dtype)


def _check(x: Any, generator: Any) -> None:
    """Refuse a batch that is no dense tensor of numbers, and a generator on another device."""
    check_tensor(x, "x")
    needed_generator(generator, x.device)


def _check_mask(ratio: Any, loss: Any) -> float:
    """Return the ratio as a plain number; refuse ratios outside [0, 1) and unknown losses."""
    try:
        plain = checks.number(ratio, "ratio", least=0, below=1)
    except InputError:
        raise InputError(
            "ratio must lie in [0, 1)",
            got=f"ratio = {checks.shown(ratio)}",
            cause="with ratio = 1 nothing is visible",
            cure="give the share of entries to hide, such as 0.25",
        ) from None
    if not isinstance(loss, str) or loss not in ("all", "masked", "visible"):
        raise InputError(
            "loss must be 'all', 'masked' or 'visible'",
            got=f"loss = {checks.shown(loss)}",
            cure="loss='all' is the denoising objective",
        )
    return plain


def _check_width(x: Tensor, features: int) -> None:
    if x.ndim != 2 or x.shape[1] != features:
        raise InputError(
            "x must be flattened images of the mask's size",
            got=f"x of shape {tuple(x.shape)}, a mask for {features} features",
            cure="give the mask the image_size and channels of the data",
        )
