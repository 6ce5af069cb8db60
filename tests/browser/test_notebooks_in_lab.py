"""Whole notebooks in JupyterLab, of a finished run: run from the menu, no cell raises, nothing in the console, every
widget is drawn, and not a byte of the run changes.

The stages that need no model are enough; they are made here, unless the test of the smoke run has left them.
``FINISHED_RUN=runs/smoke pytest tests/browser/test_notebooks_in_lab.py`` clicks through all notebooks of a whole run,
and leaves pictures of them.
"""

import json
import os
import re
from pathlib import Path

import lab
import pytest
import shared_smoke_run
from synthembed.ground.files import ROOT, sha256
from synthembed.stages import runner

pytestmark = pytest.mark.skipif(bool(lab.missing()), reason=lab.missing())

WHOLE = os.environ.get("FINISHED_RUN", "")
QUICK = list(shared_smoke_run.FIRST)
NAMES = [p.stem for p in sorted((ROOT / "notebooks").glob("0[0-7]*.ipynb"))] if WHOLE else QUICK
EXPLORER = re.compile(r"widgets\.(prompts|browse|tokens|batch)\(|\"(playground|neighbours|passkeys)\(")
STEP = 3  # cells that are in sight together, about
LONG = 1_800  # seconds that a notebook may take beside other work


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    if WHOLE:
        return Path(WHOLE).resolve()
    if found := shared_smoke_run.found(tmp_path_factory):
        return found
    return runner.run_stages("smoke", [], "", QUICK, tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def opened(run, tmp_path_factory):
    """The address of a Lab with a copy of each notebook that reads the run."""
    root = tmp_path_factory.mktemp("lab")
    given = {
        "profile": json.loads((run / "00_overview" / "stage.json").read_text())["profile"],
        "run": run.name,
    }
    for name in NAMES:
        notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
        cell = next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", ()))
        text = "".join(cell["source"])
        for key, value in (given | {"results": str(run.parent)}).items():
            text = re.sub(
                rf'^{key} = ".*?"', lambda m, k=key, v=value: f"{k} = {json.dumps(v)}", text, flags=re.M
            )
        cell["source"] = text.splitlines(keepends=True)
        (root / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    with lab.lab(root) as address:
        yield address


def everything(run: Path) -> dict:
    return {p: (sha256(p), p.stat().st_mtime_ns) for p in run.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_of_a_finished_run_is_run_in_the_lab_and_changes_nothing(run, opened, name, tmp_path):
    before, errors = everything(run), []
    explores = EXPLORER.search((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    with lab.page(opened.format(f"{name}.ipynb"), errors) as page:
        assert lab.run_all(page, LONG) == []
        widgets = 0
        for number in range(0, page.evaluate(lab.LENGTH), STEP):
            page.evaluate(lab.SCROLL, number)
            page.wait_for_timeout(200)
            assert page.get_by_text("Error displaying widget").count() == 0
            widgets = max(widgets, page.locator(".widget-box").count())
            if WHOLE:
                page.screenshot(path=tmp_path / f"{name}-{number:02}.png")
    assert errors == []
    assert bool(widgets) == bool(explores), "no widget was drawn"
    assert everything(run) == before
