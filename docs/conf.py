"""Settings of the site:  sphinx-build -W docs FOLDER  writes it into a folder of yours."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

import fedmpi

HERE = Path(__file__).parent

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


def _contents(index: str) -> str:
    """Return the directives that make the site's navigation of the lists of pages in the index."""
    sections = re.findall(r"^## (.*)\n\n((?:- \[.*\]\([\w-]+\.md\)\n)+)", index, re.MULTILINE)
    return "".join(
        f"\n```{{toctree}}\n:caption: {caption}\n:hidden:\n:maxdepth: 1\n\n"
        + "".join(f"{page}\n" for page in re.findall(r"\(([\w-]+)\.md\)", pages))
        + "```\n"
        for caption, pages in sections
    )


def setup(app: Sphinx) -> None:
    """Add to the pages what only a site can have: navigation, and the text of a file that is none of its pages."""

    def add(app: Sphinx, name: str, source: list[str]) -> None:
        if name == "index":
            source[0] += _contents(source[0])
        if name == "changelog":
            source[0] = (HERE.parent / "CHANGELOG.md").read_text()

    app.connect("source-read", add)
