"""Soundings on paper: one self-contained HTML page, with its twins in JSON and Markdown."""

from leadline.report.worksheet import as_html, as_json, as_markdown, write

__all__ = ["as_html", "as_json", "as_markdown", "write"]
