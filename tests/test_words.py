"""Pages, docstrings and messages use the field's words: what CONTRIBUTING bans is nowhere in them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted((ROOT / "src").rglob("*.py"))
KEYS = {"pictures", "picture", "Told(labels="}
"""Keys of saved files and options, and parts of stored digests, which keep their names."""


def banned() -> dict[str, str]:
    """The words of CONTRIBUTING's table, as patterns, and what to write instead."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("<!-- banned -->")[2].partition("<!-- end -->")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return {word.lower(): instead for words, instead in rows[2:] for word in words.split(", ")}


BANNED = banned()
PATTERN = re.compile(r"\b(?:" + "|".join(map(re.escape, BANNED)).replace(r"\ ", r"\s+") + r")\b", re.IGNORECASE)


def faults(text: str) -> list[str]:
    return [f"{word}: {BANNED[' '.join(word.lower().split())]}" for word in PATTERN.findall(text)]


def prose(page: str) -> str:
    """A page without code, link targets and the table of banned words itself."""
    page = re.sub(r"<!-- banned -->.*?<!-- end -->", "", page, flags=re.DOTALL)
    page = re.sub(r"^ *```.*?^ *```$", "", page, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", page)


def strings(source: str) -> list[tuple[int, str]]:
    """The constants of a module that people read: docstrings, messages, help; of an f-string its text."""
    constants = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return [(node.lineno, node.value) for node in constants if isinstance(node.value, str) and node.value not in KEYS]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_has_a_banned_word(path):
    assert not faults(prose(path.read_text()))


def test_no_docstring_and_no_message_has_a_banned_word():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in MODULES
        for line, text in strings(path.read_text())
        for fault in faults(re.sub(r"``[^`]*``|:\w+:`[^`]*`|^ *\w+: ", "", text, flags=re.MULTILINE))
    ]
    assert not found, "\n".join(found)


def test_a_banned_word_is_found_where_people_read_it_and_only_there():
    assert len(BANNED) >= 15
    assert faults("The tuned plan is not Beyond\n    noise better.") == [f"Beyond\n    noise: {BANNED['beyond noise']}"]
    assert not faults("spent['pictured'] is an identifier")
    assert not faults(prose("Pass `--pictures 64`.\n\n```bash\nevaluate pictures/\n```\n[a page](pictures.md)\n"))
    assert [text for _, text in strings('x = {"pictures": f"{n} pictures"}')] == [" pictures"]
