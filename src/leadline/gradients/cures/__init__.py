"""Cures for vanishing and exploding gradients: one class in one file for each.

A cure gives advice from the numbers of a :class:`Trend`, and treats a copy of a model, so that its effect is measured.
To add a cure, write a subclass of :class:`Cure` in a file of its own and list it in :data:`CURES`.
"""

from leadline.gradients.cures._clipping import Clipping
from leadline.gradients.cures._cure import Cure, CureSettings, Treatment, Trend, Trial, advise
from leadline.gradients.cures._gating import Gating
from leadline.gradients.cures._initialisation import Initialisation
from leadline.gradients.cures._truncation import Truncation

__all__ = ["CURES", "Cure", "CureSettings", "Treatment", "Trend", "Trial", "advice"]

CURES: tuple[Cure, ...] = (Initialisation(), Gating(), Truncation(), Clipping())
"""All cures, in the order of tables, legends and advice."""


def advice(trend: Trend) -> dict[str, str]:
    """Return the advice of every cure that may help against a trend, by the cure's name."""
    return advise(CURES, trend)
