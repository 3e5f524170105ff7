"""The notebook in docs/, run from its first cell to its last."""

from pathlib import Path

import pytest

from tests.helpers.running import ROOT

pytestmark = pytest.mark.slow

NOTEBOOK = ROOT / "docs" / "analysis.ipynb"


def _texts(notebook):
    return [
        output["data"]["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    ]


def test_each_cell_prints_what_the_document_shows(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, 4)
    shown = _texts(notebook)
    assert "coffee.jpg, coffee_cmyk.jpg" in shown[2]
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert _texts(notebook)[:3] == shown[:3]  # the map differs in the last digit between processors
    assert list(Path(tmp_path, "vectors", "embeddings", "samples").glob("*.parquet"))
