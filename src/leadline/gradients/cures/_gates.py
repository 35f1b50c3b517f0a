"""The gates of recurrent layers."""

KEEPING_GATES = {"lstm": "the forget gate", "gru": "the update gate"}
"""Name of the gate that passes the state on, by kind of layer."""


def is_gated(kind: str) -> bool:
    """True if layers of this kind have a gate that passes the state on."""
    return kind in KEEPING_GATES
