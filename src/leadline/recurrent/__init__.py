"""Where does the gradient die? dL/dh_t through every timestep of a recurrent network."""

from leadline.recurrent import presets
from leadline.recurrent.flow import GradientFlow, LayerFlow
from leadline.recurrent.influence import Influence, LayerInfluence
from leadline.recurrent.layers import GRU, LSTM, RNN
from leadline.recurrent.loops import record
from leadline.recurrent.regression import Regression, mse, running_average
from leadline.recurrent.stability import Cure, LayerStability, Stability, stability
from leadline.recurrent.tracing import Tape, trace
from leadline.recurrent.training import Training, train

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cure",
    "GradientFlow",
    "Influence",
    "LayerFlow",
    "LayerInfluence",
    "LayerStability",
    "Regression",
    "Stability",
    "Tape",
    "Training",
    "mse",
    "presets",
    "record",
    "running_average",
    "stability",
    "trace",
    "train",
]
