"""Where does the gradient die? dL/dh_t through every timestep of a recurrent network."""

from leadline.recurrent.flow import GradientFlow, LayerFlow
from leadline.recurrent.influence import Influence, LayerInfluence
from leadline.recurrent.layers import GRU, LSTM, RNN
from leadline.recurrent.regression import Regression, mse, running_average
from leadline.recurrent.tracing import Tape, trace
from leadline.recurrent.training import Training, train

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GradientFlow",
    "Influence",
    "LayerFlow",
    "LayerInfluence",
    "Regression",
    "Tape",
    "Training",
    "mse",
    "running_average",
    "trace",
    "train",
]
