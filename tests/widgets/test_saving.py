"""What JupyterLab writes when it saves a notebook that somebody has run."""

import shutil

import nbformat
import pytest
from jupyter_server.services.contents.filemanager import FileContentsManager
from synthembed.ground.files import ROOT


def manager(folder) -> FileContentsManager:
    hook = "synthembed.widgets.stored_notebooks.without_outputs"
    return FileContentsManager(root_dir=str(folder), pre_save_hook=hook)


def run_and_saved(contents: FileContentsManager, path: str, edit: str = "") -> None:
    model = contents.get(path)
    notebook = model["content"]
    notebook["metadata"]["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    for cell in notebook["cells"]:
        cell["metadata"]["execution"] = {"iopub.status.busy": "now"}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = (
                [nbformat.v4.new_output("stream", text="printed by a cell")],
                7,
            )
    notebook["cells"][-1]["source"] += edit
    contents.save({"type": "notebook", "format": "json", "content": notebook}, path)


def test_a_notebook_that_was_only_run_is_the_same_file(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for file in sorted((tmp_path / "notebooks").glob("*.ipynb")):
        before = file.read_bytes()
        run_and_saved(manager(tmp_path), f"notebooks/{file.name}")
        assert file.read_bytes() == before


def test_what_was_edited_is_saved(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    run_and_saved(manager(tmp_path), "notebooks/07_report.ipynb", edit="\n1 + 1")
    saved = (tmp_path / "notebooks" / "07_report.ipynb").read_text()
    assert "1 + 1" in saved and "printed by a cell" not in saved


def test_notebooks_elsewhere_keep_their_outputs(tmp_path):
    (tmp_path / "mine").mkdir()
    shutil.copy(ROOT / "notebooks" / "07_report.ipynb", tmp_path / "mine")
    run_and_saved(manager(tmp_path), "mine/07_report.ipynb")
    assert "printed by a cell" in (tmp_path / "mine" / "07_report.ipynb").read_text()


@pytest.mark.parametrize("name", ["07_report-Copy1.ipynb", "Untitled.ipynb"])
def test_a_readers_own_beside_ours_keeps_its_outputs(tmp_path, name):
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "07_report.ipynb", tmp_path / "notebooks" / name)
    run_and_saved(manager(tmp_path), f"notebooks/{name}")
    assert "printed by a cell" in (tmp_path / "notebooks" / name).read_text()
