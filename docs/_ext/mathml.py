"""Formulas as MathML, which browsers draw by themselves: no script, no font and nothing from the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from latex2mathml.converter import convert

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator


def mathml(latex: str, display: str) -> str:
    """Returns a formula as a <math> element.

    Args:
        latex: The formula.
        display: ``inline`` or ``block``.
    """
    element = convert(" ".join(latex.split()), display=display)
    element = element.replace("<mo minsize", '<mo stretchy="true" symmetric="true" minsize')
    return element.replace("<mi>;</mi>", '<mo separator="true">;</mo>').replace("<mi>.</mi>", "<mtext>.</mtext>")


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Writes a formula inside a line."""
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Writes a formula on a line of its own, which scrolls where the page is narrow."""
    self.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer and chooses it."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
