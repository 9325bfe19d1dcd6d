"""A program of the gallery as a notebook: it runs in Jupyter, and shows its progress bar."""

import json
from pathlib import Path

import pytest

gallery = pytest.importorskip("sphinx_gallery")
nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

PROGRAM = Path(__file__).parents[2] / "examples" / "optimizers.py"


def notebook_of(program: Path):
    """The notebook that the site offers for download."""
    from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
    from sphinx_gallery.notebook import jupyter_notebook
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    _, blocks = split_code_and_text_blocks(str(program))
    as_dict = jupyter_notebook(blocks, dict(DEFAULT_GALLERY_CONF), str(program.parent))
    return nbformat.reads(json.dumps(as_dict), as_version=4)


def test_notebook_runs_and_shows_its_progress_bar(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTLSGD_EXAMPLES", "small")
    notebook = notebook_of(PROGRAM)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    (cell,) = (cell for cell in code if "verbose=1" in cell.source)
    text = "".join(output.get("text", "") for output in cell.outputs)
    assert "[####################] 8/8" in text
    assert (tmp_path / "optimizers_curves.png").exists()
