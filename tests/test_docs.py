"""Every code block of the documents runs, prints what the page says, and no list on a page is kept by hand."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch

import sigmatune
from sigmatune.noise import VE
from sigmatune.schedules import FAMILIES
from sigmatune.solvers import PHASE_SPACE, POSITION
from sigmatune.tuning.stages import STAGES
from test_documents import ROOT, tool

pytestmark = pytest.mark.documents

docs = tool("update_docs")
PAGES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in docs.PAGES]

sys.path.insert(0, str(ROOT / "docs" / "_ext"))


@pytest.mark.parametrize("path", PAGES)
def test_every_block_runs_and_prints_what_the_page_says(path):
    page = docs.Page(path)
    page.run()
    assert not page.stale, "run `python tools/update_docs.py` and read what has changed"
    if path.name == "CONTRIBUTING.md":
        _check_skeletons(page.document.namespace)


def _check_skeletons(names: dict):
    """What a contributor copies is a family and a solver that work."""
    levels = names["FAMILY"].build(5, VE(), p=2.0)
    assert np.all(np.diff(levels) < 0)
    assert levels[[0, -1]] == pytest.approx([80.0, 0.002])
    coefficients = names["SOLVER"].build(torch.from_numpy(np.append(levels, 0.0)))
    assert coefficients.calls == names["SOLVER"].calls(5)
    assert coefficients.width == names["SOLVER"].width


@pytest.mark.parametrize("path", PAGES)
def test_no_block_is_of_a_kind_that_nobody_runs(path):
    known = r"(python|bash|text|\{(eval-rst|toctree)\})?"
    fences = re.findall(r"^ *```(.*)$", path.read_text(), flags=re.MULTILINE)
    assert all(re.fullmatch(known, fence) for fence in fences[::2]), fences[::2]
    assert not any(fences[1::2]), "a fence is not closed"


def test_the_tables_have_a_row_for_every_member():
    from doc_tables import registered

    pairs = ((registered.solver_table(), POSITION), (registered.family_table(), FAMILIES),
             (registered.phase_space_table(), PHASE_SPACE))  # fmt: skip
    for table, members in pairs:
        rows = table.splitlines()[2:]
        assert len(rows) == len(members)
        for row, name in zip(rows, members, strict=True):
            link = re.search(r"\[`([^`]+)`\]\(\.\./([^)]+)\)", row)
            assert link[1] == name
            assert (ROOT / link[2]).is_file()
            assert row.count("|") == table.splitlines()[0].count("|")
    assert [row.split("`")[1] for row in registered.stage_table().splitlines()[2:]] == list(STAGES)


def test_the_tables_are_on_their_pages_and_readable_without_building_them():
    pages = (("solvers", POSITION), ("phase_space", PHASE_SPACE), ("sigma", FAMILIES), ("tuning", STAGES))
    for page, members in pages:
        text = (ROOT / "docs" / f"{page}.md").read_text()
        for name in members:
            assert re.search(rf"^\| \[?`{re.escape(name)}`", text, flags=re.MULTILINE), (page, name)
    for page in ("phase-space", "solver", "family"):
        file = {"phase-space": "phase_space", "solver": "solvers", "family": "schedules"}[page]
        assert f".. {page}-modules::" in (ROOT / "docs" / "reference" / f"{file}.rst").read_text()


def test_a_built_page_links_to_the_reference():
    import registries

    built = registries.to_reference("| [`heun`](../src/sigmatune/solvers/heun.py) | 2 | [other](solvers.md)")
    assert built == "| {py:mod}`heun <sigmatune.solvers.heun>` | 2 | [other](solvers.md)"


def test_the_reference_has_every_public_name():
    text = (ROOT / "docs" / "reference" / "public.rst").read_text()
    for name in sigmatune.__all__:
        assert re.search(rf"^\.\. auto\w+:: {name}$", text, flags=re.MULTILINE), name


def test_a_stale_output_is_found_and_rewritten(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("```python\nprint(6 * 7)\n```\n\n```text\n41\n```\n\nThe end.\n")
    page = docs.Page(path)
    page.run()
    assert [printed for _, printed in page.stale] == ["42\n"]
    assert page.updated() == path.read_text().replace("41", "42")


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("gain 0.35 (0.20 to 0.48)\n 5 calls", True), ("gain 0.36 (0.20 to 0.47)\n 5 calls", True),
        ("gain 0.37 (0.20 to 0.48)\n 5 calls", False), ("gain 0.35 (0.20 to 0.48)\n 6 calls", False),
        ("gain 0.35 (0.20 to 0.48) 5 calls", False), ("no gain 0.35 (0.20 to 0.48)\n 5 calls", False),
        ("gain -0.35 (0.20 to 0.48)\n 5 calls", False),
    ],
)  # fmt: skip
def test_a_figure_may_round_to_the_other_side(printed, same):
    assert docs.alike(printed, "gain 0.35 (0.20 to 0.48)\n 5 calls") is same


@pytest.mark.parametrize(("printed", "same"), [("7.1e-06", True), ("7.4e-06", False), ("7.2e-05", False)])
def test_of_a_power_of_ten_too(printed, same):
    assert docs.alike(printed, "7.2e-06") is same


def test_a_command_that_fails_fails_the_page(tmp_path):
    path = tmp_path / "page.md"
    for line, problem in (
        ("sigmatune schedule carras", "did you mean"),
        ("make nothing", "no target"),
        ("rm -rf x", "nobody runs"),
    ):
        path.write_text(f"```bash\n{line}\n```\n")
        with pytest.raises(ValueError, match=problem):
            docs.Page(path).run()
