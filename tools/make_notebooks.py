"""Runs the examples as notebooks: ``python tools/make_notebooks.py [NAME ...]``.

Every script of ``examples/`` is written as a notebook beside it, with what its cells print and draw, and the figure that it
saves is copied to ``docs/gallery/`` for the page that shows all examples. ``tests/test_examples.py`` fails where a notebook and
its script differ. The scripts are in jupytext's percent format: a comment ``# %%`` starts a cell, ``# %% [markdown]`` one of
text.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES, GALLERY = ROOT / "examples", ROOT / "docs" / "gallery"
SECONDS = 1200
"""Longest time that a cell may take."""


def notebook_of(script: Path) -> Any:
    """The notebook of a script, without outputs; the same bytes at every call."""
    notebook = jupytext.read(script)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for i, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{i}", {}
    return notebook


def run(notebook: Any, folder: Path) -> None:
    """Runs a notebook in a folder and keeps what its cells print and draw, without what libraries write to stderr."""
    NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


def make(script: Path) -> None:
    """Writes the notebook of one script and its figure for the gallery."""
    notebook = notebook_of(script)
    with tempfile.TemporaryDirectory() as folder:
        run(notebook, Path(folder))
        shutil.copyfile(Path(folder) / f"{script.stem}.png", GALLERY / f"{script.stem}.png")
    nbformat.write(notebook, script.with_suffix(".ipynb"))


def main() -> None:
    """Makes all notebooks, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="names of examples; all by default")
    names = parser.parse_args().names
    GALLERY.mkdir(exist_ok=True)
    for script in sorted(EXAMPLES.glob("*.py")):
        if not names or script.stem in names:
            make(script)
            print(f"{script.stem}: {script.with_suffix('.ipynb').stat().st_size / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
