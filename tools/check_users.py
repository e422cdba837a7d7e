"""Lists public functions, classes and methods of src that only tests use, or nothing. Run by ``make lint``.

A user is any code of src, benchmarks, tools, integrations or the documentation's extension that names it, a code block or
a reference in a page (README.md, docs), or the public face (``__all__`` of ``sigmatune``). What a name stands for is not
resolved, so a method with a common name passes; vulture does the same, and knows no pages.

``python tools/check_users.py`` prints one line each and exits with 1 if there is any.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "sigmatune"
CODE = ("src", "benchmarks", "tools", "integrations", "docs/_ext")

PROTOCOLS = {
    "compatibles": "diffusers' schedulers", "final_alpha_cumprod": "diffusers' pipelines",
    "step_index": "diffusers' schedulers", "set_begin_index": "diffusers' schedulers", "scale_noise": "diffusers' schedulers",
    "create_module": "the import system",
}  # fmt: skip
"""Methods by the library whose interface they belong to."""

OURS = (
    "property", "cached_property", "classmethod", "staticmethod", "dataclass", "contextmanager", "contextlib.", "functools.",
    "cache", "lru_cache", "abstractmethod", "overload", "torch.",
)  # fmt: skip
"""How decorators begin that change a function and do not call it."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(tree: ast.Module) -> Iterator[Definition]:
    """Public functions and classes of a module, and public methods of its classes, that no decorator registers."""
    for node in tree.body:
        if isinstance(node, Definition) and _counts(node):
            yield node
        if isinstance(node, ast.ClassDef):
            yield from (part for part in node.body if isinstance(part, Definition) and _counts(part))


def _counts(node: Definition) -> bool:
    return not node.name.startswith("_") and not any(_registers(mark) for mark in node.decorator_list)


def _registers(mark: ast.expr) -> bool:
    """Whether a decorator passes the function to a library that calls it: a call or a hook, such as pydantic's validators."""
    text = ast.unparse(mark)
    return not text.startswith(OURS)


def names(tree: ast.AST) -> Iterator[str]:
    """The names that code uses; a definition is none, and neither is a re-export in an ``__init__.py``."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name):
                yield name
            case ast.keyword(arg=str(name)) | ast.Constant(value=str(name)) if name.isidentifier():
                yield name


def used() -> Counter[str]:
    """How often every name is used by something that is no test."""
    count: Counter[str] = Counter()
    for folder in CODE:
        for file in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            count.update(names(tree) if file.parent != SRC.parent else ())
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.rst")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        parts = re.findall(r"^```(?:python|bash)\n.*?^```|`[^`\n]+`", text, flags=re.DOTALL | re.MULTILINE)
        count.update(re.findall(r"\w+", "\n".join(parts)))
    return count


def unused() -> Iterator[tuple[Path, Definition]]:
    """What nothing but a test uses, with its file."""
    users = used()
    for file in sorted(SRC.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        listed = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for node in definitions(tree):
            if (
                node.name not in PROTOCOLS
                and users[node.name] - (node.name in listed and file.name == "__init__.py") <= 0
            ):
                yield file, node


if __name__ == "__main__":
    complaints = [
        f"{file.relative_to(ROOT)}:{node.lineno}: only tests use {node.name}, or nothing" for file, node in unused()
    ]
    print("\n".join(complaints), end="\n" if complaints else "")
    sys.exit(bool(complaints))
