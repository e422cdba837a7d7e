"""The scripts of examples/ run, and their notebooks are what tools/make_notebooks.py makes of them."""

from __future__ import annotations

import runpy
from unittest import mock

import matplotlib as mpl
import nbformat
import pytest

from sigmatune.training.trainer import Trainer
from test_documents import ROOT, tool

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOK_BYTES = 300_000

named = pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)


def test_there_are_four_examples_and_the_gallery_shows_each():
    page = (ROOT / "docs" / "gallery.md").read_text()
    assert len(EXAMPLES) >= 4
    for script in EXAMPLES:
        assert f"(gallery/{script.stem}.png)" in page
        assert f"examples/{script.name}" in page
        assert f"examples/{script.stem}.ipynb" in page
        assert (ROOT / "docs" / "gallery" / f"{script.stem}.png").is_file()


@named
def test_an_example_runs(script, tmp_path, monkeypatch):
    """As it stands, with few noises to tune on and few steps to train."""
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    train = Trainer.run
    few_steps = mock.patch.object(Trainer, "run", lambda trainer, hooks: train(trainer, hooks, 6))
    with mpl.rc_context(), tool("update_docs").little_tuning(), few_steps:
        runpy.run_path(str(script), run_name="__main__")
    assert (tmp_path / f"{script.stem}.png").stat().st_size > 1000


@named
def test_a_notebook_is_that_of_its_script_and_was_run_to_its_end(script):
    file = script.with_suffix(".ipynb")
    expected = tool("make_notebooks").notebook_of(script)
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    cells = [[(cell.cell_type, cell.source) for cell in each.cells] for each in (notebook, expected)]
    assert cells[0] == cells[1], f"run `python tools/make_notebooks.py {script.stem}`"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert file.stat().st_size < NOTEBOOK_BYTES
    assert "/tmp/" not in file.read_text()


def test_the_loop_from_a_file_imports_nothing_of_ours(tmp_path):
    text = (ROOT / "examples" / "own_loop_from_file.py").read_text()
    body = text.partition("def run(")[2].partition("# %%")[0]
    assert body
    assert "st." not in body.replace("last.", "")
    assert "sigmatune" not in body
    assert "torch" not in body
