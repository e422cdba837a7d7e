"""Settings of the documentation: ``make docs`` builds it, offline and with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

import sigmatune

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
sys.path.append(str(Path(__file__).parents[1] / "tools"))  # the tables of the pages

project = "SigmaTune"
author = "The SigmaTune authors"
project_copyright = "the SigmaTune authors, Apache-2.0"
version = release = sigmatune.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "matplotlib.sphinxext.plot_directive",
    "docstrings",
    "mathml",
    "registries",
    "source_pages",
]
exclude_patterns = ["_build"]
nitpicky = True
# Types of other libraries: their documentation is on the network, and this build is offline.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(torch|np|numpy|npt|os|collections|datetime|pathlib|PIL|annotated_types|contextlib|pydantic|types|typing)\..*|.*\.T",
    ),
    (
        "py:.*",
        r"Array|Shape|UNet2DModel|Figure|Axes|Path|dict\[str|Tensor|FieldInfo|Ge|Gt|MaxLen|MinLen|NoneType|Console|sigmatune.support.threads.Worker",
    ),
]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False

plot_include_source = True
plot_html_show_formats = False
plot_html_show_source_link = False
plot_formats = ["svg"]
plot_rcparams = {
    "figure.figsize": (7.2, 3.4),
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e8",
    "font.size": 10,
    "legend.frameon": False,
    "svg.hashsalt": "sigmatune",
}
plot_apply_rcparams = True

html_theme = "furo"
html_title = f"SigmaTune {version}"
html_static_path = ["_static"]
html_css_files = ["sigmatune.css"]
html_copy_source = False
html_show_sphinx = False
