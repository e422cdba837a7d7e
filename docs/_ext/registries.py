"""What a built page has more of the registries than its Markdown file: the documentation of every member's module.

``.. solver-modules::``, ``.. family-modules::`` and ``.. phase-space-modules::``, for reStructuredText pages, document every
module that holds a member, so that no list is kept by hand. A link of a Markdown page to the file of a module becomes one to
that documentation.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sphinx.util.docutils import SphinxDirective

from doc_tables.registered import module_of
from sigmatune.schedules import FAMILIES
from sigmatune.solvers import PHASE_SPACE, POSITION

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

LINK = re.compile(r"\[`([^`]+)`\]\(\.\./src/(sigmatune/\S+)\.py\)")


def to_reference(text: str) -> str:
    """A page's text with its links to files of modules turned into links to their documentation."""
    return LINK.sub(lambda link: f"{{py:mod}}`{link[1]} <{link[2].replace('/', '.')}>`", text)


def modules(builders: Sequence[Callable[..., Any]]) -> str:
    """Documents the modules of some builders, each once, in the order of the registry."""
    names = dict.fromkeys(map(module_of, builders))
    return "\n\n".join(_section(name) for name in names)


def _section(module: str) -> str:
    title = str(sys.modules[module].__doc__).partition("\n")[0].partition(":")[0].rstrip(".")
    return f"{title}\n{'-' * len(title)}\n\n.. automodule:: {module}\n   :members:\n"


class Generated(SphinxDirective):
    """Replaces itself by a generated text in the page's own language."""

    text: Callable[[], str]

    def run(self) -> list[nodes.Node]:
        """Parses the text in place."""
        self.env.note_reread()
        return self.parse_text_to_nodes(type(self).text(), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directives and the links."""
    texts = {
        "phase-space-modules": lambda: modules([solver.build for solver in PHASE_SPACE.values()]),
        "solver-modules": lambda: modules([solver.build for solver in POSITION.values()]),
        "family-modules": lambda: modules([family.build for family in FAMILIES.values()]),
    }
    for name, text in texts.items():
        app.add_directive(name, type(name, (Generated,), {"text": staticmethod(text)}))
    app.connect("source-read", _linked)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _linked(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = to_reference(source[0])
