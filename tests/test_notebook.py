"""The notebook of ``examples/``: from import to table, as whoever opens it first runs it."""

import json
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[1] / "examples" / "from_import_to_table.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_from_import_to_table(tmp_path, monkeypatch, capsys):
    """Its cells one by one, which are plain Python; it is kept without outputs, which would grow old."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(FILE.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    names = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    run, shown = names["run"], capsys.readouterr().out
    assert run.report().exists() and len(names["examples"]) == run.metrics["tasks"]["gsm8k"]["n"] == 40
    assert run.metrics["tasks"]["gsm8k"]["change"]["difference"] > 0.3  # what its text promises: it learns
    assert names["gained"]["after_text"] in shown and shown.endswith(f"{run}\n")
