"""Small recurrent networks, written as their equations, and the running-average task."""

# For other packages of Leadline; not public.
from leadline.recurrent._arithmetic import Adjoint as Adjoint
from leadline.recurrent._arithmetic import Arithmetic as Arithmetic
from leadline.recurrent._arithmetic import PullBack as PullBack
from leadline.recurrent._arithmetic import arithmetic_for as arithmetic_for
from leadline.recurrent._cell import cell_named as cell_named
from leadline.recurrent._cell import keeping_gate_of as keeping_gate_of
from leadline.recurrent._gru import GRU
from leadline.recurrent._lstm import LSTM
from leadline.recurrent._modules import cell_of as cell_of
from leadline.recurrent._modules import is_sequence_module as is_sequence_module
from leadline.recurrent._modules import is_step_module as is_step_module
from leadline.recurrent._modules import sequence_modules as sequence_modules
from leadline.recurrent._modules import step_modules as step_modules
from leadline.recurrent._network import Layer as Layer
from leadline.recurrent._network import Network as Network
from leadline.recurrent._record import Record as Record
from leadline.recurrent._record import Weights as Weights
from leadline.recurrent._record import record_cell as record_cell
from leadline.recurrent._regression import Regression, mse, running_average
from leadline.recurrent._rnn import RNN
from leadline.recurrent._rnn import Nonlinearity as Nonlinearity
from leadline.recurrent._training import Training, train

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Regression",
    "Training",
    "mse",
    "running_average",
    "train",
]
