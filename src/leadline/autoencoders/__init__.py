"""Autoencoders: vanilla, denoising and masked models, their training, and their frozen encoders."""

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
from leadline.autoencoders._examples import Examples, corrupt_examples
from leadline.autoencoders.models._custom import ModuleEncoder
from leadline.autoencoders.models._dense import Autoencoder
from leadline.autoencoders.models._linear_optimum import LinearOptimum
from leadline.autoencoders.models._transformer import MaskedPatchTransformer
from leadline.autoencoders.training._checkpoint import Epoch
from leadline.autoencoders.training._curves import TrainingCurves
from leadline.autoencoders.training._pretrain import pretrain, pretrain_many
from leadline.autoencoders.training._pretrained import Pretrained

if TYPE_CHECKING:
    from leadline.autoencoders._estimator import AutoencoderTransformer

# For other packages of Leadline; not public.
from leadline.autoencoders._column_scale import column_spreads as column_spreads
from leadline.autoencoders._encoder_weights import OFFSET as OFFSET
from leadline.autoencoders._examples import pictures as pictures
from leadline.autoencoders._row_form import PIXEL as PIXEL
from leadline.autoencoders._row_form import RowForm as RowForm
from leadline.autoencoders.models._architecture import Architecture as Architecture
from leadline.autoencoders.models._custom import CustomArchitecture as CustomArchitecture
from leadline.autoencoders.models._dense import DenseArchitecture as DenseArchitecture
from leadline.autoencoders.models._local import FLOOR as FLOOR
from leadline.autoencoders.models._local import LocalArchitecture as LocalArchitecture
from leadline.autoencoders.models._patches import pair as pair
from leadline.autoencoders.models._transformer import PatchArchitecture as PatchArchitecture
from leadline.autoencoders.training._checkpoint import discard as discard
from leadline.autoencoders.training._settings import PretrainingSettings as PretrainingSettings

__all__ = [
    "Autoencoder",
    "AutoencoderTransformer",
    "BlockMask",
    "Corruption",
    "Encoder",
    "Epoch",
    "Examples",
    "GaussianNoise",
    "LinearOptimum",
    "MaskedPatchTransformer",
    "ModuleEncoder",
    "Nothing",
    "PatchMask",
    "PixelMask",
    "Pretrained",
    "TrainingCurves",
    "corrupt_examples",
    "pretrain",
    "pretrain_many",
]


def __getattr__(name: str) -> Any:
    # The import loads scikit-learn.
    if name == "AutoencoderTransformer":
        from leadline.autoencoders._estimator import AutoencoderTransformer

        return AutoencoderTransformer
    raise AttributeError(f"module 'leadline.autoencoders' has no attribute {name!r}")
