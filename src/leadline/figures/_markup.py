"""Plotly's markup for matplotlib: lines of text with subscripts, superscripts, bold and sizes."""

import re
from dataclasses import dataclass
from html import unescape

from leadline.errors import InputError

_TAG = re.compile(r"<(/?)(sub|sup|b|br|span)(\s[^<>]*)?/?>")
_SIZE = re.compile(r"font-size:\s*([\d.]+)px")
_SCRIPTS = {"sub": "_", "sup": "^"}
_SPECIAL = re.compile(r"([#$%&~_^\\{}])")


@dataclass(frozen=True)
class Line:
    """One line of text."""

    text: str
    """Text for matplotlib; scripts are in its math mode."""
    is_bold: bool = False
    size: float | None = None
    """Size in pixels, if it differs from the size of the other lines."""

    @property
    def num_letters(self) -> int:
        """Number of letters that the line shows, about."""
        return len(re.sub(r"\$[{}]*[_^]\\mathregular\{(.*?)\}\$", r"\1", self.text))


def lines_of(markup: str) -> list[Line]:
    """Return the lines of a text with Plotly's markup.

    Known tags are ``<sub>``, ``<sup>``, ``<b>``, ``<br>`` and ``<span style='font-size:11px'>``.

    Raises:
        InputError: there is another tag.

    >>> [line.text for line in lines_of("h<sub>t</sub> &amp; c<br>x")]
    ['h${}_{\\\\mathregular{t}}$ & c', 'x']
    """
    unknown = re.search(r"</?[A-Za-z]", _TAG.sub("", markup))
    if unknown:
        raise InputError(
            "still() knows the tags <sub>, <sup>, <b>, <br> and <span>", got=repr(markup[:60])
        )
    return [_line(part) for part in re.split(r"<br\s*/?>", markup)]


def _line(markup: str) -> Line:
    """Return one line of markup for matplotlib."""
    pieces: list[str] = []
    script = ""
    is_bold = "<b>" in markup
    size = None
    end = 0
    for tag in _TAG.finditer(markup):
        _add(pieces, markup[end : tag.start()], script)
        end = tag.end()
        closes = tag[1]
        name = tag[2]
        attributes = tag[3] or ""
        if name in _SCRIPTS:
            script = "" if closes else _SCRIPTS[name]
        size_match = _SIZE.search(attributes)
        if size_match:
            size = float(size_match[1])
    _add(pieces, markup[end:], script)
    return Line("".join(pieces), is_bold, size)


def _add(pieces: list[str], markup: str, script: str) -> None:
    """Append a piece of text; subscripts and superscripts become math."""
    text = unescape(markup)
    if not text:
        return
    if script:
        inside = _SPECIAL.sub(r"\\\1", text).replace(" ", r"\ ")
        pieces.append(f"${{}}{script}{{\\mathregular{{{inside}}}}}$")
    else:
        pieces.append(text.replace("$", r"\$"))
