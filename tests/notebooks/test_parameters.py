"""A notebook by itself, with the parameters that papermill hands it, and what it shows."""

import json
from pathlib import Path

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from synthembed.ground.files import ROOT
from synthembed.stages.record import EXPLORED, PARAMETERS, STAGES


def execute(stage: str, out: Path, **parameters):
    papermill.execute_notebook(
        ROOT / "notebooks" / f"{stage}.ipynb", out, parameters=parameters, progress_bar=False, cwd=ROOT,
        kernel_name="python3",
    )  # fmt: skip


def test_papermill_parameters_that_do_not_exist_fail(tmp_path):
    with pytest.raises(PapermillExecutionError, match="unknown notebook parameter profil"):
        execute("00_overview", tmp_path / "out.ipynb", profil="smoke", results=str(tmp_path))


def test_a_notebook_runs_by_itself_with_overrides(tmp_path):
    execute("00_overview", tmp_path / "out.ipynb", profile="smoke", overrides="seed=5", results=str(tmp_path))
    assert json.loads((tmp_path / "smoke/00_overview/stage.json").read_text())["seeds"] == [5]


def test_every_figure_of_a_notebook_is_shown(tmp_path):
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python"}}
    )
    draw = "figure = figures.drop_funnel([('replies', 3), ('valid', 2)])"
    notebook.cells = [
        nbformat.v4.new_code_cell(c) for c in ("from synthembed.report import figures", draw, draw)
    ]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", progress_bar=False)
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[1:]
    assert [["image/png" in o.get("data", {}) for o in cell.outputs] for cell in done] == [[True], [True]]


@pytest.mark.parametrize("stage", STAGES)
def test_papermill_tells_every_parameter_with_its_type_and_what_it_is(stage):
    found = papermill.inspect_notebook(ROOT / "notebooks" / f"{stage}.ipynb")
    assert set(found) == PARAMETERS | ({"explore"} if stage in EXPLORED else set())
    for name, parameter in found.items():
        assert parameter["inferred_type_name"] != "None" and len(parameter["help"]) > 20, (name, parameter)
