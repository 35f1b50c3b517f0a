"""Corruption as data: the only difference between a vanilla, a denoising and a masked autoencoder.

A corruption says two things about a batch: what the encoder sees, and where the loss counts. It draws from the
generator that it is given and from nothing else, and it takes part in training only: an encoder never corrupts.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import InputError

CountedLoss = Literal["all", "masked", "visible"]
"""Where a masked autoencoder's loss counts: on every entry, on the hidden ones, or on those it was shown."""


@dataclass(frozen=True)
class Corruption(ABC):
    """What is done to a batch before the encoder sees it. Subclasses add their settings as fields."""

    @property
    def counts_everywhere(self) -> bool:
        """Whether the loss counts on every entry, so that :meth:`corrupt` returns no second tensor."""
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


@dataclass(frozen=True)
class Nothing(Corruption):
    """The vanilla autoencoder: the encoder sees the batch itself."""

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        """The batch as it is; nothing is drawn."""
        return x, None


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
        if not 0 <= self.std < float("inf"):
            raise InputError(
                "the noise's standard deviation must be finite and at least 0",
                got=f"std = {self.std}",
                cure="give it in the units of the data; 0.5 suits features between 0 and 1",
            )

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        """The batch with noise added."""
        noise = torch.empty_like(x).normal_(generator=generator)
        return noise.mul_(self.std).add_(x), None


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
        if not 0 <= self.ratio < 1:
            raise InputError(
                "the mask ratio must lie in [0, 1)",
                got=f"ratio = {self.ratio}",
                cause="at 1 nothing is visible and there is nothing to encode",
                cure="give the share of entries to hide: 0.25, or 0.75 where neighbours tell much",
            )
        if self.loss not in ("all", "masked", "visible"):
            raise InputError(
                "the loss counts on 'all', 'masked' or 'visible' entries",
                got=f"loss = {self.loss!r}",
                cure="loss='all' is the denoising objective",
            )

    @property
    def counts_everywhere(self) -> bool:
        """Whether the loss counts on every entry."""
        return self.loss == "all"

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The batch with entries hidden."""
        keep = torch.empty_like(x).uniform_(generator=generator).ge_(self.ratio)
        counts = {"all": None, "masked": 1 - keep, "visible": keep}[self.loss]
        return keep * x, counts
