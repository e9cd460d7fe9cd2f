"""The notebooks run from top to bottom in a fresh kernel, and come without outputs."""

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# What holds at the end, as an expression of the notebook's names.
CHECKS = {
    "images.ipynb": "label == 'key' and evaluation.accuracy > 0.8 and verification.ok",
    "texts.ipynb": "label == 'delivery' and difference < 1e-4",
}


def read(name):
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    return nbformat.read(EXAMPLES / name, as_version=4)


def test_every_notebook_has_a_check():
    assert {path.name for path in EXAMPLES.glob("*.ipynb")} == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_notebook_is_kept_without_outputs(name):
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert len(cells) > 3
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = read(name)
    notebook.cells.append(nbformat.v4.new_code_cell(f"assert {CHECKS[name]}"))
    client = nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
