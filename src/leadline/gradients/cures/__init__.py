"""Cures for vanishing and exploding gradients: one class in one file for each.

A cure gives advice from the numbers of a :class:`Trend`, and treats a copy of a model, so that its
effect is measured. To add a cure, write a subclass of :class:`Cure` in a file of its own and list
it in :data:`CURES`.
"""

from leadline.gradients.cures._clipping import Clipping as Clipping
from leadline.gradients.cures._cure import Cure as Cure
from leadline.gradients.cures._cure import CureSettings as CureSettings
from leadline.gradients.cures._cure import Regime as Regime
from leadline.gradients.cures._cure import Treatment as Treatment
from leadline.gradients.cures._cure import Trend as Trend
from leadline.gradients.cures._cure import Trial as Trial
from leadline.gradients.cures._gating import Gating as Gating
from leadline.gradients.cures._initialisation import Initialisation as Initialisation
from leadline.gradients.cures._truncation import Truncation as Truncation

CURES: tuple[Cure, ...] = (Initialisation(), Gating(), Truncation(), Clipping())
"""All cures, in the order of tables, legends and advice."""


def advice(trend: Trend) -> dict[str, str]:
    """Return the advice of each cure that may help, by its name; nothing if the gradient is stable.

    >>> trend = Trend("vanishes", "lstm", rate=-0.5, pass_through=0.6, time=50)
    >>> advice(trend)["truncation"]
    'beyond 10 timesteps less than 1 % arrives, so truncation there loses little'
    """
    texts = {}
    for cure in CURES:
        if trend.regime == "vanishes":
            texts[cure.name] = cure.against_vanishing(trend)
        elif trend.regime == "explodes":
            texts[cure.name] = cure.against_exploding(trend)
    return {name: text for name, text in texts.items() if text is not None}
