"""The check of names and lengths fails on what it bans, at the right line, and accepts everything else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "check_names.py"

SAMPLE = {
    "assignment": "x = 1\nfound = x",
    "annotated assignment": "x = 1\nown: int = x",
    "unpacking": "x = 1\na, *made = x, x",
    "attribute": "class A:\n    def __init__(self): self.told = 1",
    "loop": "x = 1\nfor own in []: pass",
    "with": "x = 1\nwith open('f') as found: pass",
    "walrus": "x = 1\nif (made := x): pass",
    "comprehension": "x = 1\ny = [told for told in []]",
    "parameter": "x = 1\ndef f(own): pass",
    "keyword-only parameter": "x = 1\ndef f(*, found=1): pass",
    "rest": "x = 1\ndef f(*made, **kept): pass",
    "lambda": "x = 1\ny = lambda told: 1",
    "function": "x = 1\ndef found(): pass",
    "import": "x = 1\nimport os as own",
    "exception": "try: pass\nexcept OSError as made: pass",
    "pattern": "match 1:\n    case told: pass",
}


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("check_names", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def complaints(tool, folder: Path, texts: dict[str, str]) -> list[tuple[str, int, str]]:
    for name, text in texts.items():
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return [(file.relative_to(folder).as_posix(), line, sentence) for file, line, sentence in tool.check([folder])]


@pytest.mark.parametrize("text", SAMPLE.values(), ids=SAMPLE)
def test_every_binding_of_a_banned_name_is_reported_at_its_line(tool, tmp_path, text):
    ((file, line, sentence),) = complaints(tool, tmp_path, {"sample": text})
    assert (file, line) == ("sample.py", 2)
    assert "does not say what it holds" in sentence


def test_reading_a_banned_name_and_longer_names_pass(tool, tmp_path):
    assert not complaints(
        tool, tmp_path, {"sample": 'own_modes, founded = 1, "found"\nprint(thing.told, found, f(own=1))'}
    )


@pytest.mark.parametrize(("lines", "count"), [(45, 0), (46, 1)])
def test_long_functions_are_reported_without_their_docstring(tool, tmp_path, lines, count):
    text = 'def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * lines
    reported = complaints(tool, tmp_path, {"sample": text})
    assert [(line, "f has 46 lines" in sentence) for _, line, sentence in reported] == [(1, True)] * count


@pytest.mark.parametrize(("lines", "count"), [(320, 0), (321, 1)])
def test_long_files_are_reported(tool, tmp_path, lines, count):
    assert len(complaints(tool, tmp_path, {"sample": "\n" * (lines - 1)})) == count


WIDTHS = {
    "a, b, c, d, e, g": 0,
    "a, b, c, d, e, g, h": 7,
    "a, /, b, c, *, d, e, g, h=1": 7,
    "a, b, c, d, e, *rest, **more": 7,
}


@pytest.mark.parametrize(("signature", "count"), WIDTHS.items(), ids=WIDTHS)
def test_functions_of_more_than_six_parameters_are_reported(tool, tmp_path, signature, count):
    reported = complaints(tool, tmp_path, {"sample": f"x = 1\ndef f({signature}): pass"})
    assert [(line, f"sample.f has {count} parameters" in said) for _, line, said in reported] == [(2, True)] * bool(
        count
    )


def test_methods_count_without_self_and_overloads_once(tool, tmp_path):
    six, seven = "a, b, c, d, e, g", "a, b, c, d, e, g, h"
    lines = [
        "class A:",
        f"    def f(self, {six}): pass",
        "    @classmethod",
        f"    def g(cls, {six}): pass",
        f"    def k(self, {seven}): pass",
        "@overload",
        f"def h({seven}): ...",
        "@typing.overload",
        f"async def h({seven}): ...",
        f"async def h({seven}):",
        f"    def inner({seven}): pass",
    ]
    reported = complaints(tool, tmp_path, {"sample": "\n".join(lines)})
    assert [(line, said.split(" ")[0]) for _, line, said in reported] == [
        (5, "sample.A.k"),
        (10, "sample.h"),
        (11, "sample.h.inner"),
    ]


def test_the_command_line_and_the_functions_of_the_list_may_have_more(tool, tmp_path):
    text = "def {}(a, b, c, d, e, g, h): pass"
    texts = {
        "sigmatune/cli/tune": text.format("tune"),
        "sigmatune/plan/sampling": f"{text.format('sample')}\n{text.format('other')}",
        "sigmatune/models/exact/__init__": text.format("load_exact"),
    }
    reported = complaints(tool, tmp_path, texts)
    assert [(file, line) for file, line, _ in reported] == [("sigmatune/plan/sampling.py", 2)]


def test_the_list_of_functions_with_many_parameters_only_shrinks(tool):
    wide = {name for file in tool.files_of([TOOL.parent.parent / "src"]) for name, *_ in tool.wide_functions(file)}
    assert wide == tool.WIDE
    assert len(wide) <= 20


def test_a_base_name_and_a_public_class_occur_once(tool, tmp_path):
    texts = {
        "a/grid": "class Grid: ...\nclass _Kept: ...",
        "b/grid": "",
        "b/mesh": "class _Kept: ...\nclass Grid: ...",
        "a/base": "",
        "b/base": "",
        "a/__init__": "",
        "b/__init__": "",
        "a/tune": "",
        "cli/tune": "def tune(): ...",
        "cli/grid": "",
    }
    reported = complaints(tool, tmp_path, texts)
    assert [(file, line) for file, line, _ in reported] == [("b/grid.py", 1), ("b/mesh.py", 2), ("cli/grid.py", 1)]


def test_the_command_prints_the_places_and_fails(tmp_path):
    file = tmp_path / "sample.py"
    file.write_text("found = 1\n")
    done = subprocess.run([sys.executable, TOOL, file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(" ")[0]) == (1, f"{file}:1:")
    file.write_text("schedule = 1\n")
    assert subprocess.run([sys.executable, TOOL, file], capture_output=True, text=True, check=False).returncode == 0
