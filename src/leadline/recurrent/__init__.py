"""Where does the gradient die? dL/dh_t through every timestep of a recurrent network."""

from leadline.recurrent import presets
from leadline.recurrent.advice import Cure
from leadline.recurrent.flow import GradientFlow, LayerFlow
from leadline.recurrent.influence import Influence, LayerInfluence
from leadline.recurrent.journal import read_metrics
from leadline.recurrent.layers import GRU, LSTM, RNN
from leadline.recurrent.marks import record
from leadline.recurrent.monitor import GradientMonitor
from leadline.recurrent.regression import Regression, mse, running_average
from leadline.recurrent.remedies import Remedies, Remedy, remedies
from leadline.recurrent.stability import LayerStability, Stability, stability
from leadline.recurrent.terms import LayerTerms, WeightTerms
from leadline.recurrent.tracing import Tape, trace
from leadline.recurrent.training import Training, train

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cure",
    "GradientFlow",
    "GradientMonitor",
    "Influence",
    "LayerFlow",
    "LayerInfluence",
    "LayerStability",
    "LayerTerms",
    "Regression",
    "Remedies",
    "Remedy",
    "Stability",
    "Tape",
    "Training",
    "WeightTerms",
    "mse",
    "presets",
    "read_metrics",
    "record",
    "remedies",
    "running_average",
    "stability",
    "trace",
    "train",
]
