"""Lets docstrings be written for people: ``*shape`` stays a star, and names resolve without their full path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


def tidy(_app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Escapes the star of ``(B, *shape)``, and keeps napoleon from reading a type into a property's first sentence."""
    lines[:] = [re.sub(r"(?<![\\*`])\*(?=shape\b)", r"\\*", line) for line in lines]
    if what in ("attribute", "property", "data"):
        lines[:0] = ["..", ""]  # an empty comment, in which there is no colon


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    """Finds a name of ours by its last parts: ``NoisePath.time``, or a class by the module that it is written in."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains.python_domain.objects
    parts = node["reftarget"].lstrip(".").split(".")
    endings = [parts] if parts[0] != "sigmatune" else [parts[i:] for i in range(1, len(parts))]
    for ending in endings:
        suffix = "." + ".".join(ending)
        found = [name for name in objects if name.endswith(suffix) and name.count(".") <= len(parts) + 2]
        if found:
            entry = objects[min(found, key=len)]
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, [content], node["reftarget"])
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects both; the docstrings are tidied before napoleon reads them."""
    app.connect("autodoc-process-docstring", tidy, priority=100)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
