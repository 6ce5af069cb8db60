"""Browsing examples: generated text stays text, and controls have a parameter twin."""

import pandas as pd
import pytest
from made_examples import make
from synthembed.corpus import analysis
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


def test_a_missing_text_is_an_empty_cell():
    frame = pd.DataFrame({"query": ["q", "r"], "negative": [None, "n"]}).fillna(float("nan"))
    assert "nan" not in example_browser.table(frame) and "<td" in example_browser.table(frame)


def test_generated_text_stays_text_in_the_browser_of_examples():
    bad = "<script>alert(1)</script>"
    frame = pd.DataFrame([{"family": "sts", "language": "English", "query": bad}])
    shown = example_browser.browse(frame, family="sts").children[1].value
    assert bad not in shown + example_browser.table(frame) and "&lt;script&gt;" in shown
