"""Every explorer of the notebooks in JupyterLab: what is typed, chosen or moved reaches the kernel, and its answer the
page; no error in the console."""

import lab
import pytest

pytestmark = pytest.mark.skipif(bool(lab.missing()), reason=lab.missing())

CELLS = {
    "tokens": """
from synthembed import widgets
widgets.tokens(lambda text: ["<s>", *text.split(), "</s>"], "why is it so", "last", True)""",
    "batch": """
import numpy as np
cosines = np.linspace(-1, 1, 64).reshape(8, 8)
texts = [f"text {n}" for n in range(8)]
widgets.batch(cosines, texts, texts, 0.1, 8, 0)""",
    "browse": """
import pandas as pd
frame = pd.DataFrame({"family": ["sts", "bitext"], "language": ["English", "French"], "query": ["word " * 60, "mot"],
                      "positive": ["p", "p"], "negative": ["n", "n"], "outcome": ["kept", "near-duplicate"]})
widgets.browse(frame)""",
    "prompts": """
import json
from synthembed.generation import parsing
from synthembed.generation.items import Item, render, schema_of
items = [Item("example", 5, "short-short", "a task"), Item("example", 6, "short-short", "ein Auftrag", "de")]
good = json.dumps({"input": "i", "positive_document": "p"})
faults = lambda text, item: parsing.faults(text, schema_of(item))
widgets.prompts(items, render, lambda item: good, faults, "short-short", "any")""",
    "playground": """
import numpy as np
from synthembed.widgets.similarities import neighbours, playground
def letters(texts, instructions):
    read = [told + text for told, text in zip(instructions, texts)]
    counts = np.array([[1.0 + text.count(c) for c in "abcdefghij"] for text in read])
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
    lab.write(root / "explorers.ipynb", list(CELLS.values()))
    with lab.lab(root) as address, lab.page(address.format("explorers.ipynb"), errors) as page:
        assert lab.run_all(page) == []
        page.errors = errors
        yield page


def output(page, name: str):
    return lab.output(page, list(CELLS).index(name))


def shows(place, text: str) -> None:
    place.get_by_text(text).first.wait_for()


def test_taking_eos_away_is_seen(opened):
    place = output(opened, "tokens")
    shows(place, "6 tokens for 4 words")
    place.get_by_label("eos is there").click()
    shows(place, "5 tokens for 4 words")


def test_a_smaller_batch_is_seen(opened):
    place = output(opened, "batch")
    shows(place, "of 7 negatives")
    place.locator(".noUi-handle").nth(1).focus()
    opened.keyboard.press("ArrowLeft")
    shows(place, "of 3 negatives")


def test_a_filter_is_chosen_and_a_text_unfolded(opened):
    place = output(opened, "browse")
    shows(place, "1 example")
    place.locator("summary").first.click()
    assert place.locator("details[open]").count() == 1
    place.locator("select").nth(2).select_option("dropped")
    place.locator("td", has_text="near-duplicate").wait_for()


def test_a_reply_is_edited_and_its_schema_speaks(opened):
    place = output(opened, "prompts")
    shows(place, "The reply is what its schema asks for.")
    place.locator("textarea").fill('{"input": "i"}')
    shows(place, "positive_document: Field required")
    place.locator("select").nth(1).select_option("German")
    shows(place, "item 6")


def test_a_query_that_is_typed_is_measured(opened):
    place = output(opened, "playground")
    shows(place, "0.500")
    query = place.locator("input[type=text]").first
    query.fill("jig")
    query.press("Enter")
    shows(place, "1.000")  # the same letters as the second document
    assert place.get_by_text("0.500").count() == 0


def test_a_slider_chooses_another_text_and_its_neighbours(opened):
    place = output(opened, "neighbours")
    shows(place, "y, 0.90")
    place.locator(".noUi-handle").first.focus()
    opened.keyboard.press("ArrowRight")
    shows(place, "x, 0.80")


def test_a_window_is_made_narrower(opened):
    place = output(opened, "passkeys")
    shows(place, "a single layer sees it")
    place.locator(".noUi-handle").last.focus()
    opened.keyboard.press("Home")
    shows(place, "This model has too few")


def test_nothing_went_wrong_in_the_console(opened):
    assert opened.errors == []
