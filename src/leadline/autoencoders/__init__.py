"""Autoencoders: vanilla, denoising and masked ones, trained one at a time or as a population, and what they leave."""

from typing import TYPE_CHECKING, Any

from leadline.autoencoders.checkpoint import Epoch
from leadline.autoencoders.closed_form import LinearOptimum, linear_optimum, linear_optimum_of
from leadline.autoencoders.corruption import BlockMask, Corruption, GaussianNoise, Nothing, PatchMask, PixelMask
from leadline.autoencoders.curves import TrainingCurves, finished_curves, training_curves
from leadline.autoencoders.custom import CustomArchitecture, ModuleEncoder
from leadline.autoencoders.encoder import Encoder
from leadline.autoencoders.examples import Examples, examples
from leadline.autoencoders.local import LocalArchitecture
from leadline.autoencoders.model import Architecture, Autoencoder
from leadline.autoencoders.pretrained import Pretrained
from leadline.autoencoders.training import pretrain, pretrain_many
from leadline.autoencoders.transformer import MaskedPatchTransformer, PatchArchitecture

if TYPE_CHECKING:
    from leadline.autoencoders.estimator import AutoencoderTransformer

__all__ = [
    "Architecture",
    "Autoencoder",
    "AutoencoderTransformer",
    "BlockMask",
    "Corruption",
    "CustomArchitecture",
    "Encoder",
    "Epoch",
    "Examples",
    "GaussianNoise",
    "LinearOptimum",
    "LocalArchitecture",
    "MaskedPatchTransformer",
    "ModuleEncoder",
    "Nothing",
    "PatchArchitecture",
    "PatchMask",
    "PixelMask",
    "Pretrained",
    "TrainingCurves",
    "examples",
    "finished_curves",
    "linear_optimum",
    "linear_optimum_of",
    "pretrain",
    "pretrain_many",
    "training_curves",
]


def __getattr__(name: str) -> Any:
    if name == "AutoencoderTransformer":  # loads scikit-learn
        from leadline.autoencoders.estimator import AutoencoderTransformer

        return AutoencoderTransformer
    raise AttributeError(f"module 'leadline.autoencoders' has no attribute {name!r}")
