"""Recurrent networks written as their equations read, and the running-average task that they are trained on."""

from leadline.recurrent import presets

# For other packages of Leadline; not public.
from leadline.recurrent._arithmetic import Adjoint as Adjoint
from leadline.recurrent._arithmetic import Arithmetic as Arithmetic
from leadline.recurrent._arithmetic import PullBack as PullBack
from leadline.recurrent._arithmetic import arithmetic_for as arithmetic_for
from leadline.recurrent._cells import GRURecord as GRURecord
from leadline.recurrent._cells import Kind as Kind
from leadline.recurrent._cells import LSTMRecord as LSTMRecord
from leadline.recurrent._cells import Record as Record
from leadline.recurrent._cells import RNNRecord as RNNRecord
from leadline.recurrent._cells import Weights as Weights
from leadline.recurrent._cells import record_cell as record_cell
from leadline.recurrent._layers import GRU, LSTM, RNN
from leadline.recurrent._layers import GRULayer as GRULayer
from leadline.recurrent._layers import Layer as Layer
from leadline.recurrent._layers import LSTMLayer as LSTMLayer
from leadline.recurrent._layers import Network as Network
from leadline.recurrent._layers import Nonlinearity as Nonlinearity
from leadline.recurrent._layers import RNNLayer as RNNLayer
from leadline.recurrent._regression import Regression, mse, running_average
from leadline.recurrent._training import Training, train

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Regression",
    "Training",
    "mse",
    "presets",
    "running_average",
    "train",
]
