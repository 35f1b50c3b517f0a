"""Gradients of recurrent networks: how much of the loss's gradient reaches each timestep, and why.

:func:`trace` records a forward pass of an unchanged model. The recorded :class:`Tape` measures the
gradient flow, the influence of each loss term and the terms of shared weights.
:func:`measure_stability` explains why gradients vanish or explode, :func:`compare_cures` measures
what helps, and :class:`GradientMonitor` watches a model while it trains.
"""

from leadline.gradients._metrics import read_metrics
from leadline.gradients._monitor import GradientMonitor

# For other packages of Leadline; not public.
from leadline.gradients._monitor import summary as summary
from leadline.gradients.soundings._cure_comparison import CureComparison, compare_cures
from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.soundings._gradient_flow import GradientFlow
from leadline.gradients.soundings._influence import Influence, LayerInfluence
from leadline.gradients.soundings._layer_stability import LayerStability
from leadline.gradients.soundings._stability import Stability, measure_stability
from leadline.gradients.soundings._weight_terms import LayerTerms, WeightTerms
from leadline.gradients.tracing._marks import record
from leadline.gradients.tracing._tape import Tape, trace

__all__ = [
    "CureComparison",
    "GradientFlow",
    "GradientMonitor",
    "Influence",
    "LayerFlow",
    "LayerInfluence",
    "LayerStability",
    "LayerTerms",
    "Stability",
    "Tape",
    "WeightTerms",
    "compare_cures",
    "measure_stability",
    "read_metrics",
    "record",
    "trace",
]
