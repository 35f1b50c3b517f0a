"""Greedy search: the beam with one place."""

from typing import Any

from torch import Tensor

from leadline.decoding.models._problem import Step
from leadline.decoding.search._beam import beam_search
from leadline.decoding.search._decoded import Decoded, changed
from leadline.decoding.search._settings import EndTokens
from leadline.sounding import Protocol


def greedy(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    max_length: int,
    eos: EndTokens = None,
    normalize: bool | None = None,
) -> Decoded:
    """The most likely next token, again and again; ties go to the lower token.

    Args:
        step: see :data:`~leadline.decoding.models._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        max_length: new tokens at most.
        eos: the end token or tokens.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.

    Returns:
        One hypothesis per item, with a certificate.

    Raises:
        InputError: as :func:`~leadline.decoding.search._beam.beam_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> print(decoding.greedy(*table.problem(), max_length=2))
    greedy search returns “a a” with log-probability -1.30; a better answer is not excluded (gap 0.5 nats)
    """
    # A complete hypothesis keeps the only place, so that nothing is left to go on with.
    keys: dict[str, Any] = {"max_length": max_length, "normalize": normalize}
    found = beam_search(step, state, start, width=1, eos=eos, eos_mode="in_beam", **keys)
    settings = {name: found.protocol.settings[name] for name in ("eos", "max_length", "normalize")}
    return changed(found, protocol=Protocol({"search": "greedy search", **settings}))
