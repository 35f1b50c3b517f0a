"""Reports of soundings: a self-contained HTML page, and the same results as JSON and Markdown."""

from leadline.report._markdown import as_markdown as as_markdown

# For other packages of Leadline; not public.
from leadline.report._record import as_json as as_json
from leadline.report._soundings import Chapter as Chapter
from leadline.report._soundings import soundings_page as soundings_page
from leadline.report._worksheet import FILES as FILES
from leadline.report._worksheet import as_html as as_html
from leadline.report._worksheet import headline as headline
from leadline.report._worksheet import write
from leadline.report._worksheet import write_into as write_into

__all__ = [
    "write",
]
