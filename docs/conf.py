"""Sphinx configuration: the manual is Markdown."""

from znfs import __version__

project = "znfs"
author = "The znfs contributors"
release = version = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
exclude_patterns = ["build"]
# The console lexer does not follow quotes over lines; tests run those examples.
suppress_warnings = ["misc.highlighting_failure"]
