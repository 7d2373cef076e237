"""Configuration of the documentation site: `make site`."""

import medground

project = "medground"
copyright = "medground contributors"
author = "medground contributors"
release = version = medground.__version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"medground {version}"
nitpicky = True  # with -W: every link to a page or heading must exist
