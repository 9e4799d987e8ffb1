"""The notebook of the documentation runs, and says what it should."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tour.ipynb"


def test_the_tour(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # it is stored without
    resources = {"metadata": {"path": tmp_path}}
    # "python3" is the kernel of the Python that runs this.
    NotebookClient(notebook, timeout=180, kernel_name="python3", resources=resources).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [text(cell) for cell in cells]
    assert "'registered': 10" in shown[1]
    assert "application/vnd.plotly.v1+json" in outputs(cells[2])
    without, masked = ast.literal_eval(shown[3].splitlines()[-1])
    assert without > 0 == masked
    assert "mm" in shown[4]
    assert "localized at" in shown[5]


def outputs(cell: Any) -> set[str]:
    return {kind for output in cell.outputs for kind in output.get("data", {})}


def text(cell: Any) -> str:
    parts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.outputs]
    return "\n".join(part for part in parts if part)
