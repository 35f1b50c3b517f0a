"""Soundings on paper: one self-contained HTML page, with its twins in JSON and Markdown."""

from leadline.report.markdown import as_markdown
from leadline.report.record import as_json
from leadline.report.worksheet import as_html, write

__all__ = ["as_html", "as_json", "as_markdown", "write"]
