"""How Sphinx makes a site of these pages: `python -m sphinx -W --keep-going -b html docs build/site`.

The pages are plain Markdown that reads as well on a git host; only the indexes hold directives. The site is
complete in itself: it fetches nothing from other hosts, and two builds of one commit are the same.
"""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent

project = "The Littlest Binder"
author = "The Littlest Binder contributors"
project_copyright = author
# Read, not imported: the package need not be installed to build its pages.
release = re.findall(r'^__version__ = "(.+)"', (DOCS.parent / "tljh_plugin/__init__.py").read_text(), re.M)[0]
version = release

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
root_doc = "index"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_logo = "../tljh_plugin/web/static/logo.svg"
html_favicon = "../tljh_plugin/web/static/logo.svg"
html_last_updated_fmt = None
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
# Code without a language is what a terminal shows.
highlight_language = "text"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
