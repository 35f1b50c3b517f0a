"""Where does the gradient go? dL/dh_t through every timestep of a recurrent network."""

from leadline.gradients._metrics import read_metrics
from leadline.gradients._monitor import GradientMonitor

# For other packages of Leadline; not public.
from leadline.gradients._monitor import summary as summary
from leadline.gradients.soundings._advice import Cure
from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.soundings._gradient_flow import GradientFlow
from leadline.gradients.soundings._influence import Influence, LayerInfluence
from leadline.gradients.soundings._remedies import Remedies, Remedy, remedies
from leadline.gradients.soundings._stability import LayerStability, Stability, stability
from leadline.gradients.soundings._weight_terms import LayerTerms, WeightTerms
from leadline.gradients.tracing._marks import record
from leadline.gradients.tracing._tape import Tape, trace

__all__ = [
    "Cure",
    "GradientFlow",
    "GradientMonitor",
    "Influence",
    "LayerFlow",
    "LayerInfluence",
    "LayerStability",
    "LayerTerms",
    "Remedies",
    "Remedy",
    "Stability",
    "Tape",
    "WeightTerms",
    "read_metrics",
    "record",
    "remedies",
    "stability",
    "trace",
]
