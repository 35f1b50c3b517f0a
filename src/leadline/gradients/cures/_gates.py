"""The gates of recurrent layers."""

from torch import nn

from leadline.recurrent import Layer

KEEPING_GATES = {"lstm": "the forget gate", "gru": "the update gate"}
"""Name of the gate that passes the state on, by kind of layer."""


def is_gated(kind: str) -> bool:
    """True if layers of this kind have a gate that passes the state on."""
    return kind in KEEPING_GATES


def number_of_gates(module: nn.Module) -> int:
    """Return the number of blocks in a recurrent module's weights: one per gate, 1 without gates."""
    if isinstance(module, Layer):
        return module.gates
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return 4
    if isinstance(module, nn.GRU | nn.GRUCell):
        return 3
    return 1
