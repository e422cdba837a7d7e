"""Pages of source code without the site's tree of contents: each links to its documentation instead.

Sphinx makes the tree anew for every page, and Furo asks for it whole. For the pages of ``sphinx.ext.viewcode``, one for each
module and outside the tree, that takes half of the time of a build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

BEFORE_THEME = 400
"""Handlers run in the order of their priorities; Furo's is 500, the default."""


def drop_tree(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Handler of Sphinx's event ``html-page-context``."""
    if page.startswith("_modules/"):
        context.pop("toctree", None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the handler."""
    app.connect("html-page-context", drop_tree, priority=BEFORE_THEME)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
