"""What notebook 02 shows: generated text stays text, browsing has a parameter twin, gaps are seen."""

import nbformat
import pandas as pd
import papermill
import pytest
from made_examples import make
from synthembed import profile
from synthembed.corpus import analysis
from synthembed.generation import two_steps
from synthembed.profile.taxonomy import FAMILIES
from synthembed.report import figures
from synthembed.widgets import example_browser

ATTACK = "<script>alert('x')</script><img src=x onerror=alert(1)>"


@pytest.fixture
def frame():
    return analysis.frame(
        [make(1, ATTACK, ATTACK), make(2, "bonjour", "salut", language="fr"), make(3, "a", "b", family="sts")]
    )


def test_generated_markup_stays_text(frame):
    for shown in (
        example_browser.table(frame),
        example_browser.browse(frame).children[1].value,
        frame._repr_html_(),
    ):
        assert "&lt;script&gt;" in shown and "<script" not in shown and "<img" not in shown
    assert "&lt;b&gt;" in example_browser.table(frame.rename(columns={"query": "<b>"}))


def test_browsing_by_controls_and_by_arguments_shows_the_same(frame):
    by_arguments = example_browser.browse(frame, family="sts", rows=2)
    by_hand = example_browser.browse(frame)
    family, _, rows = by_hand.children[0].children
    family.value, rows.value = "sts", 2
    assert by_hand.children[1].value == by_arguments.children[1].value
    assert "1 examples" in by_hand.children[1].value and "bonjour" not in by_hand.children[1].value
    french = example_browser.browse(frame, language="French").children[1].value
    assert "bonjour" in french and "script" not in french


def test_coverage_names_values_that_were_never_asked_for(tmp_path):
    p = profile.load("smoke")
    two_steps.generate(p, tmp_path)
    items = two_steps.read_items(tmp_path)
    found = analysis.coverage(items, p.generate.placeholders)
    examples = [item for item in items.values() if item.step == "example"]
    words = found[(found.family == "short-long") & (found.placeholder == "num_words")]
    assert list(words["value"]) == ["50", "100"]
    assert words["requests"].sum() == sum(item.family == "short-long" for item in examples)
    more = analysis.coverage(items, p.generate.placeholders | {"short-long": {"num_words": [50, 100, 9000]}})
    assert list(more[more.value == "9000"]["requests"]) == [0]


def test_one_sample_of_each_family_and_always_the_same():
    found = [make(n, f"q{n}", "p", family=f) for n, f in enumerate(FAMILIES * 3)]
    shown = analysis.samples(found)
    assert list(shown["family"]) == list(FAMILIES) and shown.equals(analysis.samples(found[::-1]))


def test_the_funnel_is_drawn_with_its_numbers(tmp_path):
    figure = figures.drop_funnel([("replies", 1200), ("valid", 1100), ("without: exact duplicate", 1100)])
    texts = [t.get_text().strip() for t in figure.axes[0].texts]
    assert texts == ["1,200", "1,100  (−100)", "1,100"]
    figures.save(figure, tmp_path, "drop_funnel")
    assert {p.suffix for p in tmp_path.iterdir()} == {".png", ".svg"}


def test_a_missing_text_is_an_empty_cell():
    frame = pd.DataFrame({"query": ["q", "r"], "negative": [None, "n"]}).fillna(float("nan"))
    assert "nan" not in example_browser.table(frame) and "<td" in example_browser.table(frame)


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
