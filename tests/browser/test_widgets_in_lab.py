"""Explorers of notebooks 04 and 06 in JupyterLab: what is typed or moved reaches the kernel, and its answer the page."""

import lab
import pytest

pytestmark = pytest.mark.skipif(bool(lab.missing()), reason=lab.missing())

CELLS = {
    "playground": """
import numpy as np
from synthembed.widgets.similarities import neighbours, playground
def letters(texts, instruction):
    counts = np.array([[1.0 + (instruction + t).count(c) for c in "abcdefghij"] for t in texts])
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)
playground({"letters": lambda: letters}, "bad cab", ["a cab", "jig"], "", {"letters": [0.5, 0.25]})""",
    "neighbours": """
neighbours(["one", "two"], ["x", "y"], {"base": [[[1, 0.9]], [[0, 0.8]]]})""",
    "passkeys": """
from types import SimpleNamespace
from synthembed.widgets.passkey_viewer import passkeys
text = "Before. Ada Abara's pass key is 7. Keep it in mind. " + "After all. " * 9
data = SimpleNamespace(length=64, queries=["What is the pass key of Ada Abara?"], answers=[0], documents=[text])
passkeys([data], lambda text: len(text.split()), 2, 64)""",
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    root, errors = tmp_path_factory.mktemp("lab"), []
    lab.write(root / "widgets.ipynb", list(CELLS.values()))
    with lab.lab(root) as address, lab.page(address.format("widgets.ipynb"), errors) as page:
        lab.run_all(page)
        page.errors = errors
        yield page


def output(page, name: str):
    """What a cell shows; scrolled to, as the Lab draws what is in sight."""
    found = page.locator(".jp-CodeCell").nth(list(CELLS).index(name))
    found.scroll_into_view_if_needed()
    shown = found.locator(".jp-OutputArea")
    shown.locator(".widget-box").first.wait_for()
    return shown


def test_a_query_that_is_typed_is_measured(opened):
    place = output(opened, "playground")
    place.get_by_text("0.500").first.wait_for()
    query = place.locator("input[type=text]").first
    query.fill("jig")
    query.press("Enter")
    place.get_by_text("1.000").first.wait_for()  # the same letters as the second document
    assert place.get_by_text("0.500").count() == 0


def test_a_slider_chooses_another_text_and_its_neighbours(opened):
    place = output(opened, "neighbours")
    place.get_by_text("y, 0.90").first.wait_for()
    place.locator(".noUi-handle").first.focus()
    opened.keyboard.press("ArrowRight")
    place.get_by_text("x, 0.80").first.wait_for()


def test_a_window_is_made_narrower(opened):
    place = output(opened, "passkeys")
    place.get_by_text("a single layer sees it").first.wait_for()
    place.locator(".noUi-handle").last.focus()
    opened.keyboard.press("Home")
    place.get_by_text("This model has too few").first.wait_for()


def test_nothing_went_wrong_in_the_console(opened):
    assert opened.errors == []
