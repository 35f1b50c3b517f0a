"""Settings of the documentation site; ``make docs`` builds it. See ``about.md`` for the reasons."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from pages import commands, errors, gallery, reference  # noqa: E402

import leadline  # noqa: E402

project = "Leadline"
author = "The Leadline authors"
copyright = "The Leadline authors"  # noqa: A001  the name is Sphinx's
version = release = leadline.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [
    # Types of other libraries: the site is built offline, so it links to no other site.
    (r"py:.*", r"(?!leadline\b).*"),
    (r"py:.*", r"leadline\..*\.(Kind|Size|Bounds|Step|Pooling|Ending|Loss|Record)"),
]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"Leadline {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {"color-brand-primary": "#1d5c8f", "color-brand-content": "#1d5c8f"},
    "dark_css_variables": {"color-brand-primary": "#7db8e8", "color-brand-content": "#7db8e8"},
}
pygments_style = "tango"
pygments_dark_style = "monokai"


def setup(app):
    """Write the generated pages before Sphinx reads any page."""
    folder = DOCS / "_generated"
    reference.write(folder / "reference")
    errors.write(folder / "errors.rst")
    commands.write(folder / "commands.rst")
    gallery.write(folder / "gallery")
    app.connect("missing-reference", reference.resolve)
    app.connect("source-read", reference.link_functions)
