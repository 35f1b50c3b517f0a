"""Corruption as data: the only difference between a vanilla, a denoising and a masked autoencoder.

A corruption says two things about a batch: what the encoder sees, and where the loss counts. It draws from the
generator that it is given and from nothing else, and it takes part in training only: an encoder never corrupts.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leadline import checks
from leadline.autoencoders._tensors import check_tensor, needed_generator
from leadline.autoencoders.models._patches import MOST_NUMBERS, PatchGrid, Size, pair
from leadline.errors import InputError
from leadline.storage import record

CountedLoss = Literal["all", "masked", "visible"]
"""Where a masked autoencoder's loss counts: on every entry, on the hidden ones, or on those it was shown."""


@dataclass(frozen=True)
class Corruption(ABC):
    """What is done to a batch before the encoder sees it. Subclasses add their settings as fields."""

    @property
    def counts_everywhere(self) -> bool:
        """True if the loss counts on every entry, so that :meth:`corrupt` returns no second tensor."""
        return True

    @abstractmethod
    def corrupt(
        self, x: Float[Tensor, "batch features"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, "batch features"] | None]:
        """Corrupt a batch.

        Args:
            x: the clean batch, which stays as it is.
            generator: the only source of randomness, on the device of ``x``.

        Returns:
            What the encoder sees, and where the loss counts: 1 where it does, 0 where it does not, ``None`` for
            everywhere.
        """


@record("autoencoders.Nothing")
@dataclass(frozen=True)
class Nothing(Corruption):
    """The vanilla autoencoder: the encoder sees the batch itself."""

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        """The batch as it is; nothing is drawn."""
        _check(x, generator)
        return x, None


@record("autoencoders.GaussianNoise")
@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """The denoising autoencoder: independent normal noise is added to every entry.

    Formula: ``x + std * n``, n standard normal.

    Args:
        std: standard deviation of the noise, in the units of the data, at least 0.

    >>> GaussianNoise(std=0.1).corrupt(torch.zeros(1, 3), torch.Generator().manual_seed(0))[0]
    tensor([[ 0.1541, -0.0293, -0.2179]])

    Reference: Vincent et al., *Extracting and composing robust features with denoising autoencoders*, 2008.
    """

    std: float = 0.5

    def __post_init__(self):
        cure = "give it in the units of the data; 0.5 suits features between 0 and 1"
        object.__setattr__(self, "std", checks.number(self.std, "std", least=0, cure=cure))

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        """The batch with noise added."""
        _check(x, generator)
        noise = torch.empty_like(x).normal_(generator=generator)
        return noise.mul_(self.std).add_(x), None


@record("autoencoders.PixelMask")
@dataclass(frozen=True)
class PixelMask(Corruption):
    """The masked autoencoder on single entries: each is set to zero, independently of the others.

    Formula: ``x * keep``, keep being 0 with probability ``ratio`` and 1 otherwise. What is kept is not rescaled.

    Args:
        ratio: probability that an entry is hidden, in [0, 1).
        loss: where the loss counts: on ``"all"`` entries, on the ``"masked"`` or on the ``"visible"`` ones.

    >>> seen, counts = PixelMask(0.5, loss="masked").corrupt(torch.ones(1, 4), torch.Generator().manual_seed(0))
    >>> seen, counts
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

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The batch with entries hidden."""
        _check(x, generator)
        keep = torch.empty_like(x).uniform_(generator=generator).ge_(self.ratio)
        counts = {"all": None, "masked": 1 - keep, "visible": keep}[self.loss]
        return keep * x, counts


@record("autoencoders.PatchMask")
@dataclass(frozen=True)
class PatchMask(Corruption):
    """The masked autoencoder on patches: equally many are hidden in each image, drawn without preference.

    Formula: of T patches, ``T - round((1 - ratio) T)`` are hidden; for ``ratio > 0`` at least one is, and at least one
    stays visible where there are two.

    Args:
        ratio: share of the patches to hide, in [0, 1).
        patch_size: height and width of a patch in pixels, or one number for both.
        image_size: height and width of the image in pixels, or one number for both; multiples of the patch's.
        channels: of the image, which is flattened in the order (channels, height, width).
        loss: where the loss counts: on ``"all"`` numbers, on the ``"masked"`` or on the ``"visible"`` ones; everywhere
            if nothing is hidden.
        drop: mark hidden numbers as missing (NaN) instead of setting them to zero: for
            :class:`MaskedPatchTransformer`, whose encoder is not given them at all.

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
        """The patches."""
        return PatchGrid(self.image_size, self.patch_size, self.channels)

    @property
    def num_visible(self) -> int:
        """Patches that stay visible."""
        total = self.grid.num_patches
        return total if self.ratio == 0 else max(1, min(total - 1, round(total * (1 - self.ratio))))

    @property
    def counts_everywhere(self) -> bool:
        """True if the loss counts on every number."""
        return self.loss == "all" or self.num_visible == self.grid.num_patches

    def hidden(self, num: int, generator: torch.Generator) -> Bool[Tensor, "num patches"]:
        """The hidden patches of ``num`` images: those of the largest of as many random numbers."""
        num = checks.whole_number(num, "num", least=0, most=MOST_NUMBERS)
        needed_generator(generator, getattr(generator, "device", torch.device("cpu")))
        noise = torch.rand(num, self.grid.num_patches, generator=generator, device=generator.device)
        chosen = noise.topk(self.grid.num_patches - self.num_visible, 1, sorted=False).indices
        return torch.zeros_like(noise, dtype=torch.bool).scatter_(1, chosen, True)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The batch with patches hidden."""
        _check(x, generator)
        _check_width(x, self.grid.features)
        hidden = self.grid.spread(self.hidden(len(x), generator))
        return _masked(
            x,
            hidden,
            None if self.counts_everywhere else self.loss,
            float("nan") if self.drop else 0.0,
        )


@record("autoencoders.BlockMask")
@dataclass(frozen=True)
class BlockMask(Corruption):
    """The masked autoencoder on blocks: one rectangle of each image is hidden.

    Its area is ``ratio`` of the image's, as nearly as whole pixels allow; its height over its width is at most twice or
    half that of the image; its corner is uniform where it fits, so that the middle is hidden more often than the rim.

    Args:
        ratio: share of the image to hide, in [0, 1).
        image_size: height and width of the image in pixels, or one number for both; at least two pixels.
        channels: of the image, which is flattened in the order (channels, height, width).
        loss: where the loss counts: on ``"all"`` numbers, on the ``"masked"`` or on the ``"visible"`` ones; everywhere
            if nothing is hidden.

    >>> seen, _ = BlockMask(0.5, image_size=(2, 4)).corrupt(torch.ones(1, 8), torch.Generator().manual_seed(1))
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
            raise InputError(
                "a block and what surrounds it need at least two pixels", got="image_size = (1, 1)"
            )

    @property
    def counts_everywhere(self) -> bool:
        """True if the loss counts on every number."""
        return self.loss == "all" or self.ratio == 0

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The batch with a block hidden in each image."""
        _check(x, generator)
        height, width = pair(self.image_size, "image_size")
        _check_width(x, self.channels * height * width)
        if self.ratio == 0:
            return x, None
        shape, top, left = torch.rand(3, len(x), 1, generator=generator, device=generator.device)
        stretch = 2 ** (shape - 0.5)  # the square root of a ratio between 1/2 and 2
        h = (self.ratio**0.5 * height * stretch).clamp(self.ratio * height, height)
        h = h.round().clamp(1, height if width > 1 else height - 1)
        w = (self.ratio * height * width / h).round().clamp(min=1)
        w = torch.minimum(
            w, torch.where((h == height) & (width > 1), width - 1, width)
        )  # something stays visible
        top, left = (top * (height - h + 1)).floor(), (left * (width - w + 1)).floor()
        down, along = (torch.arange(size, device=x.device) for size in (height, width))
        rows, columns = (down >= top) & (down < top + h), (along >= left) & (along < left + w)
        hidden = (rows[:, None, :, None] & columns[:, None, None, :]).expand(
            -1, self.channels, -1, -1
        )
        return _masked(
            x, hidden.reshape(len(x), -1), None if self.counts_everywhere else self.loss, 0.0
        )


def check_corruption(corruption: Any) -> Corruption:
    """A corruption, or a refusal: a name or a class would train a vanilla autoencoder without a word."""
    if not isinstance(corruption, Corruption):
        called = f"{corruption.__name__}()" if isinstance(corruption, type) else None
        raise InputError(
            "a corruption is made before it is handed over",
            got=f"corruption = {checks.shown(corruption)}",
            cause="a class instead of one of its objects" if called else "a name",
            cure=called
            or "Nothing(), GaussianNoise(0.5), PixelMask(0.25), PatchMask(...) or BlockMask(...)",
        )
    return corruption


def _masked(
    x: Tensor, hidden: Tensor, loss: CountedLoss | None, fill: float
) -> tuple[Tensor, Tensor | None]:
    counted = {"masked": hidden, "visible": ~hidden}.get(loss or "all")
    return x.masked_fill(hidden, fill), None if counted is None else counted.to(x.dtype)


def _check(x: Any, generator: Any) -> None:
    """Refuse a batch that is no dense tensor of numbers, and a generator that cannot draw for it."""
    check_tensor(x, "x")
    needed_generator(generator, x.device)


def _check_mask(ratio: Any, loss: Any) -> float:
    """The ratio as a plain number, or a refusal."""
    try:
        plain = checks.number(ratio, "ratio", least=0, below=1)
    except InputError:
        raise InputError(
            "the mask ratio must lie in [0, 1)",
            got=f"ratio = {checks.shown(ratio)}",
            cause="at 1 nothing is visible and there is nothing to encode",
            cure="give the share of entries to hide: 0.25, or 0.75 where neighbours tell much",
        ) from None
    if not isinstance(loss, str) or loss not in ("all", "masked", "visible"):
        raise InputError(
            "the loss counts on 'all', 'masked' or 'visible' entries",
            got=f"loss = {checks.shown(loss)}",
            cure="loss='all' is the denoising objective",
        )
    return plain


def _check_width(x: Tensor, features: int) -> None:
    if x.ndim != 2 or x.shape[1] != features:
        raise InputError(
            "a mask is laid over flattened images of the size that it was made for",
            got=f"a batch of shape {tuple(x.shape)}, a mask for {features} features",
            cure="give the mask the image_size and channels of the data",
        )
