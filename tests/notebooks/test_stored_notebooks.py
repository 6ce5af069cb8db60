"""Notebooks as they are stored: one a stage, clean, in house style."""

import json
import re

import pytest
from synthembed.ground.files import ROOT
from synthembed.stages.record import PARAMETERS, STAGES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Notebooks that are no stage of a run, with the parameters of their own.
BESIDE = {
    "09_your_documents": {
        "documents", "generator", "profile", "overrides", "start", "out", "queries", "peers", "mask",
    }
}  # fmt: skip


def test_there_is_one_notebook_a_stage():
    assert [p.stem for p in NOTEBOOKS if p.stem not in BESIDE] == list(STAGES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_stored_clean_and_in_house_style(path):
    notebook = json.loads(path.read_text())
    cells = notebook["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert not any(c["outputs"] or c["execution_count"] for c in code), "stored with outputs"
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    names = re.findall(r"^(\w+) = ", "".join(tagged[0]["source"]), re.M)
    assert set(names) == BESIDE.get(path.stem, PARAMETERS)
    assert cells[0]["cell_type"] == "markdown" and "".join(cells[0]["source"]).startswith(
        f"# {path.stem[:2]} " if path.stem[:2] != "00" else "# "
    )
    assert "assert " in "".join(code[-1]["source"]), "the last cell checks something"
    assert max(len("".join(c["source"]).splitlines()) for c in code) <= 16
