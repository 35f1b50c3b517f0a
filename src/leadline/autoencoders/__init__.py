"""Autoencoders: vanilla, denoising and masked ones, trained one at a time or as a population, and what they leave."""

from typing import TYPE_CHECKING, Any

from leadline.autoencoders._corruption import (
    BlockMask,
    Corruption,
    GaussianNoise,
    Nothing,
    PatchMask,
    PixelMask,
)
from leadline.autoencoders._encoder import Encoder
from leadline.autoencoders._examples import Examples, examples
from leadline.autoencoders.models._custom import CustomArchitecture, ModuleEncoder
from leadline.autoencoders.models._dense import Architecture, Autoencoder
from leadline.autoencoders.models._linear_optimum import (
    LinearOptimum,
    linear_optimum,
    linear_optimum_of,
)
from leadline.autoencoders.models._local import LocalArchitecture
from leadline.autoencoders.models._transformer import MaskedPatchTransformer, PatchArchitecture
from leadline.autoencoders.training._checkpoint import Epoch
from leadline.autoencoders.training._curves import TrainingCurves, finished_curves, training_curves
from leadline.autoencoders.training._pretrain import pretrain, pretrain_many
from leadline.autoencoders.training._pretrained import Pretrained

if TYPE_CHECKING:
    from leadline.autoencoders._estimator import AutoencoderTransformer

# For other packages of Leadline; not public.
from leadline.autoencoders._column_scale import column_spreads as column_spreads
from leadline.autoencoders._encoder import OFFSET as OFFSET
from leadline.autoencoders._examples import pictures as pictures
from leadline.autoencoders._row_form import PIXEL as PIXEL
from leadline.autoencoders._row_form import RowForm as RowForm
from leadline.autoencoders.models._local import FLOOR as FLOOR
from leadline.autoencoders.models._patches import pair as pair
from leadline.autoencoders.training._checkpoint import discard as discard

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
        from leadline.autoencoders._estimator import AutoencoderTransformer

        return AutoencoderTransformer
    raise AttributeError(f"module 'leadline.autoencoders' has no attribute {name!r}")
