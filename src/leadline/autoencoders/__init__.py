"""Autoencoders: vanilla, denoising and masked ones, trained one at a time or as a population, and what they leave."""

from leadline.autoencoders.checkpoint import Epoch
from leadline.autoencoders.closed_form import LinearOptimum, linear_optimum, linear_optimum_of
from leadline.autoencoders.corruption import BlockMask, Corruption, GaussianNoise, Nothing, PatchMask, PixelMask
from leadline.autoencoders.custom import CustomArchitecture, ModuleEncoder
from leadline.autoencoders.encoder import Encoder
from leadline.autoencoders.model import Architecture, Autoencoder
from leadline.autoencoders.pretrained import Pretrained
from leadline.autoencoders.training import pretrain, pretrain_many
from leadline.autoencoders.transformer import MaskedPatchTransformer, PatchArchitecture

__all__ = [
    "Architecture",
    "Autoencoder",
    "BlockMask",
    "Corruption",
    "CustomArchitecture",
    "Encoder",
    "Epoch",
    "GaussianNoise",
    "LinearOptimum",
    "MaskedPatchTransformer",
    "ModuleEncoder",
    "Nothing",
    "PatchArchitecture",
    "PatchMask",
    "PixelMask",
    "Pretrained",
    "linear_optimum",
    "linear_optimum_of",
    "pretrain",
    "pretrain_many",
]
