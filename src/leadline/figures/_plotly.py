"""The interactive renderer: a drawing as a figure of Plotly."""

from typing import TYPE_CHECKING

from leadline import checks
from leadline.errors import InputError
from leadline.figures._theme import Drawing

if TYPE_CHECKING:
    import plotly.graph_objects as go


def interactive(drawing: Drawing) -> "go.Figure":
    """Return a drawing as a figure of Plotly.

    Args:
        drawing: a dictionary with ``data`` and ``layout``.

    Raises:
        InputError: Plotly does not know a property or does not allow its value.

    >>> from leadline.figures import new_drawing
    >>> interactive(new_drawing("Loss")).layout.title.text
    'Loss'
    """
    import plotly.graph_objects as go

    parts = checks.mapping(drawing, "drawing")
    try:
        return go.Figure(data=parts.get("data"), layout=parts.get("layout"))
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        rule = "interactive() needs traces and a layout that Plotly knows"
        raise InputError(rule, cause=reason) from None
