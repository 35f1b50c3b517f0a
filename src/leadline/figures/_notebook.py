"""Drawings in notebooks: an interactive figure, with a picture for pages that cannot show it.

Plotly's script has 4.8 MB, so no cell contains it. The first cell of a page loads it from Plotly's
server, and the other cells wait for it. Without a connection, the picture stays.
"""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from functools import cache
from html import escape
from typing import Any

import numpy as np

from leadline.errors import InputError
from leadline.figures._still import encoded
from leadline.figures._theme import Drawing

PLOTLY = "application/vnd.plotly.v1+json"
"""Media type under which JupyterLab and VS Code draw figures of Plotly."""

MOST_JSON = 80_000
"""Limit of letters in the JSON of an interactive figure; a larger drawing is a picture only."""

MOST_PICTURE = 45_000
"""Limit of bytes in a picture; a larger one gets fewer colours, then fewer pixels."""

CONFIG = {"displaylogo": False, "responsive": True}

_HTML = """<div class="{name}" style="max-width: 900px">
<p>{words}</p>
<div>{picture}</div>{note}
</div>"""

_SCRIPT = """<script>
(() => {{
  const figure = {figure};
  const draw = () => {{
    for (const place of document.querySelectorAll(".{name} > div")) {{
      place.replaceChildren();
      window.Plotly.newPlot(place, figure.data, figure.layout, {config});
    }}
  }};
  if (window.Plotly) return draw();
  window.leadlinePlotly ??= new Promise((loaded, failed) => {{
    const script = document.createElement("script");
    script.src = "{url}";
    script.integrity = "{integrity}";
    script.crossOrigin = "anonymous";
    script.onload = loaded;
    script.onerror = failed;
    document.head.append(script);
  }});
  window.leadlinePlotly.then(draw).catch(() => {{}});
}})();
</script>"""


def notebook_bundle(drawing: Drawing, words: str) -> dict[str, Any]:
    """Return what a notebook shows of a drawing, by media type.

    Args:
        drawing: the drawing.
        words: the sentence above the figure; plain text.

    Returns:
        ``text/html`` and ``image/png``; and Plotly's media type, unless the figure is too large.

    >>> from leadline.figures import new_drawing
    >>> sorted(notebook_bundle(new_drawing("Loss"), "the loss falls"))
    ['application/vnd.plotly.v1+json', 'image/png', 'text/html']
    """
    from plotly.io.json import to_json_plotly

    picture = _picture(drawing)
    figure = {"data": _packed(drawing["data"]), "layout": _packed(drawing["layout"])}
    figure["layout"].pop("template", None)
    # Inside a script only "<" could end it, and JSON allows it to be escaped.
    text = str(to_json_plotly(figure)).replace("<", "\\u003c")
    is_small = len(text) <= MOST_JSON
    name = f"leadline-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    note = "" if is_small else "<p>figure() makes it interactive; it is too large for a cell.</p>"
    source = f"data:image/png;base64,{picture}"
    image = f'<img alt="{escape(words)}" src="{source}" style="max-width: 100%">'
    html = _HTML.format(name=name, words=escape(words), picture=image if picture else "", note=note)
    bundle: dict[str, Any] = {"text/html": html}
    if picture:
        bundle["image/png"] = picture
    if is_small:
        url, integrity = _script()
        bundle["text/html"] += "\n" + _SCRIPT.format(
            name=name,
            figure=text,
            config=to_json_plotly(CONFIG),
            url=url,
            integrity=integrity,
        )
        bundle[PLOTLY] = {**json.loads(text), "config": CONFIG}
    return bundle


def _picture(drawing: Drawing) -> str:
    """Return a PNG picture in base64, of at most :data:`MOST_PICTURE` bytes.

    The text is empty if the drawing has a property that stills do not show.
    """
    from PIL import Image

    try:
        data = encoded(drawing, "png")
    except InputError:
        return ""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    while len(data) > MOST_PICTURE:
        buffer = io.BytesIO()
        image.quantize(128).save(buffer, "PNG", optimize=True)
        data = buffer.getvalue()
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4))
    return base64.b64encode(data).decode()


@cache
def _script() -> tuple[str, str]:
    """Return the address of Plotly's script and the hash that a browser compares it with."""
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    digest = hashlib.sha256(get_plotlyjs().encode()).digest()
    url = f"https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js"
    return url, f"sha256-{base64.b64encode(digest).decode()}"


def _packed(value: Any) -> Any:
    """Return arrays in base64, in single precision where that can hold them."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        array = value.astype(_short_type(value))
        packed = {
            "dtype": array.dtype.str[1:],
            "bdata": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
        }
        if array.ndim > 1:
            packed["shape"] = ", ".join(map(str, array.shape))
        return packed
    if isinstance(value, Mapping):
        return {key: _packed(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(part) for part in value]
    return value


def _short_type(values: np.ndarray) -> str:
    if values.dtype.kind != "f":
        return "<i4" if np.abs(values).max(initial=0) < 2**31 else "<f8"
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    is_in_range = bool(sizes.max(initial=1) < 1e38 and sizes.min(initial=1) > 1e-37)
    return "<f4" if is_in_range else "<f8"
