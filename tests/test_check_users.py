"""The check of users finds what only tests use, knows every kind of user, and has no complaint of this package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "check_users.py"

MODULE = """
__all__ = ["exported"]

def exported(): ...
def called(): ...
def shown(): ...
def mentioned(): ...
def measured(): ...
def lonely(): ...
def _private(): ...

class Kept:
    def used(self): ...
    def unused(self): ...
    @property
    def value(self): ...
    @validator("x")
    def registered(self): ...
"""
USERS = {
    "src/sigmatune/other.py": "from sigmatune.module import called\ncalled()\nKept().used()\n",
    "benchmarks/one.py": "measured()\n",
    "docs/page.md": "prose of lonely `sigmatune.module.mentioned`\n\n```python\nshown()\n```\n",
    "tests/test_module.py": "lonely()\n",
    "README.md": "\n",
}


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("check_users", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_only_tests_use_is_found(tool, tmp_path, monkeypatch):
    for name, text in {"src/sigmatune/module.py": MODULE, **USERS}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "SRC", tmp_path / "src" / "sigmatune")
    assert [node.name for _, node in tool.unused()] == ["lonely", "unused", "value"]


def test_everything_public_has_a_user():
    done = subprocess.run([sys.executable, TOOL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
