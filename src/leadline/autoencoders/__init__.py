"""Autoencoders: vanilla, denoising and masked ones, trained one at a time or as a population, and what they leave."""

from leadline.autoencoders.corruption import Corruption, GaussianNoise, Nothing, PixelMask
from leadline.autoencoders.encoder import Encoder
from leadline.autoencoders.model import Architecture, Autoencoder
from leadline.autoencoders.pretrained import Pretrained
from leadline.autoencoders.training import pretrain, pretrain_many

__all__ = [
    "Architecture",
    "Autoencoder",
    "Corruption",
    "Encoder",
    "GaussianNoise",
    "Nothing",
    "PixelMask",
    "Pretrained",
    "pretrain",
    "pretrain_many",
]
