"""The drawing vocabulary: functions that turn arrays into drawings, and two renderers.

A drawing is Plotly's JSON. :func:`interactive` renders it as a figure of Plotly, and :func:`still`
and :func:`export` render it with matplotlib, without a browser. This package knows no instrument
and no sounding.
"""

from leadline.figures._bands import bands as bands
from leadline.figures._bands import mean_and_range as mean_and_range
from leadline.figures._heat import heat_map as heat_map
from leadline.figures._heat import matrix as matrix
from leadline.figures._lines import log_lines as log_lines
from leadline.figures._lines import log_ticks as log_ticks
from leadline.figures._lines import log_traces as log_traces
from leadline.figures._notebook import notebook_bundle as notebook_bundle
from leadline.figures._panels import panels as panels
from leadline.figures._panels import stacked as stacked
from leadline.figures._plotly import interactive
from leadline.figures._scatter import Cloud as Cloud
from leadline.figures._scatter import scatter as scatter
from leadline.figures._still import Style as Style
from leadline.figures._still import encoded as encoded
from leadline.figures._still import export, still
from leadline.figures._strip import image_strip as image_strip
from leadline.figures._theme import ACCENT as ACCENT
from leadline.figures._theme import COLOURS as COLOURS
from leadline.figures._theme import NEUTRAL as NEUTRAL
from leadline.figures._theme import Drawing
from leadline.figures._theme import extended as extended
from leadline.figures._theme import merged as merged
from leadline.figures._theme import new_drawing as new_drawing
from leadline.figures._theme import plain as plain
from leadline.figures._traces import line as line
from leadline.figures._traces import markers as markers
from leadline.figures._traces import rule as rule
from leadline.figures._tree import tree as tree

__all__ = ["Drawing", "export", "interactive", "still"]
