"""Notebook 09 on a tiny model and a part of the example: every cell runs, and its last cell's checks hold."""

import shutil

import papermill
from synthembed.adapt import adaptation
from synthembed.ground.files import ROOT, read_json


def test_notebook_09_runs(tmp_path, tiny_folder):
    (tmp_path / "documents").mkdir()
    for name in ("museum.jsonl", "sport.jsonl"):
        shutil.copy(adaptation.EXAMPLE_FOLDER / name, tmp_path / "documents")
    settings = [
        f"backbone.model={tiny_folder}", "backbone.layers=null", "train.max_length=128", "train.epochs=8",
        "train.batch_size=16", "train.learning_rate=1.0e-2", "train.try_longest_first=false",
    ]  # fmt: skip
    parameters = {
        "documents": str(tmp_path / "documents"),
        "overrides": settings,
        "out": str(tmp_path / "out"),
        "peers": False,
        "general": 0,  # that is tested in tests/adapt/test_starting.py
    }
    notebook = ROOT / "notebooks" / "09_your_documents.ipynb"
    papermill.execute_notebook(
        notebook, tmp_path / "09.ipynb", parameters, cwd=str(tmp_path), progress_bar=False
    )
    assert (tmp_path / "out" / "model" / "modules.json").exists()
    assert read_json(tmp_path / "out" / "documents.json")["passages"] == 50
