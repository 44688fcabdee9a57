"""Settings of the site:  sphinx-build -W docs FOLDER  writes it into a folder of yours."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))  # reference.py

import reference

import fedmpi

project = "fedmpi"
author = "the fedmpi developers"
copyright = author
version = release = fedmpi.__version__

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"fedmpi {release}"
html_static_path: list[str] = []
html_copy_source = False
nitpicky = True
smartquotes = False  # docstrings quote Python's texts
add_module_names = False
toc_object_entries = False
python_display_short_literal_types = True


def setup(app: Sphinx) -> None:
    """Put what comes from the code into the pages that ask for it."""

    def expand(app: Sphinx, name: str, source: list[str]) -> None:
        source[0] = reference.expand(source[0])

    app.connect("source-read", expand)
    app.connect("env-get-outdated", lambda app, env, *changes: env.found_docs)  # the code may be another
