"""Notebooks: each runs from top to bottom, is the same as its text, and keeps no outputs."""

from __future__ import annotations

import os
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    """The folder is where this file looks, and every text there has its notebook."""
    assert NOTEBOOKS
    assert {file.stem for file in NOTEBOOKS} == {file.stem for file in (ROOT / "notebooks").glob("*.py")}


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_and_its_text_are_one(file: Path) -> None:
    """The .ipynb and the paired .py have the same cells; the notebook holds no outputs and no counts."""
    notebook = nbformat.read(file, as_version=4)
    text = jupytext.read(file.with_suffix(".py"), fmt="py:percent")

    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in text.cells]
    assert [c for c in notebook.cells if c.get("outputs") or c.get("execution_count")] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, in a fresh kernel of this Python, and what it writes stays out of the checkout."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))))
    monkeypatch.setenv("VILLAGETWIN_HOME", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(file, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where).execute()

    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source)
