"""Links of an executed copy lead to what those of the notebook lead to."""

import json
import re

import pytest
from synthembed.ground import notebook_links
from synthembed.ground.files import ROOT
from synthembed.stages.definitions import STAGES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLACES = {
    "a run of the reader's": ROOT / "runs" / "mine",
    "a run elsewhere": ROOT.parent / "far" / "away" / "r",
}


def texts(path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]


def inside(text: str) -> list[str]:
    """Links to files, without anchors."""
    found = (a or b for a, b in re.findall(r'\]\(([^)\s]+)\)|href="([^"]+)"', text))
    return [t.partition("#")[0] for t in found if not t.startswith(("http", "#"))]


@pytest.mark.parametrize("run", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_links_of_a_copy_lead_to_the_runs_notebooks_and_to_the_same_docs(path, run):
    made = [stage for stage in STAGES if stage < "08"]
    place = run / path.stem / path.name
    leading, met = notebook_links.of_copy(place, made), set()
    for text in texts(path):
        there = leading(text)
        assert notebook_links.of_source(there) == text, "the same pages, in the other form"
        for before, after in zip(inside(text), inside(there), strict=True):
            wanted, found = (path.parent / before).resolve(), (place.parent / after).resolve()
            if wanted.parent == path.parent and wanted.stem in made:
                wanted = run.resolve() / wanted.stem / wanted.name
            assert found == wanted, after
            met.add(found)
    assert {place.parent.parent for place in met if place.stem in made} == {run.resolve()}
    assert any(ROOT / "docs" in place.parents for place in met) == ("../docs/" in "".join(texts(path)))


def test_links_in_html_lead_there_too_and_keep_their_anchor():
    leading = notebook_links.of_copy(ROOT / "runs" / "mine" / "07_report" / "07_report.ipynb", ["02_analyze"])
    assert (
        leading('<a href="02_analyze.ipynb#Samples">') == '<a href="../02_analyze/02_analyze.ipynb#Samples">'
    )
    assert leading('<a href="08_beyond.ipynb">') == '<a href="../../../notebooks/08_beyond.ipynb">'


def test_other_links_stay_as_they_are():
    leading = notebook_links.of_copy(ROOT / "runs" / "mine" / "07_report" / "07_report.ipynb", STAGES)
    for text in (
        "[x](https://a.b/02_analyze.ipynb)",
        "[x](#there)",
        "`02_analyze.ipynb`",
        '<a href="report.html">',
    ):
        assert leading(text) == text and notebook_links.of_source(text) == text
